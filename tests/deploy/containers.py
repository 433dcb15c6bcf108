"""Starts an unpacked image in namespaces of its own, and talks to it from inside them. Asserts nothing.

No container engine runs where these tests do; util-linux gives the same isolation one namespace at a time.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFINE = Path(__file__).with_name("confine.py")
START_S = 30.0
STOP_S = 20.0
ASK = """
import http.client, json, sys
port, method, path, body, headers = json.load(sys.stdin)
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
connection.request(method, path, body, headers)
answer = connection.getresponse()
json.dump([answer.status, dict(answer.getheaders()), answer.read().decode()], sys.stdout)
"""


class NotUp(Exception):
    """A container ended or does not answer; the message has what it printed."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image unpacked into a folder, with what its configuration says."""

    root: Path
    base_bytes: int
    settings: Mapping[str, Any]

    @property
    def environment(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.settings["Env"])

    def command(self, arguments: list[str] | None = None) -> list[str]:
        """The command line that starts it."""
        return [*self.settings["Entrypoint"], *(arguments or self.settings["Cmd"])]

    def run(self, config: Path, arguments: list[str], environment: Mapping[str, str] | None = None) -> str:
        """Run a command to its end and return what it printed, with its exit status in front."""
        with container(self, config, arguments, environment=environment) as running:
            status = running.outer.wait(START_S)
            return f"{status}\n{running.output.read_text()}"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class Container:
    """A running image."""

    image: Image
    outer: subprocess.Popen[bytes]
    output: Path

    @property
    def pid(self) -> int:
        """The image's first process, as this machine counts."""
        if not (children := _children(self.outer.pid)):
            raise NotUp(self.output.read_text())
        return children[0]

    def status(self, field: str) -> str:
        """A line of the process's /proc/PID/status."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{field}:"))

    def mounts(self) -> dict[str, list[str]]:
        """What the process sees mounted, and how."""
        lines = (line.split() for line in Path(f"/proc/{self.pid}/mounts").read_text().splitlines())
        return {words[1]: words[3].split(",") for words in lines}

    def execute(self, command: list[str]) -> subprocess.CompletedProcess[bytes]:
        """Run a further command inside, as the image's user."""
        uid, gid = self.image.settings["User"].split(":")
        enter = [_tool("nsenter"), f"--target={self.pid}", "--mount", "--pid", "--net", "--root", "--wd=/"]
        line = [*enter, f"--setuid={uid}", f"--setgid={gid}", *command]
        return subprocess.run(line, env=self.image.environment, capture_output=True, timeout=START_S)

    def ask(self, path: str, body: object = None, **headers: str) -> Answer:
        """Send a request from inside the container's network."""
        content = None if body is None else json.dumps(body)
        named = {"content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        question = [
            int(self.image.environment["POINTSMAN_PORT"]),
            "GET" if body is None else "POST",
            path,
            content,
            named,
        ]
        line = [_tool("nsenter"), f"--target={self.pid}", "--net", sys.executable, "-c", ASK]
        done = subprocess.run(line, input=json.dumps(question), capture_output=True, text=True, timeout=START_S)
        if done.returncode:
            raise NotUp(done.stderr + self.output.read_text())
        status, received, text = json.loads(done.stdout)
        return Answer(status, {name.lower(): value for name, value in received.items()}, text)

    def wait_for(self, path: str, wanted: Callable[[Answer], bool]) -> None:
        """Ask until the answer is as wanted.

        Raises:
            NotUp: it ended, or the time is over.
        """
        deadline = time.monotonic() + START_S
        while True:
            found: Answer | NotUp
            try:
                found = self.ask(path)
            except NotUp as error:
                found = error
            if isinstance(found, Answer) and wanted(found):
                return
            if self.outer.poll() is not None or time.monotonic() > deadline:
                raise NotUp(f"{path}: {found}\n{self.output.read_text()}")
            time.sleep(0.1)

    def stop(self) -> int:
        """Send SIGTERM, as an engine does, and return the exit status."""
        if self.outer.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
        return self.outer.wait(STOP_S)


@contextmanager
def container(
    image: Image,
    config: Path,
    arguments: list[str] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    network_of: Container | None = None,
) -> Iterator[Container]:
    """Run an image until the block ends, by default with a network of its own that leads nowhere.

    Raises:
        NotUp: the image could not be set up.
    """
    join = [_tool("nsenter"), f"--target={network_of.pid}", "--net"] if network_of else []
    listening, ready = os.pipe()
    line = [*join, *_unshare(*([] if network_of else ["--net"])), *_confine(image, config, ready)]
    line += image.command(arguments)
    variables = image.environment | dict(environment or {})
    with tempfile.NamedTemporaryFile() as output, open(listening, "rb") as signalled:
        outer = subprocess.Popen(line, env=variables, stdout=output, stderr=output, pass_fds=[ready])
        os.close(ready)
        try:
            if not signalled.read(1):
                raise NotUp(Path(output.name).read_text())
            yield Container(image, outer, Path(output.name))
        finally:
            # The inside first: it changed its user, and that undoes `--kill-child`.
            for pid in _children(outer.pid):
                os.kill(pid, signal.SIGKILL)
            outer.kill()
            outer.wait()


def _children(pid: int) -> list[int]:
    """Return a process's children; none once it is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _unshare(*more: str) -> list[str]:
    return [_tool("unshare"), "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child=SIGKILL", *more]


def _confine(image: Image, config: Path, ready: int) -> list[str]:
    return [sys.executable, str(CONFINE), str(ready), str(image.root), image.settings["User"], str(config)]


def _tool(name: str) -> str:
    """The full path: the image's PATH holds inside, not out here."""
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} (Debian package util-linux) is not installed")
    return found
