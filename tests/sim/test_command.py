"""The program: listens, says where, stops cleanly on a signal; and stands alone."""

from __future__ import annotations

import ast
import asyncio
import signal
import sys
from pathlib import Path

import pytest

import gateway.sim
from gateway.sim import SimExpert, SimServer, serve_forever
from tests.sim.wire import exchange, request_bytes

PROGRAM = """
from gateway.sim import SimExpert, SimServer, run
run([SimServer(SimExpert("one", "math")), SimServer(SimExpert("two"), SimExpert("three"))])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_run_announces_servers_answers_and_stops_on_signal(number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-c", PROGRAM, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        first, second = [(await process.stdout.readline()).decode() for _ in range(2)]
        assert "one (math)" in first
        assert "two (general), three (general)" in second
        port = int(first.split("127.0.0.1:")[1].split(":")[0])
        # uvloop serves here, so the connection-level faults are tried on it too.
        assert (await exchange(port, request_bytes("GET", "/health"))).status == 200
        body = b'{"messages":[{"role":"user","content":"x"}],"stream":true,"sim_fault":"cut_rst;events=2"}'
        cut = await exchange(port, request_bytes("POST", "/v1/chat/completions", body, content_type="application/json"))
        assert (len(cut.chunks), cut.end) == (2, "reset")
        process.send_signal(number)
        _, errors = await asyncio.wait_for(process.communicate(), 5)
        assert (process.returncode, errors) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_serve_forever_taken_port_fails_and_closes_the_others() -> None:
    async with SimServer(SimExpert("m")) as taken:
        first = SimServer(SimExpert("a"))
        with pytest.raises(OSError):
            await serve_forever(first, SimServer(SimExpert("b"), port=taken.port))
        assert not first.listening


def test_sim_imports_nothing_of_the_gateway_but_itself() -> None:
    folder = Path(gateway.sim.__file__).parent
    imported = {
        name
        for file in folder.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        for name in _imported(node)
    }
    ours = {name for name in imported if name.split(".")[0] in {"gateway", "router", "tests"}}
    assert ours
    assert {name for name in ours if not name.startswith("gateway.sim")} == set()


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
