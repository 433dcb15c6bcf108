"""The simulator's own `/sim` calls: set and lift faults, look at state and requests. A real vLLM has none of them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from gateway.sim.bodies import read_json, validate
from gateway.sim.errors import SimError
from gateway.sim.fault_kinds import KINDS
from gateway.sim.faults import parse_fault
from gateway.sim.replies import Reply, json_reply

if TYPE_CHECKING:
    from gateway.sim.handler import ReceivedRequest
    from gateway.sim.server import SimServer

REFUSE = "refuse"


class Match(BaseModel):
    """Which requests a fault hits."""

    model_config = ConfigDict(extra="forbid")

    path: str | None = None
    model: str | None = None


class FaultOrder(BaseModel):
    """`POST /sim/faults`."""

    model_config = ConfigDict(extra="forbid")

    fault: str
    count: int | None = 1
    match: Match = Match()


def control(server: SimServer, method: str, path: str, raw: bytes) -> Reply:
    """Answer a `/sim` call; errors have the simulator's usual shape."""
    try:
        match method, path:
            case "POST", "/sim/faults":
                return _order(server, raw)
            case "DELETE", "/sim/faults":
                server.clear_faults()
                return json_reply({"faults": []})
            case "GET", "/sim/faults":
                return json_reply({"faults": server.state()["faults"], "known": _known()})
            case "GET", "/sim/requests":
                return json_reply([_shown(request) for request in server.requests])
            case "GET", "/sim/state":
                return json_reply(server.state())
        raise SimError(404, f"no simulator call {method} {path}", "NotFoundError")
    except SimError as error:
        return Reply(error.openai_body, error.status)


def _known() -> dict[str, str]:
    """Each fault's usage, the first line of its docstring."""
    usage = {name: (kind.__doc__ or "").partition("\n")[0] for name, kind in KINDS.items()}
    return usage | {REFUSE: "`refuse;seconds=1;drop=yes`: no new connections that long; drop: reset the open ones."}


def _order(server: SimServer, raw: bytes) -> Reply:
    order = validate(FaultOrder, read_json(raw, "application/json"))
    fault = parse_fault(order.fault)
    if fault.name == REFUSE:
        # Over HTTP nobody could call `accept` later, so there is always an end.
        server.refuse(drop=fault.parameters.get("drop") == "yes", seconds=fault.number("seconds", 1.0))
    elif fault.name in KINDS:
        server.fault(order.fault, count=order.count, path=order.match.path, model=order.match.model)
    else:
        raise SimError(400, f"unknown sim fault {fault.name!r}; known: {', '.join([*KINDS, REFUSE])}", param="fault")
    return json_reply({"faults": server.state()["faults"]})


def _shown(request: ReceivedRequest) -> dict[str, Any]:
    try:
        body, encoding = request.body.decode(), "utf-8"
    except UnicodeDecodeError:
        body, encoding = base64.b64encode(request.body).decode(), "base64"
    headers = [[name, value] for name, value in request.headers.items()]
    return {
        "method": request.method,
        "path": request.path,
        "headers": headers,
        "body": body,
        "body_encoding": encoding,
    }
