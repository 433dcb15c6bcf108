"""What else the machine did while something was measured, and what machine it is. Measures no arm."""

from __future__ import annotations

import os
import platform
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import processes

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Quiet:
    """How quiet it was: shares of all cores' time, and the load average before and after."""

    others: float
    """Used by processes that are none of the benchmark's."""
    steal: float
    """Taken by the hypervisor."""
    load_before: float
    load_after: float

    def disturbed(self, limit: float) -> bool:
        """Say whether others had more than `limit` of the machine."""
        return self.others + self.steal > limit


class Watch:
    """Counts from its making until `end`; `pids` are the roots of the benchmark's process trees."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._load = os.getloadavg()[0]
        self._at = time.monotonic()
        self._used, self._steal = _machine_s()
        self._ours = self._ours_s()

    def end(self) -> Quiet:
        """Return what others did since."""
        used, steal = _machine_s()
        room = (time.monotonic() - self._at) * (os.cpu_count() or 1)
        others = max(0.0, used - self._used - (self._ours_s() - self._ours))
        return Quiet(others / room, (steal - self._steal) / room, self._load, os.getloadavg()[0])

    def _ours_s(self) -> float:
        # Children that ended, the load generators, are in the second sum; those that run are in the first.
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        running = sum(processes.cpu_s(pid) for pid in self._pids)
        return running + time.process_time() + ended.ru_utime + ended.ru_stime


def _machine_s() -> tuple[float, float]:
    """Return CPU seconds that processes used on all cores, and that were stolen, since the machine started.

    Interrupts are left out: most of them are the benchmark's own packets, and they belong to no process.
    """
    user, nice, system, _idle, _iowait, _irq, _softirq, steal = (
        int(field) / TICKS_PER_S for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return user + nice + system, steal


def describe() -> str:
    """Return processor, cores, memory, kernel and Python in one line."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}"
    return f"{_processor()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, {system}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
