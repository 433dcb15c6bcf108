"""What the gateway costs: the same requests straight to a simulated expert and through the gateway, in turn.

    python deploy/benchmarks/overhead.py [--rounds 5] [--seconds 4] [--connections 32]

Needs `wrk` (Debian package wrk). Starts one simulated expert without delays and `pointsman serve`, each in a process
of its own, and runs wrk against all in turn, so that a machine that slows down slows all. A bare relay of uvicorn and
aiohttp runs along as the floor. CPU is what the kernel counted for the process in between, threads included. Prints
medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

PROMPT = "How do I find the eigenvalues of a 3 by 3 matrix?"
CASES = {"pinned (not classified)": "math", "auto (classified)": "auto"}
SIMULATION = """
import uvloop
from gateway.sim.command import serve_forever
from gateway.sim.experts import SimExpert
from gateway.sim.server import SimServer
expert = SimExpert("sim/math", "math", time_to_first_token_s=0, tokens_per_second=0)
uvloop.run(serve_forever(SimServer(expert, port={port})))
"""

# The least that uvicorn and aiohttp can do: no decision, no limits, no record. What the gateway adds is on top of this.
FLOOR = """
import aiohttp, uvicorn
session = None
async def relay(scope, receive, send):
    global session
    if session is None:
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
    body = (await receive())["body"]
    headers = {{"content-type": "application/json"}}
    async with session.post("http://127.0.0.1:{sim}/v1/chat/completions", data=body, headers=headers) as answer:
        whole = await answer.read()
    kept = [(b"content-type", b"application/json"), (b"content-length", str(len(whole)).encode())]
    await send({{"type": "http.response.start", "status": answer.status, "headers": kept}})
    await send({{"type": "http.response.body", "body": whole}})
uvicorn.run(relay, port={port}, http="httptools", loop="uvloop", lifespan="off", access_log=False, log_level="error")
"""


@dataclass(frozen=True)
class Run:
    """One run of wrk: requests per second, median latency, and CPU per request of a process."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


Target = tuple[psutil.Process | None, int, str]
"""Process whose CPU is counted, port, and the `model` field."""


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    sim_port, floor_port, port = _free_port(), _free_port(), _free_port()
    with tempfile.TemporaryDirectory() as folder, _process("-c", SIMULATION.format(port=sim_port)):
        config = Path(folder, "experts.yaml")
        expert = {"model": "sim/math", "upstreams": [f"http://127.0.0.1:{sim_port}"]}
        # JSON is YAML; the log line per request stays on, as in production.
        experts = {
            "generalist": expert,
            "experts": {"math": {**expert, "domains": ["math"]}},
            "router": {"artifact": arguments.artifact},
        }
        config.write_text(json.dumps(experts))
        _wait_for(f"http://127.0.0.1:{sim_port}/health")
        serve = ("-m", "gateway.cli", "serve", "-c", str(config), "--port", str(port))
        with _process(*serve) as gateway, _process("-c", FLOOR.format(sim=sim_port, port=floor_port)) as floor:
            _wait_for(f"http://127.0.0.1:{port}/health/ready")
            targets = {
                "direct": (None, sim_port, "sim/math"),
                "bare relay (the floor)": (floor, floor_port, "sim/math"),
                **{name: (gateway, port, model) for name, model in CASES.items()},
            }
            _compare(arguments, targets, Path(folder))


def _compare(arguments: argparse.Namespace, targets: dict[str, Target], folder: Path) -> None:
    runs: dict[str, list[Run]] = {name: [] for name in targets}
    for number in range(arguments.rounds + 1):
        for name, target in targets.items():
            run = _wrk(arguments, target, folder)
            if number:  # the first round warms up
                runs[name].append(run)
    print(f"{arguments.rounds} rounds of {arguments.seconds} s, {arguments.connections} connections, medians")
    print(f"{'':<26}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'CPU us/request':>16}")
    for name, measured in runs.items():
        cpu = "" if name == "direct" else f"{statistics.median(r.cpu_us for r in measured):.0f}"
        print(
            f"{name:<26}{statistics.median(r.requests_per_s for r in measured):>9.0f}"
            f"{statistics.median(r.p50_ms for r in measured):>9.2f}"
            f"{statistics.median(r.p99_ms for r in measured):>9.2f}{cpu:>16}"
        )


def _wrk(arguments: argparse.Namespace, target: Target, folder: Path) -> Run:
    process, port, model = target
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 8})
    script = folder / "post.lua"
    script.write_text(
        f"wrk.method = 'POST'\nwrk.headers['content-type'] = 'application/json'\nwrk.body = {json.dumps(body)}\n"
    )
    before = _cpu_s(process)
    command = ["wrk", "-t1", f"-c{arguments.connections}", f"-d{arguments.seconds}s", "--latency", "-s", str(script)]
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    text = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    used_s = _cpu_s(process) - before
    assert "Non-2xx" not in text, text
    total = int(_found(r"(\d+) requests in", text))
    return Run(
        requests_per_s=float(_found(r"Requests/sec:\s+([\d.]+)", text)),
        p50_ms=_milliseconds(_found(r"\n\s+50%\s+(\S+)", text)),
        p99_ms=_milliseconds(_found(r"\n\s+99%\s+(\S+)", text)),
        cpu_us=used_s / total * 1e6,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--artifact", default="default", help="the classifier")
    return parser.parse_args()


@contextmanager
def _process(*arguments: str) -> Iterator[psutil.Process]:
    child = subprocess.Popen([sys.executable, *arguments], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait()


def _cpu_s(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return float(times.user + times.system)


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, text
    return match.group(1)


def _milliseconds(text: str) -> float:
    for unit, factor in (("us", 1e-3), ("ms", 1.0), ("s", 1e3)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(url: str, limit_s: float = 30) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


if __name__ == "__main__":
    main()
