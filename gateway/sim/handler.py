"""From an HTTP request to its reply: authentication, paths, errors, faults. The endpoints' contents are elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aiohttp import web

from gateway.sim import information
from gateway.sim.bodies import (
    ChatBody,
    CompletionBody,
    EmbeddingsBody,
    LoraBody,
    LoraName,
    MessagesBody,
    ResponsesBody,
    TokenizeBody,
    read_json,
    validate,
)
from gateway.sim.chat import draft_chat
from gateway.sim.completions import draft_completion
from gateway.sim.control import control
from gateway.sim.embeddings import draft_embeddings
from gateway.sim.engine import Engine
from gateway.sim.errors import DetailError, SimError
from gateway.sim.experts import Roster, Service
from gateway.sim.fault_kinds import apply_fault
from gateway.sim.faults import Fault, parse_fault
from gateway.sim.messages import draft_messages
from gateway.sim.metrics import exposition
from gateway.sim.plans import Draft
from gateway.sim.replies import BARE_HEADERS, JSON_HEADERS, Reply
from gateway.sim.responses import draft_responses
from gateway.sim.wire import Pace, Wire

if TYPE_CHECKING:
    from gateway.sim.server import SimServer

FAULT_HEADER = "x-sim-fault"
REMEMBERED_DRAFTS = 256
REMEMBERED_BYTES = 16_384

Drafter = Callable[[Any, Roster], Draft]
GENERATING: Mapping[str, tuple[Service, Drafter]] = MappingProxyType(
    {
        "/v1/chat/completions": ("chat", lambda v, r: draft_chat(validate(ChatBody, v), r)),
        "/v1/completions": ("completions", lambda v, r: draft_completion(validate(CompletionBody, v), r)),
        "/v1/responses": ("responses", lambda v, r: draft_responses(v, validate(ResponsesBody, v), r)),
        "/v1/messages": ("messages", lambda v, r: draft_messages(validate(MessagesBody, v), r)),
        "/v1/embeddings": ("embeddings", lambda v, r: draft_embeddings(validate(EmbeddingsBody, v), r)),
    }
)
POSTED: Mapping[str, Callable[[Any, Roster], Reply]] = MappingProxyType(
    {
        "/tokenize": lambda v, r: information.tokenize(validate(TokenizeBody, v), r),
        "/v1/messages/count_tokens": information.count_tokens,
        "/v1/load_lora_adapter": lambda v, r: information.load_adapter(validate(LoraBody, v), r),
        "/v1/unload_lora_adapter": lambda v, r: information.unload_adapter(validate(LoraName, v), r),
    }
)
FETCHED: Mapping[str, Callable[[Roster], Reply]] = MappingProxyType(
    {
        "/v1/models": information.models,
        "/version": lambda _: information.version(),
        "/health": lambda _: Reply(headers=BARE_HEADERS),
        "/ping": lambda _: Reply(headers=BARE_HEADERS),
    }
)


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request as it came in; header names keep the client's spelling, look-ups ignore case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Handler:
    """Answers the requests of one server."""

    def __init__(self, server: SimServer, engines: Mapping[str, Engine], tell: Callable[[], None]) -> None:
        self._server = server
        self._engines = engines
        self._tell = tell
        self._drafts: dict[tuple[str, str, bytes], tuple[Any, Draft]] = {}

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; cancelled when its client leaves."""
        if request.headers.get("expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        raw = await request.read()
        path = request.path
        if path.startswith("/sim/"):
            return _finished(control(self._server, request.method, path, raw))
        self._server.requests.append(ReceivedRequest(request.method, request.raw_path, request.headers, raw))
        self._tell()
        try:
            return await self._serve(request, path, raw)
        except SimError as error:
            messages = path == "/v1/messages" and not error.schema
            body = error.messages_body if messages else error.openai_body
            return _finished(Reply(body, error.status, JSON_HEADERS))
        except DetailError as error:
            headers = {**JSON_HEADERS, "allow": error.allow} if error.allow else JSON_HEADERS
            return _finished(Reply(error.body, error.status, headers))

    async def _serve(self, request: web.BaseRequest, path: str, raw: bytes) -> web.StreamResponse:
        keys = self._server.roster.api_keys
        if keys and path.startswith(("/v1", "/v2")) and not _authorised(request, keys):
            return _finished(Reply(b'{"error":"Unauthorized"}', 401, JSON_HEADERS))
        generating = GENERATING.get(path)
        if generating is not None and generating[0] in self._server.roster.services:
            return await self._generate(request, raw, *generating)
        reply = self._other(request, path, raw)
        fault = self._fault(request, {}, generating=False)
        return await Wire(request, Pace(0.0)).send(apply_fault(fault, reply) if fault else reply)

    async def _generate(
        self, request: web.BaseRequest, raw: bytes, service: Service, drafter: Drafter
    ) -> web.StreamResponse:
        if request.method != "POST":
            raise DetailError(405, "Method Not Allowed", allow="POST")
        value, draft = self._draft(request, raw, drafter)
        if service == "chat" and self._server.lines:
            draft = drafter({**value, "sim_answer": self._server.lines.popleft()}, self._server.roster)
        fault = self._fault(request, value, generating=True)
        plan = draft(request.headers.get("x-request-id"))
        engine = self._engines[plan.served.expert.model]
        async with engine.admit(plan) as turn:
            reply = apply_fault(fault, plan.reply) if fault else plan.reply
            wire = Wire(request, Pace.of(plan.served.expert, turn.started_s))

            def cut() -> None:
                turn.cut = True

            wire.cut = cut
            wire.first_sent = turn.first_token_sent
            return await wire.send(reply)

    def _draft(self, request: web.BaseRequest, raw: bytes, drafter: Drafter) -> tuple[Any, Draft]:
        """Read the body, or remember it: repeated requests (benchmarks) cost a third less."""
        content_type = request.headers.get("content-type", "")
        key = (request.path, content_type, raw)
        known = self._drafts.get(key)
        if known is None:
            value = read_json(raw, content_type)
            known = value, drafter(value, self._server.roster)
            if len(raw) <= REMEMBERED_BYTES:
                if len(self._drafts) >= REMEMBERED_DRAFTS:
                    self._drafts.clear()
                self._drafts[key] = known
        return known

    def _fault(self, request: web.BaseRequest, value: Any, *, generating: bool) -> Fault | None:
        """The fault the request asks for, else the one set for it."""
        fields = value if isinstance(value, dict) else {}
        wanted = request.headers.get(FAULT_HEADER) or fields.get("sim_fault")
        if isinstance(wanted, str):
            return parse_fault(wanted)
        if not self._server.fault_book.rules:
            return None
        return self._server.fault_book.take(request.path, fields.get("model"), generating=generating)

    def _other(self, request: web.BaseRequest, path: str, raw: bytes) -> Reply:
        roster = self._server.roster
        if path == "/metrics" and request.method == "GET":
            body, content_type = exposition(tuple(self._engines.values()))
            return Reply(body, headers={**BARE_HEADERS, "content-type": content_type})
        if path in FETCHED:
            if request.method == "GET" or (path == "/ping" and request.method == "POST"):
                return FETCHED[path](roster)
            raise DetailError(405, "Method Not Allowed", allow="GET")
        if path in POSTED:
            if request.method != "POST":
                raise DetailError(405, "Method Not Allowed", allow="POST")
            # Loading an adapter changes what the same request gets.
            self._drafts.clear()
            return POSTED[path](read_json(raw, request.headers.get("content-type", "")), roster)
        if path.startswith("/v1/responses/") and "responses" in roster.services:
            identity = path.removeprefix("/v1/responses/")
            text = f"Response with id '{identity}' not found."
            raise SimError(404, text, "invalid_request_error", "response_id")
        if path.endswith("/") and path[:-1] in {*FETCHED, *POSTED, *GENERATING}:
            location = f"http://{request.headers.get('host', '')}{path[:-1]}"
            return Reply(b"", 307, {**BARE_HEADERS, "location": location})
        raise DetailError(404, "Not Found")


def _authorised(request: web.BaseRequest, keys: frozenset[str]) -> bool:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and key in keys


def _finished(reply: Reply) -> web.Response:
    """A whole reply without any waiting."""
    body = reply.body if isinstance(reply.body, bytes) else b""
    return web.Response(body=body, status=reply.status, headers=reply.headers)
