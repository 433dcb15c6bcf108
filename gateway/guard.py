"""The outermost ASGI layer: refuses what no endpoint should see, checks keys, names the request. Reads no body.

uvicorn's httptools parser already refuses CL+TE, bare LF and folded headers; what it lets through and should not
(two Host headers, absolute-form and ambiguous paths, floods of headers) is refused here (OPERATIONS 1.3).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from gateway.errors import Forbidden, HeadersTooLarge, InvalidRequest, PointsmanError, Unauthenticated
from gateway.grants import is_loopback, needs_keys
from gateway.keyring import Keyring
from gateway.settings import Settings
from gateway.types import Endpoint, Grant

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

EVERYBODY = Grant()
ENDPOINTS = {endpoint.path: endpoint for endpoint in Endpoint}
OnRefusal = Callable[[Scope, PointsmanError], None]

MAXIMUM_HEADERS = 100
MAXIMUM_HEADER_BYTES = 32 * 1024
# Ids end up in logs, headers and vLLM's own ids, which it does not escape.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.-]{1,128}")
_PORT = re.compile(rb":[0-9]*$")
_ADDRESS = re.compile(rb"[0-9]+(\.[0-9]+){3}|\[[0-9A-Fa-f:.]+\]")
_HOST = re.compile(rb"[A-Za-z0-9_.:\[\]-]{1,255}")


class Guard:
    """Wraps the application.

    Args:
        app: what comes behind.
        keys: what each of the settings' keys may do, by the key's digest; empty means that everybody may come in,
            and may do all, unless a store of keys locks the `keyring`.
        on_refusal: told of every request that is answered here, so that it gets its record.

    Attributes:
        keyring: all keys that let in; those of a store are put there by `keyring.KeyWatch`.
    """

    def __init__(
        self, app: App, keys: Mapping[bytes, Grant], on_refusal: Callable[[Scope, PointsmanError], None]
    ) -> None:
        self._app = app
        self._on_refusal = on_refusal
        self._setting = ""
        self._names: frozenset[bytes] | None = None
        self._below: tuple[bytes, ...] = ()
        self.keyring = Keyring(keys)

    def change_keys(self, keys: Mapping[bytes, Grant]) -> None:
        """Let these keys of the settings in from now on, and no others of theirs."""
        self.keyring.change_named(keys)

    def change_hosts(self, names: Iterable[str] | None, setting: str = "server.hosts") -> None:
        """Answer to these names in the Host header, `*.example.com` for all below one, and to addresses; None: to all.

        `setting` is where they come from, for who is refused.

        A page of a foreign site can let its own name point at our address (DNS rebinding) and then read what we answer
        to it. It cannot do so with an address or `localhost`, which need no listing therefore.
        """
        self._setting = setting
        if names is None or "*" in (names := tuple(name.lower() for name in names)):
            self._names, self._below = None, ()
            return
        self._names = frozenset(name.encode() for name in names)
        self._below = tuple(name[1:].encode() for name in (*names, "*.localhost") if name.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request and pass it on, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope["request_id"] = _request_id(scope)
        scope["grant"] = EVERYBODY
        try:
            self._check(scope)
        except PointsmanError as error:
            try:
                await send_error(send, error, request_id, path=scope["path"])
            finally:
                self._on_refusal(scope, error)
            return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        hosts, size, odd = [], 0, False
        for name, value in headers:
            size += len(name) + len(value)
            odd = odd or b"_" in name or name == b"transfer-encoding"
            if name == b"host":
                hosts.append(value)
        if len(headers) > MAXIMUM_HEADERS or size > MAXIMUM_HEADER_BYTES:
            raise HeadersTooLarge("The request has too many or too long headers.")
        if len(hosts) != 1 and (hosts or scope["http_version"] != "1.0"):
            raise InvalidRequest("The request must have exactly one Host header.")
        if hosts and not _HOST.fullmatch(hosts[0]):
            raise InvalidRequest("The Host header is not valid.")
        if self._names is not None and hosts and not self._is_ours(hosts[0]):
            raise InvalidRequest(f"The Host header names none of `{self._setting}`.", code="unknown_host")
        if odd:
            _check_odd_names({name for name, _ in headers}, scope["http_version"])
        if not scope.get("target", b"/").startswith(b"/"):
            raise InvalidRequest("The request target must be a path.")
        _check_path(scope["raw_path"], scope["path"])
        if self.keyring.required and not scope["path"].startswith("/health/"):
            grant = scope["grant"] = self._grant(headers)
            _check_endpoint(ENDPOINTS.get(scope["path"]), grant.endpoints)

    def _is_ours(self, host: bytes) -> bool:
        name = _PORT.sub(b"", host).rstrip(b".").lower()
        if name == b"localhost" or _ADDRESS.fullmatch(name) or name in (self._names or ()):
            return True
        return name.endswith(self._below)

    def _grant(self, headers: list[tuple[bytes, bytes]]) -> Grant:
        """Return what the request's key may do.

        Raises:
            Unauthenticated: no key, or a wrong one; which, is not said.
        """
        given = b""
        for name, value in headers:
            if name == b"authorization" and value[:7].lower() == b"bearer ":
                given = value[7:].strip()
            elif name == b"x-api-key":  # what clients of /v1/messages send
                given = given or value
        found = self.keyring.find(given)
        if found is None:
            raise Unauthenticated(
                "Missing or unknown API key. Send it as `Authorization: Bearer KEY`.",
                headers=(("www-authenticate", "Bearer"),),
            )
        return found


def hosts_of(settings: Settings) -> tuple[str, ...] | None:
    """Return what a configuration means for `Guard.change_hosts`.

    Left out, names do not matter where a foreign page would need a key. It needs none on loopback, where the network
    keeps everybody out but the browsers of this machine.
    """
    server = settings.server
    if server.hosts is not None:
        return server.hosts
    return () if not needs_keys(settings) and is_loopback(server.host) else None


async def send_error(send: Send, error: PointsmanError, request_id: str, *, path: str = "") -> None:
    """Answer with an error in OpenAI's shape (with Anthropic's outer type on `/v1/messages`)."""
    body = error.body(anthropic=path.startswith("/v1/messages"))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
        *((name.encode(), value.encode()) for name, value in error.headers),
    ]
    # 499 is a word for records; it reaches nobody, but the server wants a real status.
    status = error.status if error.status != 499 else 400
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return secrets.token_hex(16)


def _check_odd_names(names: set[bytes], http_version: str) -> None:
    # Proxies and CGI take `x_a` and `x-a` for one header, so who sends both means to say two things.
    if any(b"_" in name and name.replace(b"_", b"-") in names for name in names):
        raise InvalidRequest("The request has a header twice, once with an underscore.")
    if b"transfer-encoding" in names and http_version == "1.0":
        raise InvalidRequest("HTTP/1.0 has no Transfer-Encoding.")


def _check_endpoint(endpoint: Endpoint | None, allowed: frozenset[str] | None) -> None:
    if endpoint is not None and allowed is not None and endpoint not in allowed:
        raise Forbidden("This API key may not use this endpoint.", code="endpoint_forbidden")


def _check_path(raw: bytes, path: str) -> None:
    # An encoded slash is how a path gets by a proxy's rules; only model names have real ones.
    if b"%2f" in raw.lower() and not raw.startswith(b"/v1/models/"):
        raise InvalidRequest("The request path has an encoded slash.")
    if not raw.startswith(b"/") or raw.startswith(b"//") or "//" in path or "/../" in path + "/" or "\\" in path:
        raise InvalidRequest("The request path is not acceptable.")
