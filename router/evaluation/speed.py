"""CPU time per prompt, by length, and the memory of the process that measures."""

from __future__ import annotations

import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.evaluation.rounding import rounded
from router.features import extract_text
from router.prompts import Prompt
from router.scores import ScoreBatch, Scorer

WORD_LIMITS: Final = (16, 32, 64, 128, 256, 512, 2048, 8192)
_SWEEP_REPEATS: Final = 5
_REPORT_EVERY: Final = 500


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Milliseconds of CPU time per prompt, all threads together; zeros when there was none."""

    count: int
    mean_ms: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Speed:
    """What scoring costs, prompt by prompt, as the gateway scores.

    Attributes:
        machine: processor architecture.
        overall: scoring of all prompts.
        by_words: largest number of words ("16", "32", ... "8192", "more") to the scoring of the prompts that have
            at most that many before `extract` bounds them; lengths that do not occur are left out.
        sweep: number of words to `extract_text` and scoring of texts that long, made of the prompts joined together.
        tiers: tier to the share of prompts it answered.
    """

    machine: str
    overall: CpuTime
    by_words: dict[str, CpuTime]
    sweep: dict[str, CpuTime]
    tiers: dict[str, float]


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of the measuring process, which also holds the prompts; None where the system does not tell.

    Attributes:
        peak_rss_bytes: largest resident set so far.
        rss_bytes: resident set after scoring.
    """

    peak_rss_bytes: int | None
    rss_bytes: int | None


def score_prompts(
    scorer: Scorer, prompts: Sequence[Prompt], progress: Callable[[str], None] = lambda line: None
) -> tuple[ScoreBatch, NDArray[np.float64]]:
    """Score n prompts one by one, as the gateway does; return the scores and the CPU seconds (n,) of each."""
    rows: list[ScoreBatch] = []
    seconds = np.zeros(len(prompts))
    scorer.score(["Hello"])  # The first call pays for what is set up late.
    for index, prompt in enumerate(prompts):
        started = time.process_time()
        rows.append(scorer.score([prompt.text]))
        seconds[index] = time.process_time() - started
        if (index + 1) % _REPORT_EVERY == 0:
            progress(f"scored {index + 1} of {len(prompts)}")
    return _joined(scorer.labels, rows), seconds


def speed(scorer: Scorer, prompts: Sequence[Prompt], scores: ScoreBatch, seconds: NDArray[np.float64]) -> Speed:
    """Sum up the CPU seconds (n,) of n scored prompts, and time every length once more on joined prompts."""
    buckets = np.array([_bucket(prompt.words or len(prompt.text.split())) for prompt in prompts], dtype=np.str_)
    tiers = Counter(scores.tiers)
    return Speed(
        machine=platform.machine(),
        overall=cpu_time(seconds),
        by_words={
            name: cpu_time(seconds[buckets == name]) for name in (*map(str, WORD_LIMITS), "more") if name in buckets
        },
        sweep={str(words): _timed(scorer, prompts, words) for words in WORD_LIMITS},
        tiers={tier: rounded(count / len(prompts)) for tier, count in sorted(tiers.items())},
    )


def cpu_time(seconds: NDArray[np.float64]) -> CpuTime:
    """Sum up CPU seconds (n,)."""
    if not len(seconds):
        return CpuTime(0, 0.0, 0.0, 0.0)
    p50, p95 = np.percentile(seconds, (50, 95))
    return CpuTime(len(seconds), *(rounded(value * 1e3) for value in (seconds.mean(), p50, p95)))


def memory() -> Memory:
    """Read the memory of this process."""
    return Memory(_peak_rss_bytes(), _rss_bytes())


def _joined(labels: tuple[str, ...], rows: Sequence[ScoreBatch]) -> ScoreBatch:
    if not rows:
        return ScoreBatch.plain(labels, np.empty((0, len(labels)), dtype=np.float32))
    return ScoreBatch(
        labels,
        np.concatenate([row.probabilities for row in rows]),
        np.concatenate([row.out_of_domain for row in rows]),
        np.concatenate([row.disagreement for row in rows]),
        tuple(tier for row in rows for tier in row.tiers),
    )


def _bucket(words: int) -> str:
    return next((str(limit) for limit in WORD_LIMITS if words <= limit), "more")


def _timed(scorer: Scorer, prompts: Sequence[Prompt], words: int) -> CpuTime:
    seconds = np.zeros(_SWEEP_REPEATS)
    for repeat in range(_SWEEP_REPEATS):
        text = _text_of(prompts, words, start=repeat * max(1, len(prompts) // _SWEEP_REPEATS))
        started = time.process_time()
        scorer.score([extract_text(text).text])
        seconds[repeat] = time.process_time() - started
    return cpu_time(seconds)


def _text_of(prompts: Sequence[Prompt], words: int, start: int) -> str:
    """Join prompts from `start` on, round and round, until there are enough words."""
    taken: list[str] = []
    position = start
    while len(taken) < words:
        taken += prompts[position % len(prompts)].text.split() if prompts else []
        taken += () if taken else ("word",)
        position += 1
    return " ".join(taken[:words])


def _peak_rss_bytes() -> int | None:
    try:
        import resource
    except ImportError:  # Windows has no such module.
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _rss_bytes() -> int | None:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:  # Only Linux has it.
        return None
    line = next((line for line in status.splitlines() if line.startswith("VmRSS:")), None)
    return int(line.split()[1]) * 1024 if line else None
