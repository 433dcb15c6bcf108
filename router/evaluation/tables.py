"""The tables of the report, from the parsed content of evaluation.json; formatting only, no figure is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.evaluation.document import Table

Json = Mapping[str, Any]


def percent(share: float) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{share * 100:.1f} %"


def contender_table(evaluation: Json) -> Table:
    """The classifier and every baseline on the same prompts."""
    own = {
        "overall": evaluation["quality"]["overall"],
        "five": evaluation["five"]["overall"],
        "source_mean": evaluation["source_mean"],
        "source_mean_five": evaluation["source_mean_five"],
    }
    columns = ("", "accuracy", "95 % interval", "mean over sources", "macro-F1", "ECE", "Brier", "AURC")
    return Table(
        (*columns, "five domains", "five, mean over sources"),
        [_contender(name, part) for name, part in {"this classifier": own, **evaluation["baselines"]}.items()],
    )


def _contender(name: str, figures: Json) -> tuple[str, ...]:
    overall = figures["overall"]
    return (
        name,
        percent(overall["accuracy"]),
        _interval(overall),
        percent(figures["source_mean"]["accuracy"]),
        f"{overall['macro_f1']:.3f}",
        f"{overall['ece']:.3f}",
        f"{overall['brier']:.3f}",
        f"{overall['selective']['aurc']:.3f}",
        percent(figures["five"]["accuracy"]),
        percent(figures["source_mean_five"]["accuracy"]),
    )


def domain_table(quality: Json) -> Table:
    """Figures per domain."""
    return Table(
        ("domain", "prompts", "predicted", "precision", "recall", "F1", "ECE"),
        [
            (
                name,
                str(part["count"]),
                str(part["predicted"]),
                percent(part["precision"]),
                percent(part["recall"]),
                f"{part['f1']:.3f}",
                f"{part['ece']:.3f}",
            )
            for name, part in quality["domains"].items()
        ],
    )


def confusion_table(quality: Json) -> Table:
    """Counts of labels against predictions."""
    confusion = quality["confusion"]
    rows = zip(confusion["labels"], confusion["rows"], strict=True)
    return Table(("", *confusion["labels"]), [(label, *map(str, counts)) for label, counts in rows])


def selective_table(evaluation: Json) -> Table:
    """Accuracy of the surest prompts, in all domains and in five."""
    full, five = (evaluation[name]["overall"]["selective"]["accuracy"] for name in ("quality", "five"))
    rows = [(percent(float(coverage)), percent(full[coverage]), percent(five[coverage])) for coverage in full]
    return Table(("surest share of prompts", "accuracy", "accuracy, five domains"), rows)


def group_table(evaluation: Json, kind: str) -> Table:
    """One row per group of a kind ("sets", "sources", "languages", "kinds", "styles")."""
    columns = ("", "prompts", "accuracy", "95 % interval", "macro-F1", "ECE", "AURC", "five domains")
    rows = []
    for name, quality in evaluation["quality"][kind].items():
        decisions = evaluation["decisions"][kind][name]
        rows.append(
            (
                _words(name) if kind == "sets" else name,
                str(quality["count"]),
                percent(quality["accuracy"]),
                _interval(quality),
                f"{quality['macro_f1']:.3f}",
                f"{quality['ece']:.3f}",
                f"{quality['selective']['aurc']:.3f}",
                percent(evaluation["five"][kind][name]["accuracy"]),
                percent(decisions["to_generalist"]),
                percent(decisions["wrong_specialist"]),
            )
        )
    return Table((*columns, "to the generalist", "wrong specialist"), rows)


def decision_table(evaluation: Json) -> Table:
    """Decisions over all prompts and over the sets."""
    figures = {"all prompts": evaluation["decisions"]["overall"], **evaluation["decisions"]["sets"]}
    names = ("decided", "to_generalist", "specialist_precision", "specialist_recall", "right_specialist")
    columns = (*names, "wrong_specialist")
    return Table(
        ("", "prompts", *map(_words, columns)),
        [
            (_words(name), str(part["count"]), *(percent(part[column]) for column in columns))
            for name, part in figures.items()
        ],
    )


def abstention_table(evaluation: Json) -> Table:
    """Reasons for abstaining, counted."""
    decisions = evaluation["decisions"]["overall"]
    rows = [(_words(reason), str(count)) for reason, count in decisions["abstentions"].items()]
    return Table(("reason", "prompts"), rows)


def separation_table(figures: Json) -> Table:
    """AUROC and FPR at 95 % TPR of both scores."""
    scores = {"out-of-domain score": figures["out_of_domain"], "1 - top probability": figures["low_confidence"]}
    rows = [(name, _or_dash(part["auroc"]), _or_dash(part["fpr_at_95_tpr"])) for name, part in scores.items()]
    return Table(("score", "AUROC", "FPR at 95 % TPR"), rows)


def consistency_table(figures: Json) -> Table:
    """Share of prompts that keep their route."""
    shares = {"all six": figures["all_same"], **figures["perturbations"]}
    return Table(("change", "same route"), [(_words(name), percent(share)) for name, share in shares.items()])


def speed_table(speed: Json) -> Table:
    """CPU time overall, per length of the prompts, and per length of joined texts."""
    parts = {"all prompts": speed["overall"]}
    parts |= {_bucket(words): part for words, part in speed["by_words"].items()}
    parts |= {f"joined to {words} words, extraction included": part for words, part in speed["sweep"].items()}
    return Table(
        ("", "prompts", "mean ms", "p50 ms", "p95 ms"),
        [
            (name, str(part["count"]), *(f"{part[column]:.2f}" for column in ("mean_ms", "p50_ms", "p95_ms")))
            for name, part in parts.items()
        ],
    )


def _bucket(words: str) -> str:
    return "longer prompts" if words == "more" else f"up to {words} words"


def _interval(quality: Json) -> str:
    low, high = quality["interval"]
    return f"{low * 100:.1f} to {high * 100:.1f}"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _words(name: str) -> str:
    return name.replace("_", " ")
