"""The report's pictures as inline SVG; matplotlib is loaded when the first one is drawn and not before."""

from __future__ import annotations

import importlib
import io
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from router.errors import MissingExtraError

Json = Mapping[str, Any]

_INK: Final = "#0b5cad"
_FAINT: Final = "#8c959f"
# Text stays text, names may hold a $, and the ids depend on the picture alone, so that equal figures give equal files.
_SETTINGS: Final = MappingProxyType(
    {"svg.fonttype": "none", "text.parse_math": False, "font.family": "sans-serif", "font.size": 10}
)
_GROUP_ID: Final = re.compile(r'<g id="[^"]*">')


def plots(evaluation: Json) -> dict[str, str]:
    """Draw every picture of the report.

    Args:
        evaluation: parsed content of evaluation.json.

    Returns:
        "reliability", "risk", "confusion" and "latency" to an SVG element.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    painters: dict[str, Callable[[Any, Json], None]] = {
        "reliability": _reliability,
        "risk": _risk,
        "confusion": _confusion,
        "latency": _latency,
    }
    return {name: draw(name, painter, evaluation) for name, painter in painters.items()}


def draw(name: str, paint: Callable[[Any, Json], None], figures: Json) -> str:
    """Return one picture as an SVG element: `paint` is given the axes and the figures.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        matplotlib = importlib.import_module("matplotlib")
        drawing = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise MissingExtraError("matplotlib") from error
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": name}):
        figure = drawing.Figure(figsize=(6.4, 4.4), layout="constrained")
        paint(figure.subplots(), figures)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    drawn = stream.getvalue()
    # The prologue has no place inside HTML, and group ids would repeat from picture to picture.
    element = _GROUP_ID.sub("<g>", drawn[drawn.index("<svg") :]).strip()
    return element.replace("<svg ", f'<svg role="img" aria-label="{name}" ', 1)


def _reliability(axes: Any, evaluation: Json) -> None:
    bins = evaluation["quality"]["overall"]["reliability"]
    largest = max((part["count"] for part in bins), default=1)
    axes.plot([0, 1], [0, 1], color=_FAINT, linestyle="--", label="perfect calibration")
    axes.plot([part["confidence"] for part in bins], [part["accuracy"] for part in bins], color=_INK)
    axes.scatter(
        [part["confidence"] for part in bins],
        [part["accuracy"] for part in bins],
        s=[20 + 180 * part["count"] / largest for part in bins],
        color=_INK,
        label="bins, area by number of prompts",
    )
    axes.set(xlabel="mean confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02), title="Reliability diagram")
    axes.legend(loc="upper left", frameon=False)


def _risk(axes: Any, evaluation: Json) -> None:
    for name, label, colour in (("quality", "all domains", _INK), ("five", "five domains", _FAINT)):
        curve = evaluation[name]["overall"]["selective"]["curve"]
        axes.plot([point["coverage"] for point in curve], [point["risk"] for point in curve], color=colour, label=label)
    axes.set(xlabel="coverage", ylabel="share wrong (risk)", xlim=(0, 1), title="Coverage-risk curve")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", frameon=False)


def _confusion(axes: Any, evaluation: Json) -> None:
    confusion = evaluation["quality"]["overall"]["confusion"]
    labels, counts = confusion["labels"], np.array(confusion["rows"], dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # Drawn as cells and not as an image: an embedded bitmap would blur when the page is zoomed.
    axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=0.5)
    for row, column in np.argwhere(counts > 0).tolist():
        colour = "white" if shares[row, column] > 0.5 else "black"
        place = {"ha": "center", "va": "center", "color": colour, "fontsize": 8}
        axes.text(column + 0.5, row + 0.5, f"{counts[row, column]:.0f}", **place)
    ticks = np.arange(len(labels)) + 0.5
    axes.set_xticks(ticks, labels, rotation=45, ha="right")
    axes.set_yticks(ticks, labels)
    axes.invert_yaxis()
    axes.set(xlabel="predicted", ylabel="label", title="Confusion matrix, shaded by share of the label")


def _latency(axes: Any, evaluation: Json) -> None:
    sweep = evaluation["speed"]["sweep"]
    words = [int(name) for name in sweep]
    for column, style in (("p50_ms", "-"), ("p95_ms", ":")):
        times = [part[column] for part in sweep.values()]
        axes.plot(words, times, color=_INK, linestyle=style, marker="o", label=column.removesuffix("_ms"))
    axes.set_xscale("log", base=2)
    axes.set_xticks(words, [str(count) for count in words])
    axes.set(xlabel="words of the prompt", ylabel="CPU time, ms", title="Extraction and scoring by length")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", frameon=False)
