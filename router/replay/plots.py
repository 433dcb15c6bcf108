"""The pictures of a replay's report as inline SVG; matplotlib is loaded when the first one is drawn and not before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from router.evaluation.plots import draw

Json = Mapping[str, Any]

_COLOURS: Final = ("#0b5cad", "#b35900", "#1a7f37", "#8250df", "#bf3989", "#57606a")
_FAINT: Final = "#8c959f"


def plots(replay: Json) -> dict[str, str]:
    """Draw every picture of the report.

    Args:
        replay: parsed content of replay.json.

    Returns:
        "cost" (with prices), "calls", and "accuracy" (with a break-even) to an SVG element.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    painters: dict[str, Callable[[Any, Json], None]] = {"calls": _calls}
    if replay["priced"]:
        painters["cost"] = _cost
    if replay["break_even"] is not None:
        painters["accuracy"] = _accuracy
    return {name: draw(name, painter, replay) for name, painter in painters.items()}


def _cost(axes: Any, replay: Json) -> None:
    known = [row for row in replay["rows"] if row["cost"] is not None and row["quality"] is not None]
    largest = max((row["cost"] for row in known), default=1.0)
    for row in (row for row in known if row["kind"] == "expert"):
        axes.scatter([row["cost"]], [row["quality"]], color=_FAINT, s=30)
        inwards = {"ha": "right", "xytext": (-4, -9)} if row["cost"] > largest / 2 else {"xytext": (4, -9)}
        axes.annotate(row["name"], (row["cost"], row["quality"]), textcoords="offset points", fontsize=7, **inwards)
    for row, marker in zip((row for row in known if row["kind"] in ("chance", "oracle")), "x^*", strict=False):
        axes.scatter([row["cost"]], [row["quality"]], color="black", marker=marker, label=row["name"], zorder=3)
    for curve, colour in zip(replay["curves"], (_FAINT, *_COLOURS * 4), strict=False):
        _hull(axes, curve, colour, largest)
        points = [(row["cost"], row["quality"]) for row in known if row["family"] == curve["name"]]
        if points:
            axes.scatter(*zip(*points, strict=True), color=colour, s=14)
    axes.set(
        xlabel=f"{replay['currency']} per 1,000 requests", ylabel="quality", title="Quality and cost, with the hulls"
    )
    _legend(axes)


def _hull(axes: Any, curve: Json, colour: str, largest: float) -> None:
    if curve["hull"]:
        corners = [*curve["hull"], [largest, curve["hull"][-1][1]]]
        axes.plot(*zip(*corners, strict=True), color=colour, label=curve["name"], linewidth=1.2)


def _calls(axes: Any, replay: Json) -> None:
    for curve, colour in zip(replay["curves"][1:], _COLOURS * 4, strict=False):
        points = sorted(_strong(replay, curve["name"]))
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=4, label=curve["name"])
    qualities = {row["name"]: row["quality"] for row in replay["rows"] if row["kind"] == "expert"}
    ends = (qualities[replay["weak"]], qualities[replay["best_single"]])
    if ends[0] is not None:
        axes.plot((0, 1), ends, color=_FAINT, linestyle="--", label="weak and strong mixed at random")
    axes.set(
        xlabel=f"share of calls to others than {replay['weak']}",
        ylabel="quality",
        xlim=(0, 1),
        title="Quality and share of strong calls",
    )
    _legend(axes)


def _strong(replay: Json, family: str) -> Iterator[tuple[float, float]]:
    for row in replay["rows"]:
        if row["family"] == family and row["quality"] is not None:
            yield 1 - row["shares"][replay["weak"]], row["quality"]


def _accuracy(axes: Any, replay: Json) -> None:
    found = replay["break_even"]
    axes.plot(*zip(*found["curve"], strict=True), color=_COLOURS[0], label=found["policy"])
    qualities = {row["name"]: row["quality"] for row in replay["rows"] if row["kind"] == "expert"}
    for name, style in {replay["generalist"]: ":", replay["best_single"]: "--"}.items():
        if qualities[name] is not None:
            axes.axhline(qualities[name], color=_FAINT, linestyle=style, label=f"always {name}")
    axes.set(xlabel="router accuracy", ylabel="quality", xlim=(0, 1), title="Quality under label noise")
    _legend(axes)


def _legend(axes: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", frameon=False, fontsize=8)
