#!/usr/bin/env python3
"""Starts real vLLM servers with the tiny models on free ports and ends them when it ends, however it ends.

    serve.py lora reasoner embed             Ctrl-C stops them
    serve.py lora --ready-file servers.json  for programs; --with-stdin also stops when standard input closes

Kinds of server: `lora` (model `tiny`, alias `tiny-alias`, adapters `tiny-lora` and `tiny-lora2`), `reasoner`
(`tiny-reasoner`: the same model with a reasoning parser), `embed` (`tiny-bert`) and `narrow` (`tiny`, two requests at
once, with `/sleep`). Installs first if need be (`install.py`). Knows nothing of gateways. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from install import Installation, InstallError, install

START_LIMIT_S = 240.0
TERM_GRACE_S = 5.0
LOG_TAIL_LINES = 40

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # The default's extra process spins on sched_yield: other processes' timers came up to 3 s late.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # Else the first request with logprobs compiles for 19 s, and needs g++.
    "TORCHDYNAMO_DISABLE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # For tests of loading adapters at run time; the servers listen on loopback only.
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
}
STRUCTURED_OUTPUT = {"backend": "xgrammar", "disable_any_whitespace": True}
CHAT_FLAGS = (
    *("--max-model-len", "2048", "--max-num-seqs", "16", "--block-size", "32"),
    *("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--tool-strict-level", "parameter"),
    *("--structured-outputs-config", json.dumps(STRUCTURED_OUTPUT)),
)
# Without a fixed size the first server takes 92 % of the memory and the second one dies.
COMMON_FLAGS = (
    *("--host", "127.0.0.1", "--dtype", "bfloat16", "--enforce-eager"),
    *("--kv-cache-memory-bytes", "64M"),
)
KINDS = ("lora", "reasoner", "embed", "narrow")
# `/sleep` makes a server that is well and answers nobody.
DEVELOPMENT = {"VLLM_SERVER_DEV_MODE": "1"}

log = logging.getLogger("serve")


class ServerFailed(Exception):
    """A server ended, or did not answer, while starting."""


@dataclass(frozen=True, slots=True)
class Server:
    """One running server; its process group has the number of its first process."""

    kind: str
    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def described(self) -> dict[str, object]:
        """Return what `--ready-file` says about it."""
        return {"kind": self.kind, "url": self.url, "process_group": self.process.pid, "log": str(self.log)}


def flags(kind: str, models: Path) -> list[str]:
    """Return the arguments of `vllm serve` for one kind of server."""
    if kind == "embed":
        return [str(models / "tiny-bert"), *COMMON_FLAGS, "--served-model-name", "tiny-bert"]
    chat = [str(models / "tiny-chat"), *COMMON_FLAGS, *CHAT_FLAGS]
    if kind == "narrow":
        return [*chat, "--served-model-name", "tiny", "--max-num-seqs", "2"]
    if kind == "reasoner":
        return [*chat, "--served-model-name", "tiny-reasoner", "--reasoning-parser", "qwen3"]
    adapters = [f"{name}={models / name}" for name in ("tiny-lora", "tiny-lora2")]
    lora = ["--enable-lora", "--max-lora-rank", "8", "--lora-modules", *adapters]
    return [*chat, "--served-model-name", "tiny", "tiny-alias", *lora]


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def guard() -> Iterator[Callable[[int], None]]:
    """Run a process that kills the announced process groups once we are gone: even when we are killed."""
    program = [sys.executable, str(Path(__file__).resolve()), "--guard"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, start_new_session=True, text=True) as process:
        if process.stdin is None:
            raise ServerFailed("the guard has no input")
        pipe = process.stdin
        yield lambda group: print(group, file=pipe, flush=True)  # noqa: T20


def guard_main() -> int:
    """Read process groups, one a line, up to the end; then kill those that are left."""
    for group in [int(line) for line in sys.stdin]:
        signal_group(group, signal.SIGKILL)
    return 0


def signal_group(group: int, number: int) -> None:
    """Signal a process group, if it still exists."""
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def start(kind: str, place: Installation, log_file: Path) -> Server:
    """Start one server in a process group of its own."""
    port = free_port()
    command = [str(place.vllm), "serve", *flags(kind, place.models), "--port", str(port)]
    with log_file.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=_server_environment() | (DEVELOPMENT if kind == "narrow" else {}),
            start_new_session=True,
        )
    return Server(kind, f"http://127.0.0.1:{port}", log_file, process)


def _server_environment() -> dict[str, str]:
    """Return our environment without what would change a server's behaviour."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VLLM_", "PYTHON"))}
    return kept | ENVIRONMENT


