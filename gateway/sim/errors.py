"""The error answers of vLLM, shape by shape. It raises and formats them; it never decides when one is due."""

from __future__ import annotations

from typing import Any

import orjson

OVERLOADED = (
    "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
)
SHOWN_ERRORS = 10


class SimError(Exception):
    """An answer in vLLM's `{"error": {...}}` shape.

    Args:
        status: HTTP status, also the body's `code`.
        message: For the client.
        kind: The body's `type`.
        param: The body's `param`.
        schema: Found while validating the body, hence in OpenAI's shape on `/v1/messages` too.
    """

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = "BadRequestError",
        param: str | None = None,
        *,
        schema: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.schema = schema

    @property
    def openai_body(self) -> bytes:
        """The body on every endpoint but `/v1/messages`."""
        return orjson.dumps({"error": self.openai_object})

    @property
    def openai_object(self) -> dict[str, Any]:
        """The value of `error`, also sent inside broken streams."""
        return {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}

    @property
    def messages_body(self) -> bytes:
        """The body on `/v1/messages`."""
        return orjson.dumps({"type": "error", "error": {"type": self.kind, "message": self.message}})


class DetailError(Exception):
    """An answer of vLLM's web framework: `{"detail": ...}`."""

    def __init__(self, status: int, detail: str, *, allow: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.allow = allow

    @property
    def body(self) -> bytes:
        """The JSON body."""
        return orjson.dumps({"detail": self.detail})


def bad_value(message: str, param: str, value: object = None) -> SimError:
    """A 400 of vLLM's own validation, which repeats parameter and value at the end of the message."""
    shown = f"parameter={param}" if value is None else f"parameter={param}, value={value}"
    return SimError(400, f"{message} ({shown})", param=param)


def unknown_model(name: str, served_names: tuple[str, ...]) -> SimError:
    """The 404 for a model name nobody serves."""
    aliases = f" Valid aliases: {', '.join(served_names)}." if len(served_names) > 1 else ""
    return SimError(404, f"The model `{name}` does not exist.{aliases}", "NotFoundError", "model")


def overloaded() -> SimError:
    """The 503 of a full queue."""
    return SimError(503, OVERLOADED, "Service Unavailable")


def schema_error(entries: list[dict[str, Any]]) -> SimError:
    """The 400 of body validation: entries with type, loc (dotted), msg, input and perhaps ctx."""
    count = f"{len(entries)} validation error{'s' if len(entries) > 1 else ''}:"
    lines = [count, *(f"  {entry!r}" for entry in entries[:SHOWN_ERRORS])]
    if len(entries) > SHOWN_ERRORS:
        lines.append(f"  ...and {len(entries) - SHOWN_ERRORS} more errors")
    return SimError(400, "\n".join(lines), "Bad Request", entries[0]["loc"], schema=True)


def summarise(value: object) -> str:
    """How vLLM shows an offending input: containers by size only."""
    if isinstance(value, dict):
        return f"<dict of {len(value)} items>"
    if isinstance(value, list):
        return f"<list of {len(value)} items>"
    return str(value)
