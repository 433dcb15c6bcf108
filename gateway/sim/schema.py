"""A simple valid value for a JSON Schema: enough for tool arguments and structured output, not a full generator."""

from __future__ import annotations

import math
from typing import Any

DEPTH = 12
"""Recursive schemas stop here."""


def example(schema: Any, root: Any = None, *, depth: int = DEPTH, name: str = "value") -> Any:
    """Build a value that satisfies the common keywords of `schema`.

    Args:
        schema: A JSON Schema, or True.
        root: The document `$ref`s point into; `schema` itself when left out.
        depth: How many more levels may be entered.
        name: What a free string says.

    Returns:
        A JSON value. Objects have their required properties, and all declared ones where none is required.
    """
    if not isinstance(schema, dict):
        return name
    root = schema if root is None else root
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("enum", "examples"):
        if schema.get(key):
            return schema[key][0]
    inner = _referred(schema, root)
    if inner is not None:
        return example(inner, root, depth=depth - 1, name=name) if depth > 0 else None
    return _by_type(schema, root, depth, name)


def _referred(schema: dict[str, Any], root: Any) -> Any:
    """The schema that stands for this one: a local `$ref` or the first alternative."""
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        target: Any = root
        for part in reference[2:].split("/"):
            target = target.get(part) if isinstance(target, dict) else None
        return target if target is not None else {}
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return schema[key][0]
    if schema.get("allOf"):
        merged: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            merged.update(part)
        return merged
    return None


def _by_type(schema: dict[str, Any], root: Any, depth: int, name: str) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    match kind:
        case "object":
            return _mapping(schema, root, depth)
        case "array":
            count = schema.get("minItems", 1) if depth > 0 else 0
            return [example(schema.get("items"), root, depth=depth - 1, name=name) for _ in range(count)]
        case "integer" | "number":
            return _number(schema, whole=kind == "integer")
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _text(schema, name)


def _mapping(schema: dict[str, Any], root: Any, depth: int) -> dict[str, Any]:
    properties = schema.get("properties", {})
    names = schema.get("required") or (list(properties) if depth > 0 else [])
    return {name: example(properties.get(name), root, depth=depth - 1, name=name) for name in names}


def _number(schema: dict[str, Any], *, whole: bool) -> float:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None and "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + (1 if whole else 0.5)
    value = low if low is not None else (high if high is not None and high < 1 else 1)
    multiple = schema.get("multipleOf")
    if multiple:
        value = math.ceil(value / multiple) * multiple
    return int(value) if whole else float(value)


def _text(schema: dict[str, Any], name: str) -> str:
    formats = {"date": "2026-01-01", "date-time": "2026-01-01T00:00:00Z", "email": "sim@example.org"}
    text = formats.get(schema.get("format", ""), f"simulated {name}")
    text = text.ljust(schema.get("minLength", 0), ".")
    return text[: schema["maxLength"]] if "maxLength" in schema else text
