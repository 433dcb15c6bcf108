"""The arms: how each gateway is started in front of the mock upstream, as its makers say. Sends no load."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import environments
import processes
from environments import Unavailable
from load import Target
from upstream import MODEL

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
START_LIMIT_S = 120.0
STOP_LIMIT_S = 15.0
SETTLE_S = 0.1
SETTLE_LIMIT_S = 5.0
IDLE_SHARE = 0.1
DOMAINS = ("math", "coding", "health", "law")


@dataclass(frozen=True, slots=True)
class Ground:
    """What all arms stand on: folders, the mock upstream's port, the classifier, and what may be installed."""

    folder: Path
    cache: Path
    upstream_port: int
    artifact: str
    install: bool


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start an arm: its command, what its requests look like, and its version for the report."""

    command: list[str]
    version: str
    model: str = MODEL
    headers: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Arm:
    """A running arm; `pid` is None where nothing stands between client and upstream."""

    name: str
    target: Target
    model: str
    version: str
    pid: int | None
    log: Path | None

    def trim_log(self) -> None:
        """Forget what it has logged, or a long run would fill the disk."""
        if self.log is not None:
            os.truncate(self.log, 0)

    def settle(self) -> None:
        """Wait until it no longer works on requests whose client has gone, at most `SETTLE_LIMIT_S`."""
        deadline = time.monotonic() + SETTLE_LIMIT_S
        while self.pid is not None and time.monotonic() < deadline:
            before = processes.cpu_s(self.pid)
            time.sleep(SETTLE_S)
            if processes.cpu_s(self.pid) - before < IDLE_SHARE * SETTLE_S:
                return


def _nginx(ground: Ground, port: int) -> Launch:
    nginx = environments.debian("nginx", "nginx-light", install=ground.install)
    folder = ground.folder / "nginx"
    folder.mkdir()
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    config = folder / "nginx.conf"
    config.write_text(f"""{"user root;" if os.geteuid() == 0 else ""}
daemon off; worker_processes 1; pid {folder}/pid; error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; client_max_body_size 32m; client_body_buffer_size 1m;
  client_body_temp_path {folder}/body; {temporary}
  upstream mock {{ server 127.0.0.1:{ground.upstream_port}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://mock; proxy_http_version 1.1; proxy_buffering off;
      proxy_set_header Connection ""; }}
  }}
}}
""")
    version = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True).stderr
    return Launch([nginx, "-p", str(folder), "-c", str(config)], version.strip().rpartition("/")[2])


def _relay(ground: Ground, port: int) -> Launch:
    version = f"uvicorn {metadata.version('uvicorn')}, aiohttp {metadata.version('aiohttp')}"
    return Launch([sys.executable, str(HERE / "relay.py"), str(port), str(ground.upstream_port)], version)


def _pointsman(ground: Ground, port: int, model: str) -> Launch:
    expert: dict[str, object] = {"model": MODEL, "upstreams": [f"http://127.0.0.1:{ground.upstream_port}"]}
    expert |= {"price": {"input": 0.2, "output": 0.2}}
    # JSON is YAML. The log line per request stays on, as in production.
    config = {
        "generalist": expert,
        "experts": {domain: {**expert, "domains": [domain]} for domain in DOMAINS},
        "router": {"artifact": ground.artifact},
    }
    path = ground.folder / f"pointsman-{port}.yaml"
    path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "gateway.cli", "serve", "-c", str(path), "--port", str(port)]
    return Launch(command, _commit(), model)


def _pinned(ground: Ground, port: int) -> Launch:
    return _pointsman(ground, port, "math")


def _auto(ground: Ground, port: int) -> Launch:
    return _pointsman(ground, port, "auto")


def _litellm(ground: Ground, port: int) -> Launch:
    command = environments.litellm(ground.cache, install=ground.install)
    served = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{ground.upstream_port}/v1", "api_key": "none"}
    config = ground.folder / "litellm.yaml"
    config.write_text(json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": served}]}))
    # Its documentation's advice for production: one process a core, and errors only in the log.
    arguments = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    # No arm checks keys; LiteLLM wants to be told that this is meant.
    open_door = ("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true")
    quiet = (("LITELLM_LOG", "ERROR"), ("LITELLM_MODE", "PRODUCTION"), ("LITELLM_LOCAL_MODEL_COST_MAP", "True"))
    version = environments.LITELLM
    return Launch([str(command), *arguments, "--telemetry", "False"], version, environment=(*quiet, open_door))


def _portkey(ground: Ground, port: int) -> Launch:
    node, script = environments.portkey(ground.cache, install=ground.install)
    host = f"x-portkey-custom-host: http://127.0.0.1:{ground.upstream_port}/v1"
    headers = ("authorization: Bearer none", "x-portkey-provider: openai", host)
    production = (("NODE_ENV", "production"),)
    command = [str(node), str(script), f"--port={port}", "--headless"]
    version = f"{environments.PORTKEY}, Node {environments.NODE}"
    return Launch(command, version, headers=headers, environment=production)


LAUNCHES: dict[str, Callable[[Ground, int], Launch]] = {
    "nginx": _nginx,
    "relay": _relay,
    "pointsman-pinned": _pinned,
    "pointsman-auto": _auto,
    "litellm": _litellm,
    "portkey": _portkey,
}
NAMES = ("direct", *LAUNCHES)


@contextmanager
def running(name: str, ground: Ground) -> Iterator[Arm]:
    """Run an arm until the block ends.

    Raises:
        Unavailable: it could not be had, or it did not answer.
    """
    if name == "direct":
        yield Arm(name, Target(ground.upstream_port), MODEL, "", None, None)
        return
    port = free_port()
    launch = LAUNCHES[name](ground, port)
    log = ground.folder / f"{name}.log"
    with process(launch.command, log, dict(launch.environment)) as pid:
        arm = Arm(name, Target(port, launch.headers), launch.model, launch.version, pid, log)
        _wait_for(arm)
        yield arm


@contextmanager
def process(command: list[str], log: Path, environment: dict[str, str] | None = None) -> Iterator[int]:
    """Run a command in a process group of its own until the block ends; yields its process id."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env=os.environ | (environment or {}),
            start_new_session=True,
        )
    try:
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(arm: Arm) -> None:
    """Wait until a chat request is answered, which is later than until the port is open."""
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        why = _answer(arm)
        if not why:
            return
        assert arm.pid is not None
        if time.monotonic() > deadline or _ended(arm.pid):
            last = arm.log.read_text(errors="replace").strip()[-300:] if arm.log else ""
            raise Unavailable(f"it did not answer ({why}): {last}")
        time.sleep(0.1)


def _answer(arm: Arm) -> str:
    body = json.dumps({"model": arm.model, "messages": [{"role": "user", "content": "Hello"}]}).encode()
    headers = dict(line.split(": ", 1) for line in ("content-type: application/json", *arm.target.headers))
    url = f"http://127.0.0.1:{arm.target.port}/v1/chat/completions"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=5):
            return ""
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read(300)!r}"
    except OSError as error:
        return str(error)


def _ended(pid: int) -> bool:
    """Say whether a child ended; a zombie has an empty command line."""
    try:
        state = re.search(r"\) (\w)", Path(f"/proc/{pid}/stat").read_text())
    except OSError:
        return True
    return state is not None and state.group(1) == "Z"


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return metadata.version("pointsman")
