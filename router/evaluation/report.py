"""Turn evaluation.json into a report people read: report.md always, report.html where matplotlib is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from router.evaluation.document import Section, markdown, page
from router.evaluation.plots import plots
from router.evaluation.tables import (
    abstention_table,
    confusion_table,
    consistency_table,
    contender_table,
    decision_table,
    domain_table,
    group_table,
    percent,
    selective_table,
    separation_table,
    speed_table,
)

Json = Mapping[str, Any]

JSON_FILE: Final = "evaluation.json"
MARKDOWN_FILE: Final = "report.md"
HTML_FILE: Final = "report.html"


def write_report(evaluation: Json, folder: Path) -> list[Path]:
    """Write evaluation.json, report.md and report.html into `folder`; return their paths.

    Raises:
        MissingExtraError: matplotlib is not installed; the first two files are written before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in (JSON_FILE, MARKDOWN_FILE, HTML_FILE)]
    paths[0].write_text(json.dumps(evaluation, ensure_ascii=False) + "\n", encoding="utf-8")
    paths[1].write_text(render_markdown(evaluation), encoding="utf-8")
    paths[2].write_text(render_html(evaluation), encoding="utf-8")
    return paths


def render_markdown(evaluation: Json) -> str:
    """Return the report as Markdown; needs no further library."""
    return markdown(_title(evaluation), sections(evaluation))


def render_html(evaluation: Json) -> str:
    """Return the report as one HTML page with its plots inside; MissingExtraError without matplotlib."""
    return page(_title(evaluation), sections(evaluation), plots(evaluation))


def sections(evaluation: Json) -> list[Section]:
    """Return the parts of the report in reading order; what was not measured has no part."""
    return [
        _summary(evaluation),
        *_quality(evaluation),
        *_groups(evaluation),
        *_decisions(evaluation),
        *_robustness(evaluation),
        *_cost(evaluation),
    ]


def _title(evaluation: Json) -> str:
    return f"Evaluation of {evaluation['artifact']}"


def _summary(evaluation: Json) -> Section:
    overall, mean, five = evaluation["quality"]["overall"], evaluation["source_mean"], evaluation["five"]["overall"]
    low, high = overall["interval"]
    return Section(
        "Summary",
        f"{overall['count']} prompts from {mean['sources']} sources, {evaluation['skipped']} more left out because the "
        f"classifier does not know their label. Accuracy {percent(overall['accuracy'])} (95 % interval {percent(low)} "
        f"to {percent(high)}), mean over sources {percent(mean['accuracy'])}, collapsed to five domains "
        f"{percent(five['accuracy'])}. A prediction that a row names as a fair alternative counts as right.",
    )


def _quality(evaluation: Json) -> list[Section]:
    overall = evaluation["quality"]["overall"]
    return [
        Section("Against baselines", "Pooled over all prompts, the same for each.", contender_table(evaluation)),
        Section("Domains", "", domain_table(overall)),
        Section("Domains, collapsed to five", "", domain_table(evaluation["five"]["overall"])),
        Section("Confusion matrix", "A row is a label, a column a prediction.", confusion_table(overall), "confusion"),
        Section(
            "Reliability",
            f"Expected calibration error {overall['ece']:.3f} over 15 bins, Brier score {overall['brier']:.3f}.",
            plot="reliability",
        ),
        Section(
            "Coverage and risk",
            f"Area under the coverage-risk curve {overall['selective']['aurc']:.3f}; lower is better.",
            selective_table(evaluation),
            "risk",
        ),
    ]


def _groups(evaluation: Json) -> list[Section]:
    titles = {
        "sets": "Sets of prompts",
        "sources": "Sources",
        "languages": "Languages",
        "kinds": "Kinds",
        "styles": "Styles",
    }
    text = "To the generalist: abstained on or predicted general. Wrong specialist: share of the group's prompts."
    return [
        Section(title, text, group_table(evaluation, name))
        for name, title in titles.items()
        if evaluation["quality"][name]
    ]


def _decisions(evaluation: Json) -> list[Section]:
    return [
        Section("Decisions at the classifier's own thresholds", _thresholds(evaluation), decision_table(evaluation)),
        Section("Why prompts were abstained on", "", abstention_table(evaluation)),
        Section(
            "Telling prompts for the generalist apart",
            f"{evaluation['out_of_domain']['generalist_prompts']} prompts labelled general or from odd or steering "
            f"sources against {evaluation['out_of_domain']['other_prompts']} others.",
            separation_table(evaluation["out_of_domain"]),
        ),
    ]


def _thresholds(evaluation: Json) -> str:
    limits = evaluation["thresholds"]
    domains = ", ".join(f"{domain} {value:.2f}" for domain, value in sorted(limits["confidence"].items()))
    return (
        f"Smallest confidence {limits['default_confidence']:.2f}{f' ({domains})' if domains else ''}, smallest margin "
        f"{limits['margin']:.2f}, largest out-of-domain score {limits['out_of_domain']:.2f}, largest disagreement "
        f"{limits['disagreement']:.2f}."
    )


def _robustness(evaluation: Json) -> list[Section]:
    figures = evaluation["consistency"]
    if figures is None:
        return []
    text = f"Share of {figures['count']} sampled prompts that keep their route when the prompt is changed harmlessly."
    return [Section("Consistency", text, consistency_table(figures))]


def _cost(evaluation: Json) -> list[Section]:
    peak = evaluation["memory"]["peak_rss_bytes"]
    tiers = ", ".join(f"{tier or 'only tier'} {percent(share)}" for tier, share in evaluation["speed"]["tiers"].items())
    text = f"CPU time per prompt on {evaluation['speed']['machine']}, all threads together. Answered by: {tiers}."
    text += f" Peak memory of the process {peak / 2**20:.0f} MiB." if peak is not None else ""
    return [Section("Speed and memory", text, speed_table(evaluation["speed"]), "latency")]
