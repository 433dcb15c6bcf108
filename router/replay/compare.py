"""Sets ways to choose side by side on the same recorded outcomes. It draws nothing but bootstrap samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.errors import DataError
from router.replay import baselines
from router.replay.arena import arena_score
from router.replay.bootstrap import bootstrap_means, interval
from router.replay.choices import Contender, Family, Floats, Recorded, contenders, mean_known
from router.replay.curves import TOLERANCE, aiq, cost_at, hull, quality_at
from router.replay.noise import BreakEven, Noisy, break_even, noise
from router.replay.result import Curve, Kind, Replay, Row, known
from router.replay.shares import apgr, cpt, pgr
from router.replay.terms import Terms

ZERO_ROUTER = "zero router"


@dataclass(frozen=True, slots=True)
class Frame:
    """What every row is held against. Qualities are means, NaN where there is none.

    Attributes:
        recorded: the outcomes.
        generalist: its column.
        best: column of the best single expert, which is also the strong one.
        weak: column of the weak one.
        best_quality: of the best single expert.
        best_cost: its mean cost.
        weak_quality: of the weak expert.
        oracle: quality of the domain oracle, None without groups.
        singles: hull of the single experts, None without prices.
        largest_cost: of all single experts and policies.
    """

    recorded: Recorded
    generalist: int
    best: int
    weak: int
    best_quality: float
    best_cost: float
    weak_quality: float
    oracle: float | None
    singles: Floats | None
    largest_cost: float


def compare(recorded: Recorded, families: Sequence[Family], terms: Terms) -> Replay:
    """Compare policies with all baselines on n prompts.

    Args:
        recorded: outcomes.
        families: choices of the policies.
        terms: who the generalist is, and what else is to be known.

    Raises:
        DataError: no prompts, or choices, groups or the generalist do not fit the outcomes.
    """
    if not len(recorded) or terms.generalist not in recorded.experts:
        raise DataError(f"no prompts, or no expert {terms.generalist!r} among: {', '.join(recorded.experts)}")
    singles = [baselines.always(recorded, column) for column in range(len(recorded.experts))]
    oracles = _oracles(recorded, terms.groups)
    played = [contenders(recorded, family) for family in families]
    policies = [point for points in played for point in points]
    knows_groups = oracles[0].mean_quality if terms.groups is not None else None
    covered = [single for single, usable in zip(singles, recorded.covered, strict=True) if usable]
    frame = _frame(recorded, recorded.experts.index(terms.generalist), knows_groups, [*covered, *policies])
    everyone: list[tuple[Kind, Contender]] = [("expert", single) for single in singles]
    everyone.append(("chance", baselines.random(recorded)))
    everyone += [("oracle", chooser) for chooser in oracles]
    everyone += [("policy", point) for point in policies]
    curves = [_curve(frame, ZERO_ROUTER, "", covered)]
    curves += [
        _curve(frame, family.name, family.parameter, points) for family, points in zip(families, played, strict=True)
    ]
    return Replay(
        title=terms.title,
        prompts=len(recorded),
        experts=recorded.experts,
        generalist=terms.generalist,
        best_single=recorded.experts[frame.best],
        weak=recorded.experts[frame.weak],
        priced=recorded.priced,
        currency=terms.currency,
        labels=terms.labels if terms.groups is not None else "",
        draws=terms.draws,
        seed=terms.seed,
        notes=terms.notes,
        rows=_rows(frame, everyone, terms),
        curves=tuple(curves),
        break_even=None if terms.noisy is None else _break_even(frame, terms.noisy),
    )


def _oracles(recorded: Recorded, groups: Sequence[str] | None) -> list[Contender]:
    if groups is None:
        return [baselines.prompt_oracle(recorded)]
    if len(groups) != len(recorded):
        raise DataError(f"{len(groups)} groups do not fit {len(recorded)} prompts")
    return [baselines.domain_oracle(recorded, groups), baselines.prompt_oracle(recorded)]


def _frame(recorded: Recorded, generalist: int, oracle: float | None, compared: Sequence[Contender]) -> Frame:
    best = recorded.best_single()
    costs = np.array([contender.mean_cost for contender in compared])
    means, prices = recorded.mean_scores, recorded.mean_cost
    points = np.column_stack((prices, means))[~np.isnan(prices) & recorded.covered]
    weak = _weak(recorded, generalist, best)
    return Frame(
        recorded,
        generalist,
        best,
        weak,
        float(means[best]),
        float(prices[best]),
        float(means[weak]),
        oracle,
        hull(points) if recorded.priced and len(points) else None,
        float(np.max(costs[~np.isnan(costs)], initial=0.0)),
    )


def _weak(recorded: Recorded, generalist: int, best: int) -> int:
    """Return the generalist; where that is the best expert, the cheapest other one, or the worst without prices."""
    if generalist != best or recorded.covered.sum() < 2:
        return generalist
    return recorded.cheapest(but=best) if recorded.priced else recorded.worst_single()


def _rows(frame: Frame, everyone: Sequence[tuple[Kind, Contender]], terms: Terms) -> tuple[Row, ...]:
    qualities = np.stack([contender.quality for _, contender in everyone])
    differences = qualities - qualities[frame.best]
    edges = interval(bootstrap_means(np.vstack((qualities, differences)), terms.draws, terms.seed))
    means = mean_known(differences)
    return tuple(
        _row(frame, contender, kind, edges[index], edges[len(everyone) + index], float(means[index]))
        for index, (kind, contender) in enumerate(everyone)
    )


def _row(frame: Frame, contender: Contender, kind: Kind, edges: Floats, gains: Floats, difference: float) -> Row:
    quality = contender.mean_quality
    cost = known(contender.mean_cost) if frame.recorded.priced else None
    return Row(
        name=contender.name,
        kind=kind,
        roles=_roles(frame, contender.name) if kind == "expert" else (),
        family=contender.family,
        value=contender.value,
        quality=known(quality),
        interval=_pair(edges),
        difference=known(difference),
        difference_interval=_pair(gains),
        cost=None if cost is None else cost * 1000,
        saved=_saved(frame, cost),
        gap_closed=_gap_closed(frame, quality),
        over_zero_router=_over_zero_router(frame, quality, cost),
        pgr=known(pgr(quality, frame.weak_quality, frame.best_quality)),
        arena_score=None if cost is None or known(quality) is None else arena_score(quality, cost * 1000),
        missing=contender.missing,
        shares=tuple(contender.shares.tolist()),
    )


def _roles(frame: Frame, name: str) -> tuple[str, ...]:
    roles = {"generalist": frame.generalist, "best single": frame.best}
    if frame.recorded.priced:
        roles["cheapest"] = frame.recorded.cheapest()
    return tuple(role for role, column in roles.items() if frame.recorded.experts[column] == name)


def _saved(frame: Frame, cost: float | None) -> float | None:
    return 1 - cost / frame.best_cost if cost is not None and frame.best_cost > 0 else None


def _gap_closed(frame: Frame, quality: float) -> float | None:
    if frame.oracle is None or frame.oracle <= frame.best_quality + TOLERANCE:
        return None
    return known((quality - frame.best_quality) / (frame.oracle - frame.best_quality))


def _over_zero_router(frame: Frame, quality: float, cost: float | None) -> float | None:
    if frame.singles is None or cost is None:
        return None
    mixed = quality_at(frame.singles, cost)
    return None if mixed is None else known(quality - mixed)


def _curve(frame: Frame, name: str, parameter: str, points: Sequence[Contender]) -> Curve:
    """Work out one curve; points without a quality or cost are left out of it."""
    qualities = np.array([point.mean_quality for point in points])
    costs = np.array([point.mean_cost for point in points])
    whole = ~np.isnan(qualities) & ~np.isnan(costs)
    pairs = np.column_stack((costs, qualities))[whole]
    corners = hull(pairs) if frame.recorded.priced and len(pairs) else None
    strong = np.array([1 - point.shares[frame.weak] for point in points])[whole]
    mixes = name == ZERO_ROUTER or len(pairs) < 2
    figures = (strong, qualities[whole], frame.weak_quality, frame.best_quality)
    return Curve(
        name=name,
        parameter=parameter,
        points=len(points),
        aiq=aiq(pairs, frame.largest_cost) if corners is not None and len(pairs) > 1 else None,
        apgr=None if mixes else apgr(*figures),
        cpt50=None if mixes else cpt(0.5, *figures),
        cpt80=None if mixes else cpt(0.8, *figures),
        saved_at_equal_quality=None if corners is None else _saved(frame, cost_at(corners, frame.best_quality)),
        hull=() if corners is None else tuple((cost * 1000, quality) for cost, quality in corners.tolist()),
    )


def _break_even(frame: Frame, noisy: Noisy) -> BreakEven:
    sums = noise(frame.recorded.scores, noisy.by_domain, noisy.actual)
    generalist = float(frame.recorded.mean_scores[frame.generalist])
    return break_even(noisy, sums, generalist=generalist, best=frame.best_quality)


def _pair(edges: Floats) -> tuple[float, float] | None:
    return None if np.isnan(edges).any() else (float(edges[0]), float(edges[1]))
