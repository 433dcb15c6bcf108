"""Starts and stops a Valkey or Redis server of the tests' own, in a temporary folder."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import redis

from gateway.limits.valkey import ValkeyLimits
from gateway.limits.wire import Wire
from gateway.settings.quotas import ValkeySettings


def binary() -> str | None:
    """The server's program; None where neither is installed."""
    return shutil.which("valkey-server") or shutil.which("redis-server")


class Valkey:
    """One server. It keeps nothing on disk: stopped, it has forgotten everything."""

    def __init__(self, program: str, folder: Path, *, cluster: bool = False) -> None:
        self._program = program
        self._folder = folder
        self._cluster = cluster
        with socket.socket() as probe:
            # A cluster's second port is 10,000 above.
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        self.port = port if port < 55_000 else port - 20_000
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        if self._cluster:
            options += ["--cluster-enabled", "yes", "--cluster-config-file", str(self._folder / "nodes.conf")]
        self._process = subprocess.Popen(
            [self._program, *options, "--dir", str(self._folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                self.client().ping()
                break
            except redis.exceptions.ConnectionError:
                assert time.monotonic() < deadline, "the server does not start"
                time.sleep(0.02)
        if self._cluster:
            self.client().execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            while b"cluster_state:ok" not in self.client().execute_command("CLUSTER", "INFO", NEVER_DECODE=True):
                assert time.monotonic() < deadline, "the cluster does not come up"
                time.sleep(0.02)

    def client(self) -> Any:
        return redis.Redis(port=self.port)

    def hang(self) -> None:
        """Answer nothing, and keep the connections."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()

    def limits(self, *, timeout_s: float = 2.0, pause_s: float = 0.1, cluster: bool = False) -> ValkeyLimits:
        """A client of its own. It waits long: here it is the counts that matter, and the machine may be busy."""
        settings = ValkeySettings(url_env="VALKEY_URL", timeout_s=timeout_s, cluster=cluster)
        return ValkeyLimits(Wire(settings, self.url, pause_s=pause_s), settings.prefix)
