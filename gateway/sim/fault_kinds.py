"""What each fault does: a change of the reply, made of events and actions. It sends nothing itself.

A fault is a function named as in `NAME;key=value`; adding one is adding a function to `KINDS`. `events` counts the
server-sent events that still go out whole; without a stream, half of the body goes out before a cut or hang.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from itertools import islice
from types import MappingProxyType

import orjson

from gateway.sim.errors import OVERLOADED, SimError
from gateway.sim.faults import Fault
from gateway.sim.replies import DONE, EVENT_HEADERS, JSON_HEADERS, Action, Event, Reply

HTML = b"<!doctype html><html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>"
ENGINE_DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."
MEGABYTE = 1 << 20
ERROR_TYPES: Mapping[int, str] = MappingProxyType(
    {400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError", 503: "Service Unavailable"}
)

Kind = Callable[[Fault, Reply], Reply]


def apply_fault(fault: Fault, reply: Reply) -> Reply:
    """Change a reply as the fault says.

    Raises:
        SimError: no fault has that name.
    """
    kind = KINDS.get(fault.name)
    if kind is None:
        raise SimError(400, f"unknown sim fault {fault.name!r}; known: {', '.join(KINDS)}", param="sim_fault")
    return kind(fault, reply)


def _status(fault: Fault, _: Reply) -> Reply:
    """`status;code=503;retry_after=2` (seconds or an HTTP date; `retry_after_date=2`: that date, in 2 s)."""
    code = fault.count("code", 500)
    headers = dict(JSON_HEADERS)
    if "retry_after" in fault.parameters:
        headers["retry-after"] = fault.parameters["retry_after"]
    if "retry_after_date" in fault.parameters:
        due = datetime.now(UTC) + timedelta(seconds=fault.number("retry_after_date", 0))
        headers["retry-after"] = format_datetime(due, usegmt=True)
    phrase = HTTPStatus(code).phrase if code in set(HTTPStatus) else "Error"
    message = fault.parameters.get("message", OVERLOADED if code == HTTPStatus.SERVICE_UNAVAILABLE else phrase)
    return Reply(SimError(code, message, ERROR_TYPES.get(code, phrase)).openai_body, code, headers)


def _delay(fault: Fault, reply: Reply) -> Reply:
    """`delay;seconds=1`: wait before the headers, then answer."""
    return _delayed(reply, fault.number("seconds", 1.0))


def _delayed(reply: Reply, seconds: float) -> Reply:
    return Reply(reply.body, reply.status, reply.headers, reply.steps, hold_s=seconds)


def _hang(_: Fault, reply: Reply) -> Reply:
    """`hang`: nothing at all, not even headers."""
    return Reply((), reply.status, reply.headers, before="hang")


def _close_fin(_: Fault, reply: Reply) -> Reply:
    """`close_fin`: end the connection before the headers."""
    return Reply((), reply.status, reply.headers, before="fin")


def _close_rst(_: Fault, reply: Reply) -> Reply:
    """`close_rst`: reset the connection before the headers."""
    return Reply((), reply.status, reply.headers, before="rst")


def _then(action: Action, usage: str) -> Kind:
    def change(fault: Fault, reply: Reply) -> Reply:
        wanted = fault.count("events", 2)
        return _with_events(reply, [*_first(reply, wanted), Event(action=action, wait_s=fault.number("seconds", 0.0))])

    change.__doc__ = usage
    return change


def _headers_cut(fault: Fault, reply: Reply) -> Reply:
    """`headers_cut;how=rst`: headers, then the end (`fin` or `rst`, or `hang`) before the first body byte."""
    how: Action = {"rst": "rst", "hang": "hang"}.get(fault.parameters.get("how", "fin"), "fin")  # type: ignore[assignment]  # a literal by construction
    return _with_events(reply, [Event(action=how)])


def _first(reply: Reply, events: int) -> Iterator[Event]:
    """The first events of a stream, or half of a whole body."""
    if isinstance(reply.body, bytes):
        return iter([Event(reply.body[: len(reply.body) // 2 if events else 0])])
    return islice(iter(reply.body), events)


def _with_events(reply: Reply, events: Iterable[Event]) -> Reply:
    """The reply with other events; a whole body keeps its announced length."""
    headers = dict(reply.headers)
    if isinstance(reply.body, bytes):
        headers["content-length"] = str(len(reply.body))
    return Reply(events, reply.status, headers, reply.steps)


def _all(reply: Reply) -> Iterable[Event]:
    return [Event(reply.body)] if isinstance(reply.body, bytes) else reply.body


def _malformed(fault: Fault, reply: Reply) -> Reply:
    """`malformed;kind=bad_json|no_colon|crlf|comments|unknown_field;events=1`: broken or odd lines in the stream."""
    kind = fault.parameters.get("kind", "bad_json")
    if kind == "crlf":
        return _with_events(reply, _with_mixed_ends(_all(reply)))
    lines = {
        "bad_json": b"data: {bad\n\n",
        "no_colon": b"this line has no colon\n\n",
        "comments": b": keep-alive\n\n: another comment\n\n",
        "unknown_field": b"id: 7\nretry: 100\nfoo: bar\n\n",
    }
    if kind not in lines:
        raise SimError(400, f"unknown malformed kind {kind!r}", param="sim_fault")
    return _with_events(reply, _inserted(_all(reply), fault.count("events", 1), lines[kind]))


def _inserted(events: Iterable[Event], position: int, data: bytes) -> Iterator[Event]:
    for number, event in enumerate(events):
        if number == position:
            yield Event(data, event.step)
        yield event


def _with_mixed_ends(events: Iterable[Event]) -> Iterator[Event]:
    """Line ends CRLF, CR and LF in turn, all legal in server-sent events."""
    ends = (b"\r\n", b"\r", b"\n")
    for number, event in enumerate(events):
        yield Event(event.data.replace(b"\n", ends[number % len(ends)]), event.step)


def _split(fault: Fault, reply: Reply) -> Reply:
    """`split;bytes=7`: the same bytes, cut every so many, across events."""
    return _with_events(reply, _pieces(_all(reply), max(1, fault.count("bytes", 7))))


def _pieces(events: Iterable[Event], size: int) -> Iterator[Event]:
    rest, step = b"", 0
    for event in events:
        rest, step = rest + event.data, event.step
        while len(rest) >= size:
            yield Event(rest[:size], step)
            rest = rest[size:]
    if rest:
        yield Event(rest, step)


def _drip(fault: Fault, reply: Reply) -> Reply:
    """`drip;seconds=0.1;bytes=1`: the whole answer, that slowly."""
    wait_s = fault.number("seconds", 0.1)
    pieces = _pieces(_all(reply), max(1, fault.count("bytes", 1)))
    return _with_events(reply, (Event(piece.data, piece.step, wait_s=wait_s) for piece in pieces))


def _truncated_json(_: Fault, reply: Reply) -> Reply:
    """`truncated_json`: a whole, well-framed answer whose JSON stops in the middle."""
    body = reply.body if isinstance(reply.body, bytes) else b'{"id":"chatcmpl-0","object":"chat.completion"}'
    return Reply(body[: len(body) // 2], reply.status, JSON_HEADERS, reply.steps)


def _error_event(fault: Fault, reply: Reply) -> Reply:
    """`error_event;events=2;code=500`: an error object in the 200 stream, then `[DONE]`, as from a dying engine."""
    code = fault.count("code", 500)
    message = fault.parameters.get("message", ENGINE_DEAD)
    error = SimError(code, message, ERROR_TYPES.get(code, "InternalServerError"))
    if isinstance(reply.body, bytes):
        return Reply(error.openai_body, code, JSON_HEADERS)
    broken = Event(b"data: " + orjson.dumps({"error": error.openai_object}) + b"\n\n")
    end = [] if fault.parameters.get("done") == "no" else [Event(DONE)]
    return _with_events(reply, [*_first(reply, fault.count("events", 0)), broken, *end])


def _html(_: Fault, reply: Reply) -> Reply:
    """`html`: a 200 web page, as a wrong address behind a proxy gives."""
    return Reply(HTML, 200, {"server": "nginx", "content-type": "text/html; charset=utf-8"}, reply.steps)


def _length_larger(fault: Fault, reply: Reply) -> Reply:
    """`length_larger;bytes=10;how=hang`: `content-length` promises more than comes, then the end or a hang."""
    body = _joined(reply)
    headers = {**reply.headers, "content-length": str(len(body) + fault.count("bytes", 10))}
    action: Action = "hang" if fault.parameters.get("how") == "hang" else "fin"
    return Reply([Event(body), Event(action=action)], reply.status, headers, reply.steps)


def _length_smaller(fault: Fault, reply: Reply) -> Reply:
    """`length_smaller;bytes=10`: more bytes come than `content-length` promised."""
    body = _joined(reply)
    cut = max(0, len(body) - fault.count("bytes", 10))
    headers = {**reply.headers, "content-length": str(cut)}
    return Reply([Event(body[:cut]), Event(body[cut:], action="raw")], reply.status, headers, reply.steps)


def _joined(reply: Reply) -> bytes:
    return b"".join(event.data for event in _all(reply))


def _redirect(fault: Fault, _: Reply) -> Reply:
    """`redirect;location=http://other.example/;code=307`."""
    location = fault.parameters.get("location", "http://other.example.invalid/v1/chat/completions")
    return Reply(b"", fault.count("code", 307), {"server": "uvicorn", "location": location})


def _gzip_bomb(fault: Fault, reply: Reply) -> Reply:
    """`gzip_bomb;megabytes=64`: a small body that says it is gzip and unpacks to that much."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    zeros = bytes(MEGABYTE)
    packed = [packer.compress(zeros) for _ in range(fault.count("megabytes", 64))]
    return Reply(b"".join([*packed, packer.flush()]), 200, {**reply.headers, "content-encoding": "gzip"})


