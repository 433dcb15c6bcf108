"""The outermost layer of the admin application: so many at once, and headers that every answer has. Knows no route."""

from __future__ import annotations

from collections import Counter
from urllib.parse import parse_qsl

from gateway.errors import InvalidRequest, Overloaded
from gateway.guard import App, Guard, Receive, Scope, Send, send_error

AT_ONCE = 16
MOST_QUERY_FIELDS = 50
PATH = "/admin/api"
STREAM = b"text/event-stream"

# An answer is data for a script that holds a token: no page may show, embed, cache or guess anything of it. What an
# answer says of itself goes before: pages have a policy of their own, scripts and styles may be cached.
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Front:
    """Wraps the application, with the data plane's guard between them for heads, paths and the Host header.

    Args:
        app: what comes behind.
        hosts: names in the Host header besides addresses and `localhost`.
        base: path that a proxy puts before ours; it is taken off where it is there.
        at_once: how many requests may be inside; one more is refused, so that the data plane is never starved. Streams
            are not counted from their first byte on: whoever makes one counts it.
    """

    def __init__(self, app: App, hosts: tuple[str, ...], base: str = "", at_once: int = AT_ONCE) -> None:
        self._guard = Guard(self._count, {}, lambda scope, error: None)
        self._guard.change_hosts(hosts, "admin.hosts")
        self._app = app
        self._base = base
        self._at_once = at_once
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request."""
        if scope["type"] == "http":
            await self._guard(scope, receive, _with_headers(scope, send))

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._inside >= self._at_once:
            error = Overloaded("Too many requests to the admin API at once.", headers=(("retry-after", "1"),))
            await send_error(send, error, scope["request_id"])
            return
        if has_doubles(scope["query_string"]):
            await send_error(send, InvalidRequest("A query field is given twice."), scope["request_id"])
            return
        place = _Place(self)
        try:
            await self._app(_below(self._base, scope), receive, place.leaving_at_a_stream(send))
        finally:
            place.leave()

    def enter(self) -> None:
        """Count one more inside."""
        self._inside += 1

    def leave(self) -> None:
        """Count one less inside."""
        self._inside -= 1


class _Place:
    """One request's place inside; given back once."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._is_inside = True
        front.enter()

    def leave(self) -> None:
        if self._is_inside:
            self._is_inside = False
            self._front.leave()

    def leaving_at_a_stream(self, send: Send) -> Send:
        async def watching(message: Scope) -> None:
            if message["type"] == "http.response.start" and (b"content-type", STREAM) in message["headers"]:
                self.leave()
            await send(message)

        return watching


def _below(base: str, scope: Scope) -> Scope:
    path = scope["path"]
    if not base or not path.startswith(f"{base}/"):
        return scope
    return {**scope, "path": path[len(base) :], "raw_path": scope["raw_path"][len(base) :]}


def has_doubles(query: bytes) -> bool:
    """Tell whether a query has a field twice, or more fields than any route takes."""
    try:
        names = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MOST_QUERY_FIELDS)
    except ValueError:
        return True
    return any(count > 1 for count in Counter(name for name, _ in names).values())


def _with_headers(scope: Scope, send: Send) -> Send:
    async def with_headers(message: Scope) -> None:
        if message["type"] == "http.response.start":
            given = message["headers"]
            names = {name for name, _ in given}
            ours = ((b"x-request-id", scope["request_id"].encode()), *HEADERS)
            message["headers"] = [*given, *(header for header in ours if header[0] not in names)]
        await send(message)

    return with_headers
