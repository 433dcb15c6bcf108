"""Quality over the share of calls to strong experts: RouteLLM's metrics. Numbers only, no outcomes.

Source: `routellm/evals/evaluate.py` of lm-sys/RouteLLM, arXiv:2406.18665. Written for two models; here every expert
but the weak one is strong, and the strong quality is that of the best single expert.
"""

from __future__ import annotations

import numpy as np

from router.replay.choices import Floats
from router.replay.curves import TOLERANCE, area


def pgr(quality: float, weak: float, strong: float) -> float | None:
    """Return the performance gap recovered: 0 is the weak expert, 1 the strong one; None without a gap."""
    return (quality - weak) / (strong - weak) if strong > weak + TOLERANCE else None


def apgr(shares: Floats, qualities: Floats, weak: float, strong: float) -> float | None:
    """Return the average performance gap recovered over all shares of strong calls; None without a gap.

    A router that mixes weak and strong calls at random gets 0.5.

    Args:
        shares: float64 (p,), 0 to 1.
        qualities: float64 (p,).
        weak: quality of weak calls alone, where the curve begins.
        strong: quality of strong calls alone, where it ends.
    """
    if not strong > weak + TOLERANCE:
        return None
    x, y = _curve(shares, qualities, weak, strong)
    return (area(x, y) - weak) / (strong - weak)


def cpt(fraction: float, shares: Floats, qualities: Floats, weak: float, strong: float) -> float | None:
    """Return the call-performance threshold: least share of strong calls that recovers a fraction of the gap.

    Quality is taken as the best of up to as many strong calls, which RouteLLM's interpolation silently expects.
    Other arguments as in `apgr`; None without a gap.
    """
    if not strong > weak + TOLERANCE:
        return None
    x, y = _curve(shares, qualities, weak, strong)
    best = np.maximum.accumulate(y)
    target = weak + fraction * (strong - weak)
    reached = int(np.argmax(best >= target - TOLERANCE))
    if reached == 0:
        return float(x[0])
    step = min(1.0, (target - best[reached - 1]) / (best[reached] - best[reached - 1]))
    return float(x[reached - 1] + step * (x[reached] - x[reached - 1]))


def _curve(shares: Floats, qualities: Floats, weak: float, strong: float) -> tuple[Floats, Floats]:
    """Return the points by share with both ends added; RouteLLM's thresholds reach the ends by themselves."""
    x = np.concatenate(([0.0], shares, [1.0]))
    y = np.concatenate(([weak], qualities, [strong]))
    # The ends stay outermost, so that points on them cannot hide them.
    order = np.concatenate(([0], 1 + np.lexsort((qualities, shares)), [len(x) - 1]))
    return x[order], y[order]
