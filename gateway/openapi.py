"""The API's documentation: describes the raw ASGI endpoints, which FastAPI cannot see into, and serves the page."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.staticfiles import StaticFiles

from gateway.openai import MAXIMUM_MODEL_CHARACTERS, ROLES
from gateway.types import Endpoint

_MESSAGES = [{"role": "user", "content": "What is 17 * 23?"}]
_EXAMPLES: dict[Endpoint, dict[str, Any]] = {
    Endpoint.CHAT: {"model": "auto", "messages": _MESSAGES},
    Endpoint.COMPLETIONS: {"model": "auto", "prompt": "17 * 23 ="},
    Endpoint.RESPONSES: {"model": "auto", "input": "What is 17 * 23?"},
    Endpoint.MESSAGES: {"model": "auto", "max_tokens": 64, "messages": _MESSAGES},
    Endpoint.EMBEDDINGS: {"model": "auto", "input": "a sentence"},
}
_PROPERTIES: dict[str, dict[str, Any]] = {
    "model": {"type": "string", "minLength": 1, "maxLength": MAXIMUM_MODEL_CHARACTERS},
    "messages": {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "required": ["role", "content"],
            "properties": {
                "role": {"enum": sorted(ROLES)},
                "content": {"type": ["string", "array", "null"], "items": {"type": "object"}},
            },
        },
    },
    "prompt": {"type": ["string", "array"], "minItems": 1},
    "input": {"type": ["string", "array"], "minItems": 1},
    "stream": {"type": ["boolean", "null"]},
    "max_tokens": {"type": ["integer", "null"], "minimum": 0},
}
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type"],  # ours have all four; an expert's own, which pass through, need not
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "integer", "null"]},
            },
        }
    },
}


_FAILURE = {"description": "An error in OpenAI's form.", "content": {"application/json": {"schema": _ERROR}}}


def describe_data_plane(app: FastAPI) -> None:
    """Add the data-plane endpoints to the application's OpenAPI document."""
    original = app.openapi

    def with_data_plane() -> dict[str, Any]:
        document = original()
        document["paths"] |= {endpoint.path: {"post": _operation(endpoint)} for endpoint in Endpoint}
        for operations in document["paths"].values():
            for operation in operations.values():
                # FastAPI writes of its own 422, which nobody here ever gets.
                operation["responses"].pop("422", None)
                operation["responses"].setdefault("default", _FAILURE)
        return document

    app.openapi = with_data_plane  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def serve_documentation(app: FastAPI) -> None:
    """Serve the documentation's page, whose scripts come from an installed package instead of a CDN.

    Of that package only the files are used: its own way of reading them is deprecated by Python.
    """
    files = Path(str(resources.files("fastapi_swagger") / "resources"))
    app.mount("/docs/files", StaticFiles(directory=files))

    @app.get("/docs", include_in_schema=False)
    async def documentation(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        return get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title=app.title,
            swagger_js_url=f"{root}/docs/files/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/docs/files/swagger-ui.css",
            swagger_favicon_url=f"{root}/docs/files/favicon-32x32.png",
        )

    @app.get("/", include_in_schema=False)
    async def front_door(request: Request) -> RedirectResponse:
        return RedirectResponse(request.url_for("documentation"))


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    example = _EXAMPLES[endpoint]
    body = {
        "type": "object",
        "required": list(example),
        "properties": {name: _PROPERTIES[name] for name in (*example, "stream")},
        "additionalProperties": True,
        "example": example,
    }
    return {
        "tags": ["inference"],
        "summary": f"Answer through the expert that routing chooses ({endpoint.value})",
        "description": "Fields beyond those named here go to the expert's vLLM server unchanged, and its answer "
        "comes back unchanged; `x-pointsman-*` headers tell who answered and why.",
        "operationId": endpoint.value,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {
                "description": "The expert's answer; a stream of server-sent events when `stream` is true.",
                "content": {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {}},
            },
            "default": _FAILURE,
        },
    }
