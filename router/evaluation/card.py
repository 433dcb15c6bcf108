"""A model card in Markdown from an artifact's card.json and its evaluation.json; it adds no figure of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from router.evaluation.document import Section, Table, markdown, table_markdown
from router.evaluation.tables import abstention_table, contender_table, decision_table, domain_table, percent
from router.evaluation.weak_spots import weak_spots

Json = Mapping[str, Any]

_UNKNOWN: Final = "not stated"
_INTENDED: Final = (
    "Sends a prompt to the expert model of its domain, or to a generalist when in doubt. It reads the routing text "
    "that `router.extract` makes of a conversation. It judges neither safety nor difficulty, and what it says of a "
    "prompt says nothing about the person who wrote it: do not use it to profile or moderate people."
)


def model_card(card: Json, evaluation: Json) -> str:
    """Return the README.md of an artifact folder.

    Args:
        card: parsed card.json. Read are `name`, `labels`, `added`, `tiers`, `max_tokens`, `bases` (or one `base`:
            `model`, `licence`, `sha256`), `licence`, `training` (`sources` of `source`, `rows`, `licence`; `prompts`,
            `held_out_sources`, `data_sha256`), `calibration`, `thresholds`, `command` and `libraries`;
            what is missing is left out or "not stated".
        evaluation: parsed evaluation.json, see README.md beside this file.
    """
    sections = [
        _what(card, evaluation),
        _bases(card),
        _sources(card),
        Section("Intended use", _INTENDED),
        *_figures(evaluation),
        _weak(evaluation),
        _thresholds(card, evaluation),
        _reproduce(card, evaluation),
    ]
    return markdown(f"Model card: {card.get('name', _UNKNOWN)}", sections)


def _what(card: Json, evaluation: Json) -> Section:
    speed = evaluation["speed"]["overall"]
    labels, added = [*card.get("labels", ()), *card.get("added", ())], ", ".join(card.get("added", ()))
    tiers = ", ".join(card.get("tiers", ()))
    return Section(
        "What it is",
        f"A classifier of prompts into {len(labels)} domains: {', '.join(labels)}"
        f"{f' (added after training: {added})' if added else ''}. Version "
        f"`{evaluation['artifact']}`, licence: {card.get('licence', _UNKNOWN)}."
        f"{f' Tiers, the fastest first: {tiers}.' if tiers else ''} It reads up to "
        f"{card.get('max_tokens', _UNKNOWN)} tokens and takes {speed['mean_ms']:.1f} ms of CPU time per prompt "
        f"({speed['p95_ms']:.1f} ms at the 95th percentile) on {evaluation['speed']['machine']}.",
    )


def _bases(card: Json) -> Section:
    bases: Sequence[Json] = card["bases"] if "bases" in card else [card["base"]] if "base" in card else []
    rows = [tuple(str(base.get(field, _UNKNOWN)) for field in ("model", "licence", "sha256")) for base in bases]
    return _listing("Base models", "", ("model", "licence", "SHA-256"), rows)


def _sources(card: Json) -> Section:
    training = card.get("training", {})
    rows = [
        (str(source.get("source", _UNKNOWN)), str(source.get("rows", _UNKNOWN)), str(source.get("licence", _UNKNOWN)))
        for source in training.get("sources", ())
    ]
    held_out = ", ".join(training.get("held_out_sources", ()))
    counts = ", ".join(f"{count} {name}" for name, count in training.get("prompts", {}).items())
    sentences = (
        f"Prompts: {counts}." if counts else "",
        f"Sources held out whole, only measured on: {held_out}." if held_out else "",
    )
    text = " ".join(sentence for sentence in sentences if sentence)
    return _listing("Training data", text, ("source", "rows", "licence"), rows)


def _listing(title: str, text: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Section:
    if not rows:
        return Section(title, text or _UNKNOWN)
    return Section(title, text, Table(columns, rows, numbers=False))


def _figures(evaluation: Json) -> list[Section]:
    overall, mean = evaluation["quality"]["overall"], evaluation["source_mean"]
    low, high = overall["interval"]
    text = (
        f"Measured on {overall['count']} prompts from {mean['sources']} sources: accuracy "
        f"{percent(overall['accuracy'])} (95 % interval {percent(low)} to {percent(high)}), mean over sources "
        f"{percent(mean['accuracy'])}."
    )
    return [
        Section("Figures", text, contender_table(evaluation)),
        Section("Figures per domain", "", domain_table(overall)),
    ]


def _weak(evaluation: Json) -> Section:
    return Section("Weak spots", _bullets(weak_spots(evaluation)) or "None found: too few prompts to tell.")


def _thresholds(card: Json, evaluation: Json) -> Section:
    limits = card.get("thresholds", evaluation["thresholds"])
    lines = [f"confidence for {domain}: {value}" for domain, value in sorted(limits.get("confidence", {}).items())]
    lines += [f"{name.replace('_', ' ')}: {value}" for name, value in limits.items() if name != "confidence"]
    fitted = {name: value for name, value in card.get("calibration", {}).items() if value is not None}
    calibration = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in fitted.items())
    parts = [
        f"Calibration: {calibration}." if calibration else "",
        _bullets(lines),
        table_markdown(decision_table(evaluation)),
        table_markdown(abstention_table(evaluation)),
    ]
    return Section("Thresholds and what they do", "\n\n".join(part for part in parts if part))


def _reproduce(card: Json, evaluation: Json) -> Section:
    libraries = ", ".join(f"{name} {version}" for name, version in card.get("libraries", {}).items())
    command = card.get("command", _UNKNOWN)
    lines = [
        f"hash of the training data: `{card.get('training', {}).get('data_sha256', _UNKNOWN)}`",
        f"hash of the evaluation data: `{evaluation['data_sha256'] or _UNKNOWN}`",
        f"seed of the evaluation: {evaluation['seed']}",
        f"libraries: {libraries or _UNKNOWN}",
    ]
    commands = f"```console\n$ {command}\n$ pointsman evaluate FOLDER --artifact ARTIFACT --output FIGURES\n```"
    return Section("How to reproduce", f"{commands}\n\n{_bullets(lines)}")


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
