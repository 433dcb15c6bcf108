"""Runs the load generators, wrk and our own client, against one arm and returns what they measured."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TIMEOUT_S = 60
"""How long a single request may take: LiteLLM has queues of seconds at 64 connections."""


class LoadFailed(Exception):
    """A load generator ended without a result; the message is its own."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send: port and further headers, each `name: value`."""

    port: int
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Load:
    """What was seen; times in milliseconds, `first_*` of streams only (NaN without)."""

    requests: int
    duration_s: float
    p50_ms: float
    p99_ms: float
    errors: int
    first_p50_ms: float = float("nan")
    first_p99_ms: float = float("nan")
    chunks: int = 0
    reads: int = 0
    most_open: int = 0
    failures: str = ""

    @property
    def per_s(self) -> float:
        """Answers per second."""
        return self.requests / self.duration_s


def plain(target: Target, bodies: Path, connections: int, seconds: float, wrk: str | None) -> Load:
    """Send plain requests as fast as they are answered, with wrk or, without it, our own client.

    Raises:
        LoadFailed: the generator broke.
    """
    if wrk is None:
        return client(target, bodies, connections=connections, seconds=seconds)
    command = [wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", f"--timeout={TIMEOUT_S}s"]
    url = f"http://127.0.0.1:{target.port}/v1/chat/completions"
    start = str(random.randrange(10**7))
    script = ["-s", str(HERE / "cycle.lua"), url, "--", str(bodies), start, *target.headers]
    return Load(**_result([*command, *script], seconds))


def client(target: Target, bodies: Path, **plan: Any) -> Load:
    """Run our own client; `plan` has the further fields of `client.Plan`.

    Raises:
        LoadFailed: the client broke.
    """
    whole = {"port": target.port, "bodies": str(bodies), "headers": target.headers, **plan}
    found = _result([sys.executable, str(HERE / "client.py"), json.dumps(whole)], plan.get("seconds", 0))
    return Load(**{**found, "failures": json.dumps(found["failures"])})


def _result(command: list[str], seconds: float) -> dict[str, Any]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 4 * TIMEOUT_S, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        raise LoadFailed(f"{command[0]}: {error.stderr.strip()[-500:]}") from error
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        raise LoadFailed(f"{command[0]}: {type(error).__name__}") from error
    if not isinstance(found, dict):
        raise LoadFailed(f"{command[0]}: no result")
    return found
