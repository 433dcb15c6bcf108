"""Runs several worker processes behind one socket: starts them, replaces those that die, passes signals on.

All accept from the one listening socket, which this process holds open: with a socket each (SO_REUSEPORT), connections
that wait for a worker that dies or drains would be reset. Workers are told what to do over a pipe, not by signals, and
have a session of their own: a terminal's Ctrl-C and systemd's SIGTERM to the whole group would otherwise reach
them twice. When this process dies, the pipe's end tells them. No request is seen here.
"""

from __future__ import annotations

import selectors
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from gateway.draining import CUT, DRAIN, RELOAD, STARTED

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
# Who lived so long did not die of what it was started with.
SETTLED_S = 30.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

Command = Callable[["Place"], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker works.

    Attributes:
        number: from 0.
        listening: file descriptor of the listening socket.
        control: file descriptor of its end of the pipe.
        folder: for what workers share.
    """

    number: int
    listening: int
    control: int
    folder: Path

    def __str__(self) -> str:
        return f"{self.number}:{self.listening}:{self.control}:{self.folder}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read what `str` has written."""
        number, listening, control, folder = text.split(":", 3)
        return cls(int(number), int(listening), int(control), Path(folder))


@dataclass(slots=True)
class _Worker:
    number: int
    process: subprocess.Popen[bytes]
    control: socket.socket
    began_s: float
    started: bool = False


def supervise(count: int, listening: socket.socket, command: Command) -> int:
    """Keep `count` workers running until a signal says stop.

    Args:
        count: how many.
        listening: the socket they accept from.
        command: makes the command line of a worker.

    Returns:
        What the process should exit with: 0 after a drain, 1 when the workers cannot start or one failed while it
        drained, 128 and the signal's number when a second one cut the drain short.
    """
    with tempfile.TemporaryDirectory(prefix="pointsman-", ignore_cleanup_errors=True) as folder:
        return _Supervisor(count, listening, command, Path(folder)).run()


class _Supervisor:
    def __init__(self, count: int, listening: socket.socket, command: Command, folder: Path) -> None:
        self._listening = listening
        self._command = command
        self._folder = folder
        self._selector = selectors.DefaultSelector()
        self._workers: dict[int, _Worker] = {}
        self._due_s = dict.fromkeys(range(count), 0.0)
        self._pauses_s = dict.fromkeys(range(count), FIRST_PAUSE_S)
        self._any_started = False
        self._stops = 0
        self._code = 0

    def run(self) -> int:
        """Work until no worker is left and none is to be started."""
        news, wake = socket.socketpair()
        news.setblocking(False)
        wake.setblocking(False)
        self._selector.register(news, selectors.EVENT_READ, lambda: self._take_signals(news))
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        try:
            while self._workers or self._due_s:
                self._start_due()
                for key, _ in self._selector.select(self._wait_s()):
                    key.data()
                self._bury()
        finally:
            signal.set_wakeup_fd(-1)
            self._tell(CUT)
        return self._code

    def _start_due(self) -> None:
        now = time.monotonic()
        for number in [number for number, due_s in self._due_s.items() if due_s <= now]:
            del self._due_s[number]
            self._start(number)

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        place = Place(number, self._listening.fileno(), theirs.fileno(), self._folder)
        process = subprocess.Popen(
            self._command(place), pass_fds=(place.listening, place.control), start_new_session=True
        )
        theirs.close()
        ours.setblocking(False)
        worker = self._workers[number] = _Worker(number, process, ours, time.monotonic())
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(worker))
        log.info("worker_starting", worker=number, pid=process.pid)

    def _wait_s(self) -> float | None:
        return max(0.0, min(self._due_s.values()) - time.monotonic()) if self._due_s else None

    def _hear(self, worker: _Worker) -> None:
        said = b""
        with suppress(OSError):
            said = worker.control.recv(64)
        if said.startswith(STARTED):
            worker.started = self._any_started = True
            log.info("worker_started", worker=worker.number, pid=worker.process.pid)
        elif not said:
            self._selector.unregister(worker.control)  # it is about to end; the rest is `_bury`'s
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(1)

    def _bury(self) -> None:
        for worker in list(self._workers.values()):
            code = worker.process.poll()
            if code is None:
                continue
            del self._workers[worker.number]
            with suppress(KeyError):
                self._selector.unregister(worker.control)
            worker.control.close()
            if self._stops:
                self._code = self._code or (1 if code else 0)
            else:
                self._replace(worker, code)

    def _replace(self, worker: _Worker, code: int) -> None:
        if not self._any_started and code:
            # What is wrong with the first is wrong with all; it has said what.
            self._code, self._due_s = 1, {}
            self._stops += 1
            self._tell(CUT)
            return
        if time.monotonic() - worker.began_s > SETTLED_S:
            self._pauses_s[worker.number] = FIRST_PAUSE_S
        pause_s = self._pauses_s[worker.number]
        self._pauses_s[worker.number] = min(2 * pause_s, LONGEST_PAUSE_S)
        self._due_s[worker.number] = time.monotonic() + pause_s
        log.error("worker_ended", worker=worker.number, pid=worker.process.pid, code=code, again_in_s=pause_s)

    def _take_signals(self, news: socket.socket) -> None:
        for number in news.recv(64):
            if number == signal.SIGHUP:
                self._tell(RELOAD)
            elif number in (signal.SIGTERM, signal.SIGINT):
                self._stop(number)

    def _stop(self, number: int) -> None:
        self._stops += 1
        self._due_s = {}
        if self._stops == 1:
            self._tell(DRAIN)
            return
        self._code = 128 + number
        self._tell(CUT)
        if self._stops > 2:
            for worker in self._workers.values():
                worker.process.kill()

    def _tell(self, word: bytes) -> None:
        for worker in self._workers.values():
            with suppress(OSError):
                worker.control.send(word)
