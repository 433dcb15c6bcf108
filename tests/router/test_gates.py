"""Domains added after training: exact to add and remove, and bounded in what they take from the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from router.errors import ArtifactError
from router.gates import (
    FROM_DESCRIPTIONS,
    Gate,
    GateOptions,
    combine,
    fit_gate,
    fit_gate_from_description,
    gate_logits,
    load_gate,
    save_gate,
    update_gate,
)
from router.statistics import Statistics

LABELS = ("coding", "general", "health", "law")
SIZE = 48
Rows = NDArray[np.float64]
# Four base domains and three later ones; "tax" lies close to law, further off along a direction of its own.
MEANS = dict(zip((*LABELS, "cooking", "sailing"), np.eye(6, SIZE) * 0.6, strict=True))
MEANS["tax"] = MEANS["law"] + np.eye(1, SIZE, 20)[0] * 0.55
SPREAD = np.linspace(0.05, 0.12, SIZE)


def rows_of(domain: str, count: int, seed: int) -> Rows:
    dice = np.random.default_rng([seed, sorted(MEANS).index(domain)])
    return np.asarray(MEANS[domain] + dice.normal(size=(count, SIZE)) * SPREAD)


def base_probabilities(rows: Rows) -> NDArray[np.float32]:
    """Answer like a trained head: softmax of the scaled products with the class means."""
    logits = 25 * (rows @ np.stack([MEANS[label] for label in LABELS]).T)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), dtype=np.float32)


def make_background(count: int = 400) -> Statistics:
    rows = np.concatenate([rows_of(label, count, 1) for label in LABELS])
    return Statistics.of(LABELS, rows, np.repeat(np.arange(len(LABELS)), count))


BACKGROUND = make_background()


@pytest.fixture(scope="module")
def gates() -> dict[str, Gate]:
    return {name: fit_gate(name, rows_of(name, 60, 2), BACKGROUND) for name in ("cooking", "sailing", "tax")}


def same(first: Gate, second: Gate) -> bool:
    numbers = [(gate.name, gate.bias, gate.scale, gate.recall, gate.examples, gate.options) for gate in (first, second)]
    return numbers[0] == numbers[1] and first.weight.tobytes() == second.weight.tobytes()


def test_gates_catch_unseen_prompts_of_their_domains(gates: dict[str, Gate]) -> None:
    together = list(gates.values())
    for column, name in enumerate(gates):
        rows = rows_of(name, 500, 3)
        combined = combine(base_probabilities(rows), gate_logits(together, rows))
        assert (combined.argmax(axis=1) == len(LABELS) + column).mean() > 0.9


@pytest.mark.parametrize("stored", [60, 400])
@pytest.mark.parametrize(
    "options", [GateOptions(tail=1.0), GateOptions(false_takeover=0.05, guarded_confidence=0.8, tail=1.0)]
)
def test_gates_take_no_more_of_any_base_domain_than_promised(stored: int, options: GateOptions) -> None:
    background = make_background(stored)
    for name in ("cooking", "tax"):
        gate = fit_gate(name, rows_of(name, 40, 2), background, options=options)
        for label in LABELS:
            rows = rows_of(label, 4000, 4)
            base = base_probabilities(rows)
            guarded = base.max(axis=1) >= options.guarded_confidence
            taken = combine(base, gate_logits([gate], rows)).argmax(axis=1) == len(LABELS)
            # Three standard errors of 4,000 draws, and half the bound again for what 40 examples do not know.
            assert taken[guarded].mean() <= 1.5 * options.false_takeover + 3 * (options.false_takeover / 4000) ** 0.5


def test_gate_with_a_wider_tail_takes_less() -> None:
    rows = rows_of("law", 4000, 4)
    narrow, wide = (fit_gate("tax", rows_of("tax", 40, 2), BACKGROUND, options=GateOptions(tail=t)) for t in (1.0, 2.0))
    assert (wide.logits(rows) < narrow.logits(rows)).all()


def test_gates_recall_of_the_other_domains_stays_within_the_bound(gates: dict[str, Gate]) -> None:
    for column, label in enumerate(LABELS):
        rows = rows_of(label, 3000, 5)
        base = base_probabilities(rows)
        before = (base.argmax(axis=1) == column).mean()
        after = (combine(base, gate_logits(list(gates.values()), rows)).argmax(axis=1) == column).mean()
        assert before - after <= len(gates) * 0.01 + 0.005


def test_gates_in_any_order_give_the_same_bits(gates: dict[str, Gate]) -> None:
    rows = np.concatenate([rows_of(name, 50, 6) for name in MEANS])
    base = base_probabilities(rows)
    forward, backward = list(gates.values()), list(gates.values())[::-1]
    one, other = combine(base, gate_logits(forward, rows)), combine(base, gate_logits(backward, rows))
    np.testing.assert_array_equal(one[:, : len(LABELS)], other[:, : len(LABELS)])
    np.testing.assert_array_equal(one[:, len(LABELS) :], other[:, : len(LABELS) - 1 : -1])


def test_gates_removed_domain_leaves_the_bits_of_never_having_been_there(gates: dict[str, Gate]) -> None:
    rows = np.concatenate([rows_of(name, 50, 7) for name in MEANS])
    base = base_probabilities(rows)
    alone = fit_gate("cooking", rows_of("cooking", 60, 2), make_background())
    assert same(alone, gates["cooking"])
    kept = [gate for name, gate in gates.items() if name != "tax"]
    fresh = [fit_gate(name, rows_of(name, 60, 2), BACKGROUND) for name in ("cooking", "sailing")]
    np.testing.assert_array_equal(combine(base, gate_logits(kept, rows)), combine(base, gate_logits(fresh, rows)))
    assert combine(base, gate_logits([], rows)).tobytes() == base.tobytes()


def test_gates_row_has_the_same_bits_alone_and_in_a_batch(gates: dict[str, Gate]) -> None:
    rows = np.concatenate([rows_of(name, 9, 8) for name in MEANS])
    base, together = base_probabilities(rows), list(gates.values())
    batch = combine(base, gate_logits(together, rows))
    for index in range(len(rows)):
        part = slice(index, index + 1)
        np.testing.assert_array_equal(combine(base[part], gate_logits(together, rows[part])), batch[part])


@given(cuts=st.lists(st.integers(1, 39), min_size=1, max_size=3, unique=True), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_update_gate_in_parts_equals_fitting_all_at_once(cuts: list[int], seed: int) -> None:
    rows = rows_of("sailing", 40, seed)
    options = GateOptions(false_takeover=0.02)
    whole = fit_gate("sailing", rows, BACKGROUND, description="boats", options=options)
    first, *rest = np.split(np.random.default_rng(seed).permutation(rows), sorted(cuts))
    gate = fit_gate("sailing", first, BACKGROUND, description="boats", options=options)
    for part in rest:
        gate = update_gate(gate, part, BACKGROUND)
    assert same(gate, whole)
    assert (gate.examples, gate.description) == (40, "boats")


@pytest.mark.parametrize("count", [5, 20, 200])
@pytest.mark.parametrize("name", ["cooking", "tax"])
def test_gate_recall_is_near_that_of_unseen_prompts(name: str, count: int) -> None:
    gates = [fit_gate(name, rows_of(name, count, seed), BACKGROUND) for seed in range(10, 18)]
    unseen = rows_of(name, 2000, 9)
    measured = np.mean([(gate.logits(unseen) > 0).mean() for gate in gates])
    estimates = [gate.recall for gate in gates if gate.recall is not None]
    assert len(estimates) == len(gates)
    assert np.mean(estimates) == pytest.approx(measured, abs=0.12 if count == 5 else 0.05)


def test_gate_recall_of_examples_without_a_common_theme_is_low() -> None:
    scattered = np.concatenate([rows_of(label, 8, 10) for label in LABELS])
    gate = fit_gate("anything", scattered, BACKGROUND)
    assert gate.recall is not None
    assert gate.recall < 0.2


@pytest.mark.parametrize("count", [1, 3, 20])
def test_zero_shot_gate_catches_its_domain_and_little_else(count: int) -> None:
    gate = fit_gate_from_description("cooking", rows_of("cooking", count, 11), BACKGROUND)
    assert gate.options == FROM_DESCRIPTIONS
    assert gate.recall is None
    own = rows_of("cooking", 500, 12)
    caught = combine(base_probabilities(own), gate_logits([gate], own)).argmax(axis=1) == len(LABELS)
    assert caught.mean() > (0.3 if count == 1 else 0.6)
    for label in LABELS:
        rows = rows_of(label, 1000, 13)
        taken = combine(base_probabilities(rows), gate_logits([gate], rows)).argmax(axis=1) == len(LABELS)
        assert taken.mean() <= 0.005


def test_zero_shot_gate_with_examples_becomes_an_ordinary_one() -> None:
    sentences, examples = rows_of("cooking", 3, 14), rows_of("cooking", 30, 15)
    gate = update_gate(fit_gate_from_description("cooking", sentences, BACKGROUND), examples, BACKGROUND)
    assert same(gate, fit_gate("cooking", np.concatenate([examples, sentences]), BACKGROUND))
    assert gate.recall is not None


_PROBABILITIES = hnp.arrays(np.float32, (3, 4), elements=st.floats(0.015625, 1, width=32))
_LOGITS = hnp.arrays(np.float64, (3, 2), elements=st.floats(-500, 500))


@given(shares=_PROBABILITIES, logits=_LOGITS)
@settings(max_examples=300, deadline=None)
def test_combine_keeps_the_order_of_the_base_and_sums_to_one(
    shares: NDArray[np.float32], logits: NDArray[np.float64]
) -> None:
    base = shares / shares.sum(axis=1, keepdims=True)
    combined = combine(base, logits)
    assert combined.shape == (3, 6)
    assert combined.dtype == np.float32
    assert (combined >= 0).all()
    np.testing.assert_allclose(combined.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(combined[:, :4].argmax(axis=1), base.argmax(axis=1))


def test_combine_all_gates_far_below_zero_leaves_the_base_to_the_bit() -> None:
    base = base_probabilities(rows_of("law", 200, 16))
    combined = combine(base, np.full((200, 3), -30.0))
    np.testing.assert_array_equal(combined[:, : len(LABELS)], base)
    assert combined[:, len(LABELS) :].max() < 1e-12


def test_combine_gate_at_zero_takes_half() -> None:
    combined = combine(np.array([[0.75, 0.25]], dtype=np.float32), [[0.0]])
    np.testing.assert_allclose(combined, [[0.375, 0.125, 0.5]])


def test_fit_gate_of_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="'law' is a domain of the base already"):
        fit_gate("law", rows_of("law", 5, 1), BACKGROUND)
    with pytest.raises(ValueError, match="already"):
        fit_gate_from_description("law", rows_of("law", 5, 1), BACKGROUND)
    with pytest.raises(ValueError, match="no examples of 'cooking'"):
        fit_gate("cooking", [], BACKGROUND)
    with pytest.raises(ValueError, match="3 entries, background of 48"):
        fit_gate("cooking", [[1.0, 0.0, 0.0]], BACKGROUND)
    with pytest.raises(ValueError, match="more than 20"):
        fit_gate_from_description("cooking", rows_of("cooking", 21, 1), BACKGROUND)
    with pytest.raises(ValueError, match="no spread"):
        fit_gate("b", [[1.0, 0.0]], Statistics.of(("a",), [[0.0, 1.0]], [0]))
    with pytest.raises(ValueError, match="out of range"):
        GateOptions(false_takeover=0.9)


def test_fit_gate_of_the_background_mean_stays_finite_and_shut() -> None:
    gate = fit_gate("nothing", BACKGROUND.means().mean(axis=0), BACKGROUND)
    logits = gate.logits(np.concatenate([rows_of(label, 50, 17) for label in LABELS]))
    assert np.isfinite(logits).all()


def test_gate_survives_its_file_to_the_bit(gates: dict[str, Gate], tmp_path: Path) -> None:
    gate = replace(gates["tax"], description="Steuern, 税金")
    path, again = tmp_path / "tax.npz", tmp_path / "again.npz"
    save_gate(gate, path)
    loaded = load_gate(path)
    assert same(loaded, gate)
    assert (loaded.description, loaded.background) == ("Steuern, 税金", BACKGROUND.fingerprint())
    save_gate(loaded, again)
    assert again.read_bytes() == path.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["again.npz", "tax.npz"]
    more = rows_of("tax", 10, 18)
    assert same(update_gate(loaded, more, BACKGROUND), update_gate(gate, more, BACKGROUND))


def test_gate_from_descriptions_survives_its_file(tmp_path: Path) -> None:
    gate = fit_gate_from_description("cooking", rows_of("cooking", 2, 19), BACKGROUND)
    save_gate(gate, tmp_path / "cooking.npz")
    assert same(load_gate(tmp_path / "cooking.npz"), gate)


def test_load_gate_of_anything_else_is_refused(gates: dict[str, Gate], tmp_path: Path) -> None:
    path = tmp_path / "gate.npz"
    with pytest.raises(ArtifactError, match="not a gate"):
        load_gate(path)
    for content in (b"", b"PK\x03\x04 not a zip", b"\x93NUMPY"):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="not a gate"):
            load_gate(path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ArtifactError, match="not a gate"):
        load_gate(tmp_path / "array.npy")
    np.savez(path, name=np.array("x"))
    with pytest.raises(ArtifactError, match="not a gate"):
        load_gate(path)
    save_gate(replace(gates["tax"], weight=np.zeros(3)), path)
    with pytest.raises(ArtifactError, match="do not fit"):
        load_gate(path)
