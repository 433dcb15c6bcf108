"""Reads `experts.yaml` and says what is wrong with it by file, line and key. Builds settings, nothing more."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from gateway.settings import Settings

MAXIMUM_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration: 1-based line (0: the file as a whole), dotted key, message."""

    line: int
    key: str
    message: str


class ConfigError(ValueError):
    """The configuration cannot be used; the last good one stays.

    Attributes:
        problems: everything wrong with it, in file order.
    """

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.source = source
        self.problems = problems
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """Return one line per problem, as compilers write them: `file:line: key: message`."""
        return [
            ": ".join(part for part in (f"{self.source}:{p.line}" if p.line else self.source, p.key, p.message) if part)
            for p in self.problems
        ]


class _Loader(yaml.SafeLoader):
    """Safe YAML without anchors (an alias bomb is small on disk and huge in memory) and without double keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # types-PyYAML leaves the parser untyped
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.composer.ComposerError(None, None, "anchors and aliases are not supported", event.start_mark)
        return super().compose_node(parent, index)


def load(path: Path) -> Settings:
    """Read and check one configuration file.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or breaks a rule; all broken rules are listed.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(str(path), [Problem(0, "", error.strerror or "cannot be read")]) from error
    return parse(text, str(path)).anchored(path.parent)


def parse(text: bytes | str, source: str = "experts.yaml") -> Settings:
    """Check a configuration given as text; see `load`."""
    if len(text) > MAXIMUM_BYTES:
        raise ConfigError(source, [Problem(0, "", f"larger than {MAXIMUM_BYTES} bytes")])
    root, content = _read_yaml(text, source)
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        details = error.errors()
        problems = [_problem(root, detail) for detail in details if not _follows(detail, details)]
        raise ConfigError(source, sorted(problems, key=lambda p: p.line)) from error


def _read_yaml(text: bytes | str, source: str) -> tuple[yaml.Node | None, Any]:
    try:
        loader = _Loader(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(source, [Problem(0, "", f"is not UTF-8 text: {error}")]) from error
    try:
        root = loader.get_single_node()
        if root is None:
            return None, {}
        _reject_double_keys(root, source)
        return root, loader.construct_document(root)
    except ConfigError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        raise ConfigError(source, [Problem(line, "", error.problem or "is not valid YAML")]) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(source, [Problem(0, "", f"is not valid YAML: {error}")]) from error
    finally:
        loader.dispose()


def _reject_double_keys(root: yaml.Node, source: str) -> None:
    problems = []
    pending: list[tuple[str, yaml.Node]] = [("", root)]
    while pending:
        path, node = pending.pop()
        if isinstance(node, yaml.SequenceNode):
            pending += [(f"{path}.{index}", child) for index, child in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            continue
        seen: set[str] = set()
        for key, child in node.value:
            name = f"{path}.{key.value}".lstrip(".")
            if str(key.value) in seen:
                problems.append(Problem(key.start_mark.line + 1, name, "is given twice"))
            seen.add(str(key.value))
            pending.append((name, child))
    if problems:
        raise ConfigError(source, problems)


def _problem(root: yaml.Node | None, detail: Any) -> Problem:
    path = [part for part in detail["loc"] if part != "[key]"]
    message = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        message = "unknown key" + _suggestion(path)
    elif detail["type"] == "missing":
        message = "is required"
    elif detail["type"] == "too_short":
        message = "must not be empty"
    return Problem(_line(root, path), ".".join(map(str, path)), message)


def _follows(detail: Any, details: list[Any]) -> bool:
    """Tell whether a list counts as empty only because its entries are wrong, which is said already."""
    place = detail["loc"]
    return detail["type"] == "too_short" and any(d["loc"][: len(place)] == place != d["loc"] for d in details)


def _line(root: yaml.Node | None, path: list[str | int]) -> int:
    """Return the line of the deepest part of `path` that stands in the file."""
    node, line = root, root.start_mark.line + 1 if root else 0
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, child) for key, child in node.value if key.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _suggestion(path: list[str | int]) -> str:
    model: type[BaseModel] | None = Settings
    inside_mapping = False
    for part in path[:-1]:
        if inside_mapping:
            inside_mapping = False  # the part is a name of the user's own, its model stands already
        elif model is not None:
            model, inside_mapping = _field_model(model, str(part))
    if model is None or inside_mapping:
        return ""
    close = difflib.get_close_matches(str(path[-1]), list(model.model_fields), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _field_model(model: type[BaseModel], name: str) -> tuple[type[BaseModel] | None, bool]:
    """Return the settings model that a key holds, and whether it holds a mapping of names to such models."""
    field = model.model_fields.get(name)
    annotation = field.annotation if field else None
    arguments = (annotation, *get_args(annotation))
    found = next((arg for arg in arguments if isinstance(arg, type) and issubclass(arg, BaseModel)), None)
    return found, get_origin(annotation) is dict


def dump(settings: Settings) -> str:
    """Write settings as YAML, defaults included; secrets are not part of settings."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, width=100)


def json_schema() -> str:
    """Return the JSON Schema of the file, for editors; `gateway/experts.schema.json` holds the same text."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}
    return json.dumps(schema, indent=2)
