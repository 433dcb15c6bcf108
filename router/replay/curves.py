"""Quality over cost: the hull of points, its area, and where it reaches a quality. Points in, numbers out."""

from __future__ import annotations

from typing import Final

import numpy as np

from router.replay.choices import Floats

TOLERANCE: Final = 1e-12
"""Qualities that are equal on paper may differ by this much."""


def hull(points: Floats) -> Floats:
    """Return the non-decreasing convex hull of points, from the cheapest to the best.

    What lies on it can be had by drawing between two points at random; that is RouterBench's "zero router" when the
    points are single experts.

    Args:
        points: float64 (p, 2), columns cost and quality, all finite, at least one.

    Returns:
        float64 (h, 2), costs and qualities both rising.

    Source: `get_non_descreasing_convex_hull_of`, withmartian/routerbench `evaluation/AIQ.py`, arXiv:2403.12031.
    """
    corners: list[tuple[float, float]] = []
    for cost, quality in points[np.lexsort((-points[:, 1], points[:, 0]))].tolist():
        if corners and quality <= corners[-1][1]:
            continue
        while len(corners) > 1 and _below(corners[-2], corners[-1], (cost, quality)):
            corners.pop()
        corners.append((cost, quality))
    return np.array(corners, dtype=np.float64)


def aiq(points: Floats, largest_cost: float) -> float | None:
    """Return the average improvement in quality of a family of points; None when nothing costs anything.

    The area under the hull, drawn flat on to `largest_cost`, divided by it. Below the cheapest point there is no area.
    That is the published code; the paper divides by the range of costs instead.

    Args:
        points: float64 (p, 2), columns cost and quality.
        largest_cost: of all that is compared, at least that of every point.

    Source: `calc_AIQ`, withmartian/routerbench `evaluation/AIQ.py`, arXiv:2403.12031.
    """
    if largest_cost <= 0:
        return None
    corners = hull(points)
    curve = np.vstack((corners, (largest_cost, corners[-1, 1])))
    return area(curve[:, 0], curve[:, 1]) / largest_cost


def quality_at(corners: Floats, cost: float) -> float | None:
    """Return the quality a hull reaches at a cost; None below its cheapest point."""
    if cost < corners[0, 0]:
        return None
    return float(np.interp(cost, corners[:, 0], corners[:, 1]))


def cost_at(corners: Floats, quality: float) -> float | None:
    """Return the least cost at which a hull reaches a quality; None when it never does."""
    if quality > corners[-1, 1] + TOLERANCE:
        return None
    return float(np.interp(quality, corners[:, 1], corners[:, 0]))


def area(x: Floats, y: Floats) -> float:
    """Return the area under straight lines through points whose x never falls."""
    return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2)


def _below(first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]) -> bool:
    """Tell whether the middle point lies on or under the line from the first to the last."""
    rise = (middle[1] - first[1]) * (last[0] - first[0])
    return rise <= (last[1] - first[1]) * (middle[0] - first[0])
