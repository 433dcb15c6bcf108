"""Decide which prompts train, calibrate and test; it must not look at a prompt's text or label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from router.errors import DataError
from router.prompts import Prompt, share_of, split
from router.recipe import Recipe

FOCUS_SOURCE_PREFIX = "focus/"


@dataclass(frozen=True, slots=True)
class Splits:
    """Disjoint sets of prompts.

    Attributes:
        focus: hand-written prompts to train on; empty without focus folders.
        others: prompts of the other sources to train on.
        test: focus prompts only measured on.
        calibration: focus prompts only used for the temperature.
        held_out: prompts of whole sources that were never trained on.
        labels: every label, in column order.
    """

    focus: list[Prompt]
    others: list[Prompt]
    test: list[Prompt]
    calibration: list[Prompt]
    held_out: list[Prompt]
    labels: tuple[str, ...]


def make_splits(focus: Sequence[Prompt], others: Sequence[Prompt], recipe: Recipe) -> Splits:
    """Split the focus prompts by their key, the other prompts by whole source; both stable under `recipe.seed`.

    Raises:
        DataError: fewer than two labels remain to train on.
    """
    focus_keys = {prompt.key for prompt in focus}
    others = [prompt for prompt in others if prompt.key not in focus_keys]
    test, rest = split(focus, lambda prompt: share_of(prompt.key, recipe.seed) < recipe.test_share)
    upto = recipe.test_share + recipe.calibration_share
    calibration, training = split(rest, lambda prompt: share_of(prompt.key, recipe.seed) < upto)
    out = held_out_sources(others, recipe)
    others = [prompt for prompt in others if prompt.source in out or _wanted(prompt, bool(focus), recipe)]
    held_out, kept = split(others, lambda prompt: prompt.source in out)
    labels = tuple(sorted({prompt.label for prompt in (*training, *kept)}))
    if len(labels) < 2:
        raise DataError(f"training needs two or more labels, found {list(labels)}")
    return Splits(_known(training, labels), kept, _known(test, labels), _known(calibration, labels),
                  _known(held_out, labels), labels)  # fmt: skip


def _wanted(prompt: Prompt, has_focus: bool, recipe: Recipe) -> bool:
    """Tell whether a prompt of another source is used; without hand-written prompts every language is."""
    return not has_focus or not recipe.other_languages or prompt.language in recipe.other_languages


def in_languages(splits: Splits, languages: Sequence[str]) -> Splits:
    """Return the splits with training prompts of these languages only, as they are when `languages` is empty.

    Raises:
        DataError: a label has no prompt left.
    """
    if not languages:
        return splits
    focus = [prompt for prompt in splits.focus if prompt.language in languages]
    others = [prompt for prompt in splits.others if prompt.language in languages]
    missing = set(splits.labels) - {prompt.label for prompt in (*focus, *others)}
    if missing:
        raise DataError(f"no prompt in the transformer's languages {list(languages)} for {sorted(missing)}")
    return replace(splits, focus=focus, others=others)


def readable_languages(recipe: Recipe) -> tuple[str, ...]:
    """Return the languages the transformer is trained on; empty means all."""
    return recipe.transformer_languages if recipe.base is None else ()


def held_out_sources(prompts: Sequence[Prompt], recipe: Recipe) -> frozenset[str]:
    """Choose whole sources, such that every label keeps a source to train on; or those the recipe names."""
    if recipe.hold_out:
        return frozenset(recipe.hold_out)
    labels_of: dict[str, set[str]] = {}
    for prompt in prompts:
        labels_of.setdefault(prompt.source, set()).add(prompt.label)
    kept = set(labels_of)
    wanted = round(recipe.held_out_sources * len(labels_of))
    for source in sorted(labels_of, key=lambda name: share_of(name, recipe.seed)):
        if len(labels_of) - len(kept) >= wanted:
            break
        remaining = kept - {source}
        if labels_of[source] <= {label for other in remaining for label in labels_of[other]}:
            kept = remaining
    return frozenset(labels_of) - frozenset(kept)


def _known(prompts: Sequence[Prompt], labels: Sequence[str]) -> list[Prompt]:
    """Drop labels training cannot know, also among the alternatives."""
    return [
        replace(prompt, alternatives=tuple(other for other in prompt.alternatives if other in labels))
        for prompt in prompts
        if prompt.label in labels
    ]
