"""Everything one replay found out, as values and as JSON; nothing is computed here.

`import router` brings this, so that reports are imported when one is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final, Literal

from router.replay.noise import BreakEven

SCHEMA: Final = 1
Kind = Literal["expert", "chance", "oracle", "policy"]


@dataclass(frozen=True, slots=True)
class Row:
    """One way to choose. What cannot be told (no prices, no gap, nothing scored) is None.

    Attributes:
        name: an expert, a baseline, or a policy with its parameter's value.
        kind: a single expert, chance, an oracle, or a policy.
        roles: of a single expert: generalist, best single, cheapest.
        family: its policy, "" for a baseline.
        value: its policy's parameter.
        quality: mean score over prompts whose chosen expert was scored.
        interval: 95 % bootstrap interval of the quality.
        difference: mean paired difference to the best single expert.
        difference_interval: its 95 % interval.
        cost: money per 1,000 requests.
        saved: share of the best single expert's cost that is saved; negative when it costs more.
        gap_closed: share of the gap from the best single expert to the domain oracle.
        over_zero_router: quality above a random mix of single experts of the same cost.
        pgr: performance gap recovered between the weak and the strong expert.
        arena_score: RouterArena's.
        missing: share of the prompts whose chosen expert was not scored.
        shares: share of the prompts per expert, in the order of the replay's experts.
    """

    name: str
    kind: Kind
    roles: tuple[str, ...]
    family: str
    value: str
    quality: float | None
    interval: tuple[float, float] | None
    difference: float | None
    difference_interval: tuple[float, float] | None
    cost: float | None
    saved: float | None
    gap_closed: float | None
    over_zero_router: float | None
    pgr: float | None
    arena_score: float | None
    missing: float
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """A family of choices as one curve. What cannot be told is None.

    Attributes:
        name: the policy, or "zero router" for random mixes of single experts.
        parameter: what is varied.
        points: how many points it has.
        aiq: RouterBench's area under the non-decreasing hull; of two points or more.
        apgr: RouteLLM's average performance gap recovered.
        cpt50: least share of strong calls that recovers half the gap.
        cpt80: the same for 80 % of it.
        saved_at_equal_quality: share of the best single expert's cost that is saved where the hull is as good.
        hull: corners of the hull as pairs of cost per 1,000 requests and quality.
    """

    name: str
    parameter: str
    points: int
    aiq: float | None
    apgr: float | None
    cpt50: float | None
    cpt80: float | None
    saved_at_equal_quality: float | None
    hull: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Replay:
    """What `pointsman replay` prints and writes.

    Attributes:
        title: what was replayed.
        prompts: how many.
        experts: names, in the order of every row's shares.
        generalist: name of the generalist.
        best_single: name of the expert that is best on these very prompts.
        weak: the expert whose calls do not count for PGR, APGR and CPT; the strong one is the best single.
        priced: whether costs are known; without them everything about money is None.
        currency: of the costs.
        labels: what the domain oracle knows, "" when there is none.
        draws: bootstrap draws.
        seed: seeds them, and what the caller drew.
        notes: what a reader must know about these figures, in sentences.
        rows: baselines first.
        curves: the zero router first.
        break_even: how accurate the router must be; None when it was not worked out.
    """

    title: str
    prompts: int
    experts: tuple[str, ...]
    generalist: str
    best_single: str
    weak: str
    priced: bool
    currency: str
    labels: str
    draws: int
    seed: int
    notes: tuple[str, ...]
    rows: tuple[Row, ...]
    curves: tuple[Curve, ...]
    break_even: BreakEven | None

    def row(self, name: str) -> Row:
        """Return the row of that name; KeyError when there is none."""
        found = next((row for row in self.rows if row.name == name), None)
        if found is None:
            raise KeyError(name)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types: the content of replay.json. Money to six digits, everything else to four places."""
        named = {name: getattr(self, name) for name in ("title", "prompts", "generalist", "best_single", "weak")}
        told = {name: getattr(self, name) for name in ("priced", "currency", "labels", "draws", "seed")}
        return {
            "schema": SCHEMA,
            **named,
            **told,
            "experts": list(self.experts),
            "notes": list(self.notes),
            "rows": [_row(row, self.experts) for row in self.rows],
            "curves": [_curve(curve) for curve in self.curves],
            "break_even": None if self.break_even is None else self.break_even.as_dict(),
        }

    def text(self) -> str:
        """Return the report as plain text with aligned columns."""
        from router.replay.report import render_text

        return render_text(self.as_dict())

    def markdown(self) -> str:
        """Return the report as Markdown, report.md."""
        from router.replay.report import render_markdown

        return render_markdown(self.as_dict())

    def write(self, folder: Path) -> list[Path]:
        """Write replay.json, report.md and report.html into `folder`, which is made when missing.

        Raises:
            MissingExtraError: matplotlib is not installed; the first two files are there all the same.
        """
        from router.replay.report import write_report

        return write_report(self.as_dict(), folder)


def known(value: float | None) -> float | None:
    """Return a plain float, None for what is not a number."""
    return None if value is None or not isfinite(value) else float(value)


def _row(row: Row, experts: tuple[str, ...]) -> dict[str, Any]:
    plain = ("quality", "difference", "saved", "gap_closed", "over_zero_router", "pgr", "arena_score", "missing")
    pairs = ("interval", "difference_interval")
    return {
        **{name: getattr(row, name) for name in ("name", "kind", "family", "value")},
        "roles": list(row.roles),
        "cost": _money(row.cost),
        **{name: _short(getattr(row, name)) for name in plain},
        **{name: None if (pair := getattr(row, name)) is None else list(map(_short, pair)) for name in pairs},
        "shares": {name: _short(share) for name, share in zip(experts, row.shares, strict=True)},
    }


def _curve(curve: Curve) -> dict[str, Any]:
    figures = ("aiq", "apgr", "cpt50", "cpt80", "saved_at_equal_quality")
    return {
        **{name: getattr(curve, name) for name in ("name", "parameter", "points")},
        **{name: _short(getattr(curve, name)) for name in figures},
        "hull": [[_money(cost), _short(quality)] for cost, quality in curve.hull],
    }


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4) + 0.0  # no -0.0


def _money(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
