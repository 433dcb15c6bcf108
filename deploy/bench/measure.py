"""Measures a case against an arm: load, CPU by the kernel, memory, and what else the machine did. Prints nothing."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import processes
from arms import Arm
from cases import Case
from load import Load, LoadFailed
from machine import Quiet, Watch

SAMPLE_S = 0.25


@dataclass(frozen=True, slots=True)
class Setting:
    """What all measurements of a run share."""

    folder: Path
    seconds: float
    wrk: str | None
    upstream_pid: int
    attempts: int
    """How often a disturbed measurement is tried; the quietest counts."""
    limit: float
    """Share of the machine that others may use."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. Times in milliseconds; NaN where a figure does not apply."""

    turn: int
    case: str
    arm: str
    load: Load
    cpu_us: float
    """CPU of the arm per answer, its children included."""
    rss_mib: float
    growth_mib: float
    """Memory gained per 10,000 answers in the second half of the time: slope of a line through the samples."""
    quiet: Quiet
    attempts: int
    disturbed: bool

    def flat(self) -> dict[str, Any]:
        """Return it as a row of a table."""
        whole = asdict(self)
        parts = whole.pop("load") | whole.pop("quiet")
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in (whole | parts).items()}


def measured(setting: Setting, turn: int, case: Case, arm: Arm, answers_per_s: float) -> Row:
    """Measure until undisturbed, at most `attempts` times, and return the quietest attempt.

    Raises:
        LoadFailed: the generator broke in every attempt.
    """
    best: Row | None = None
    broke: LoadFailed | None = None
    for attempt in range(1, setting.attempts + 1):
        try:
            row = _once(setting, turn, case, arm, case.seconds(setting.seconds, answers_per_s), attempt)
        except LoadFailed as error:
            broke = error
            continue
        if best is None or row.quiet.others + row.quiet.steal < best.quiet.others + best.quiet.steal:
            best = row
        if not row.disturbed:
            return row
    if best is None:
        assert broke is not None
        raise broke
    return best


def _once(setting: Setting, turn: int, case: Case, arm: Arm, seconds: float, attempt: int) -> Row:
    arm.settle()
    pids = [setting.upstream_pid, *([arm.pid] if arm.pid is not None else [])]
    watch = Watch(pids)
    before = processes.cpu_s(arm.pid) if arm.pid is not None else 0.0
    with Memory(arm.pid) as memory:
        load = case.send(arm, setting.folder, seconds, setting.wrk)
    cpu_s = processes.cpu_s(arm.pid) - before if arm.pid is not None else float("nan")
    quiet = watch.end()
    arm.trim_log()
    return Row(
        turn=turn,
        case=case.name,
        arm=arm.name,
        load=load,
        cpu_us=cpu_s / load.requests * 1e6 if load.requests else float("nan"),
        rss_mib=memory.last_mib,
        growth_mib=memory.slope_mib_per_s() / max(load.per_s, 1e-9) * 10_000,
        quiet=quiet,
        attempts=attempt,
        disturbed=quiet.disturbed(setting.limit),
    )


class Memory:
    """Samples a process tree's memory while its block runs."""

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._samples: list[float] = []
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def last_mib(self) -> float:
        """Memory at the end."""
        return self._samples[-1] if self._samples else float("nan")

    def slope_mib_per_s(self) -> float:
        """Return the slope of the least-squares line through the second half; the first is warming up."""
        late = self._samples[len(self._samples) // 2 :]
        if len(late) < 2:
            return float("nan")
        middle, mean = (len(late) - 1) / 2, sum(late) / len(late)
        above = sum((at - middle) * (value - mean) for at, value in enumerate(late))
        return above / sum((at - middle) ** 2 for at in range(len(late))) / SAMPLE_S

    def _sample(self) -> None:
        while self._pid is not None and not self._ended.wait(SAMPLE_S):
            self._samples.append(processes.rss_mib(self._pid))
