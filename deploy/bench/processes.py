"""What the kernel counted for a process and its descendants: CPU time and memory. Starts and ends nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path


def tree(root: int) -> list[int]:
    """Return the ids of a process and all its descendants; those that ended in the meantime are left out."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return found


def cpu_s(root: int) -> float:
    """Return seconds of CPU that the tree has used, user and system, all threads.

    It is the sum of utime and stime in /proc/PID/stat, but read from each process's CPU clock, which counts
    nanoseconds where /proc counts ticks of 10 ms. Source: clock_getcpuclockid(3); the id is computed as in glibc.
    """
    return sum(_clock_s(pid) for pid in tree(root))


def _clock_s(pid: int) -> float:
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0  # it ended


def rss_mib(root: int) -> float:
    """Return the resident memory of the tree in MiB; pages that several of its processes share count in each."""
    pages = 0
    for pid in tree(root):
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