def _endless_line(fault: Fault, _: Reply) -> Reply:
    """`endless_line;megabytes=1024`: one event whose line does not end."""
    return Reply(_line(fault.count("megabytes", 1024)), 200, EVENT_HEADERS)


def _line(megabytes: int) -> Iterator[Event]:
    yield Event(b'data: {"choices":[{"index":0,"delta":{"content":"')
    block = b"x" * (MEGABYTE // 16)
    for _ in range(megabytes * 16):
        yield Event(block)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "status": _status,
        "delay": _delay,
        "hang": _hang,
        "hang_mid": _then("hang", "`hang_mid;events=2`: so many events, then nothing more."),
        "cut_fin": _then("fin", "`cut_fin;events=2`: so many events, then FIN without a last chunk."),
        "cut_rst": _then(
            "rst", "`cut_rst;events=2;seconds=0`: so many events, a pause, RST: what nobody has read by then is lost."
        ),
        "close_fin": _close_fin,
        "close_rst": _close_rst,
        "headers_cut": _headers_cut,
        "malformed": _malformed,
        "split": _split,
        "drip": _drip,
        "truncated_json": _truncated_json,
        "error_event": _error_event,
        "html": _html,
        "length_larger": _length_larger,
        "length_smaller": _length_smaller,
        "redirect": _redirect,
        "gzip_bomb": _gzip_bomb,
        "endless_line": _endless_line,
    }
)
"""All faults that change one answer; `refuse` (the listening socket) is `SimServer.refuse`."""