def wait_healthy(server: Server, ends: float) -> None:
    """Return once the server answers `/health`.

    Raises:
        ServerFailed: it ended or `ends` (monotonic clock) has come; the message has the end of its log.
    """
    while time.monotonic() < ends:
        if server.process.poll() is not None:
            raise ServerFailed(f"{server.kind} ended with {server.process.returncode}:\n{_tail(server.log)}")
        try:
            with urllib.request.urlopen(f"{server.url}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise ServerFailed(f"{server.kind} does not answer after {START_LIMIT_S:.0f} s:\n{_tail(server.log)}")


def _tail(path: Path) -> str:
    """Return the last lines of a log."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])


def stop(servers: list[Server]) -> None:
    """End servers and everything they started; returns when they are gone."""
    for server in servers:
        signal_group(server.process.pid, signal.SIGTERM)
    for server in servers:
        with suppress(subprocess.TimeoutExpired):
            server.process.wait(TERM_GRACE_S)
        signal_group(server.process.pid, signal.SIGKILL)
        server.process.wait()


@contextmanager
def running(kinds: list[str], place: Installation, logs: Path) -> Iterator[list[Server]]:
    """Run servers, one of each kind given, for the time of a `with` block."""
    logs.mkdir(parents=True, exist_ok=True)
    with guard() as announce, ExitStack() as stack:
        servers: list[Server] = []
        stack.callback(stop, servers)
        for number, kind in enumerate(kinds):
            servers.append(start(kind, place, logs / f"{os.getpid()}-{number}-{kind}.log"))
            announce(servers[-1].process.pid)
        ends = time.monotonic() + START_LIMIT_S
        for server in servers:
            wait_healthy(server, ends)
            log.info("%s answers at %s, log in %s", server.kind, server.url, server.log)
        yield servers


def run(options: argparse.Namespace) -> None:
    """Install, start, announce, wait for the end, stop."""
    place = install()
    with running(options.kinds, place, Path(options.logs or place.home / "logs")) as servers:
        if options.ready_file:
            _write_whole(Path(options.ready_file), json.dumps([server.described() for server in servers]))
        _wait_for_end(with_stdin=options.with_stdin)


def _write_whole(path: Path, text: str) -> None:
    """Write a file that readers never see half written."""
    half = path.with_suffix(".half")
    half.write_text(text)
    half.rename(path)


def _wait_for_end(*, with_stdin: bool) -> None:
    """Wait for a signal, or for the end of standard input."""
    if not with_stdin:
        signal.pause()
    while os.read(sys.stdin.fileno(), 4096):
        pass


def _end(number: int, frame: object) -> None:
    """Leave through the context managers."""
    raise SystemExit(0)


def main() -> int:
    """Run the command line."""
    if sys.argv[1:] == ["--guard"]:
        return guard_main()
    parser = argparse.ArgumentParser(description="Start real vLLM servers with tiny models on free ports.")
    parser.add_argument(
        "kinds", nargs="+", choices=KINDS, metavar="KIND", help="lora, reasoner, embed or narrow; repeatable"
    )
    parser.add_argument("--ready-file", help="JSON written once all servers answer")
    parser.add_argument("--logs", help="folder of the servers' logs")
    parser.add_argument("--with-stdin", action="store_true", help="stop when standard input closes, too")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    signal.signal(signal.SIGTERM, _end)
    try:
        run(options)
    except (InstallError, ServerFailed) as error:
        log.error("%s", error)
        return 1
    except KeyboardInterrupt:
        log.info("stopping")
    return 0


if __name__ == "__main__":
    sys.exit(main())
