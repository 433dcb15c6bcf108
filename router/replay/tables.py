"""The tables of a replay's report, from the parsed content of replay.json; formatting only, no figure is computed."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from router.evaluation.document import Table
from router.evaluation.tables import percent

Json = Mapping[str, Any]


def ways_table(replay: Json) -> Table:
    """Every way to choose; money only where it is known, and missing scores only where there are any."""
    shown = {"money": replay["priced"], "missing": any(row["missing"] for row in replay["rows"])}
    money = ("cost per 1,000", "saved", "over zero router", "arena score") if shown["money"] else ()
    missing = ("missing",) if shown["missing"] else ()
    columns = ("", "quality", "95 % interval", "to best single", "gap closed", *money, *missing)
    return Table(columns, [_way(name, row, shown) for name, row in _distinct(replay)])


def curve_table(replay: Json) -> Table:
    """Every curve."""
    columns = ("", "points", "AIQ", "APGR", "CPT50", "CPT80", "saved at equal quality")
    return Table(
        columns,
        [
            (
                curve["name"] + (f" over {curve['parameter']}" if curve["parameter"] else ""),
                str(curve["points"]),
                _number(curve["aiq"]),
                _number(curve["apgr"]),
                _share(curve["cpt50"]),
                _share(curve["cpt80"]),
                _share(curve["saved_at_equal_quality"]),
            )
            for curve in replay["curves"]
        ],
    )


def shares_table(replay: Json) -> Table:
    """Share of the prompts each expert gets; single experts are left out."""
    rows = [(name, row["shares"]) for name, row in _distinct(replay) if row["kind"] != "expert"]
    return Table(
        ("", *replay["experts"]),
        [(name, *(_share(shares[expert]) for expert in replay["experts"])) for name, shares in rows],
    )


def break_even_table(replay: Json) -> Table:
    """The accuracy that is needed."""
    found = replay["break_even"]
    rows = [
        (f"always {replay['generalist']} (generalist)", _needed(found["generalist"])),
        (f"always {replay['best_single']} (best single)", _needed(found["best_single"])),
    ]
    return Table(("to be no worse than", "router accuracy needed"), rows)


def _distinct(replay: Json) -> list[tuple[str, Json]]:
    """Return rows with their names; neighbours of one family that got the same are one row, "balanced 0 to 0.1"."""
    found: list[tuple[str, Json]] = []
    for _, group in groupby(replay["rows"], key=_identity):
        rows = list(group)
        first, last = rows[0], rows[-1]
        roles = f" ({', '.join(first['roles'])})" if first["roles"] else ""
        found.append((first["name"] + roles + (f" to {last['value']}" if last is not first else ""), first))
    return found


def _identity(row: Json) -> tuple[object, ...]:
    return row["family"] or row["name"], row["quality"], row["cost"], tuple(row["shares"].values())


def _way(name: str, row: Json, shown: Mapping[str, bool]) -> tuple[str, ...]:
    money = (
        _money(row["cost"]),
        _share(row["saved"]),
        _signed(row["over_zero_router"]),
        _number(row["arena_score"]),
    )
    return (
        name,
        _number(row["quality"]),
        "-" if row["interval"] is None else "{:.3f} to {:.3f}".format(*row["interval"]),
        _gain(row),
        _share(row["gap_closed"]) if row["kind"] == "policy" else "-",
        *(money if shown["money"] else ()),
        *((percent(row["missing"]),) if shown["missing"] else ()),
    )


def _gain(row: Json) -> str:
    if row["difference"] is None or row["difference_interval"] is None:
        return "-"
    low, high = row["difference_interval"]
    return f"{row['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"


def _needed(accuracy: float | None) -> str:
    return "not even a perfect router" if accuracy is None else percent(accuracy)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else percent(value)


def _money(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
