"""The stability index and the reliability diagram: figures worked out by hand, chance, odd input."""

from __future__ import annotations

from math import isfinite, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admin.reliability import reliability, wilson
from gateway.admin.stability import LARGE, Verdict, binned_shift, chance_index, named_shift, share_shift, shift

counts = st.lists(st.integers(0, 100_000), min_size=100, max_size=100)


def test_index_is_the_sum_over_bins_of_the_difference_times_the_logarithm() -> None:
    found = shift(["a", "b"], [500_000, 500_000], [400_000, 600_000])
    assert found.index == pytest.approx(-0.1 * log(0.8) + 0.1 * log(1.2), rel=1e-4)
    assert [part.change for part in found.parts] == pytest.approx([-0.1, 0.1])
    assert sum(part.index for part in found.parts) == pytest.approx(found.index)
    assert [part.name for part in found.movers()] == ["a", "b"]
    assert found.verdict is Verdict.STABLE


def test_bands_are_those_everybody_uses() -> None:
    some = shift(["a", "b"], [5_000, 5_000], [3_300, 6_700])
    large = shift(["a", "b"], [5_000, 5_000], [2_000, 8_000])
    assert (some.verdict, large.verdict) == (Verdict.SOME, Verdict.LARGE)
    assert some.index < LARGE < large.index
    assert sorted(Verdict, key=lambda one: one.rank)[-1] is Verdict.LARGE


def test_rare_share_that_grows_is_seen_although_the_index_is_small() -> None:
    names = ("in", "out")
    grown = share_shift(names, (99_500, 500), (9_780, 220))
    assert (grown.verdict, grown.index < 0.05) == (Verdict.LARGE, True)
    assert share_shift(names, (9_780, 220), (99_500, 500)).verdict is Verdict.LARGE
    assert share_shift(names, (9_400, 600), (9_000, 1_000)).verdict is Verdict.SOME
    assert share_shift(names, (99_950, 50), (99_000, 600)).verdict is Verdict.STABLE  # not by a point
    assert share_shift(names, (9_900, 100), (97, 3)).verdict is Verdict.STABLE  # chance
    assert share_shift(names, (9_900, 100), (9, 3)).verdict is Verdict.TOO_FEW
    assert share_shift(names, (9_900, 0), (9_900, 0)).verdict is Verdict.STABLE
    assert share_shift(names, (9_000, 1_000), (2_000, 8_000)).verdict is Verdict.LARGE


def test_few_requests_are_no_drift_whatever_the_index() -> None:
    found = shift(["a", "b"], [10_000, 0], [0, 50])
    assert found.verdict is Verdict.TOO_FEW
    assert found.index > 1
    noisy = shift([str(n) for n in range(60)], [2] * 60, [4, 0] * 30)
    assert noisy.verdict is Verdict.STABLE
    assert 0.1 < noisy.index < noisy.chance


def test_chance_is_exceeded_in_one_of_twenty_cases_when_nothing_changed() -> None:
    chance = np.random.default_rng(5)
    spread = chance.dirichlet(np.ones(100))
    found = [binned_shift(chance.multinomial(5_000, spread), chance.multinomial(900, spread)) for _ in range(1_000)]
    assert 0.02 < np.mean([one.index > one.chance for one in found]) < 0.09
    assert chance_index(11, 1, 10**12) == pytest.approx(18.307, rel=1e-3)  # the 95 % quantile at ten degrees
    assert chance_index(1, 10, 10) == chance_index(5, 0, 10) == 0.0


def test_empty_sides_and_bins_give_finite_figures() -> None:
    for before, now in (({}, {}), ({"a": 5}, {}), ({}, {"a": 5}), ({"a": 0}, {"b": 0})):
        found = named_shift(before, now)
        assert isfinite(found.index)
        assert found.verdict is Verdict.TOO_FEW
    nothing = binned_shift(np.zeros(100, np.int64), np.zeros(100, np.int64))
    assert (nothing.index, nothing.parts, nothing.movers()) == (0.0, (), [])


@given(counts, counts)
def test_bins_hold_every_request_once_and_the_index_is_never_negative(before: list[int], now: list[int]) -> None:
    found = binned_shift(np.array(before), np.array(now))
    assert (found.before, found.now) == (sum(before), sum(now))
    assert (sum(part.before for part in found.parts), sum(part.now for part in found.parts)) == (sum(before), sum(now))
    assert len(found.parts) < 20
    assert found.index >= -1e-12
    assert binned_shift(np.array(before), np.array(before)).index == 0.0


def test_bucket_that_held_everything_is_a_bin_of_its_own_so_that_what_leaves_it_is_seen() -> None:
    for place, names in (
        (99, ["0.00 to 0.99", "0.99 to 1.00"]),
        (0, ["0.00 to 0.01", "0.01 to 1.00"]),
        (50, ["0.00 to 0.50", "0.50 to 0.51"]),
    ):
        before, now = np.zeros(100, np.int64), np.zeros(100, np.int64)
        before[place], now[place], now[3] = 1_000, 500, 500
        found = binned_shift(before, now)
        assert [part.name for part in found.parts] == names
        assert found.verdict is Verdict.LARGE


def test_reliability_counts_bins_and_the_error_over_them() -> None:
    found = reliability([0.95, 0.95, 0.95, 0.95, 0.15, 1.0, 0.3], [True, True, True, False, False, True, False])
    assert (found.count, found.right) == (7, 4)
    top, low = found.bins[9], found.bins[1]
    assert (top.count, top.right, top.share) == (5, 4, 0.8)
    assert top.confidence == pytest.approx(0.96)
    assert (low.count, low.share, found.bins[3].count) == (1, 0.0, 1)
    assert found.error == pytest.approx((5 * 0.16 + 0.15 + 0.3) / 7)
    assert top.share_low is not None
    assert top.share_high is not None
    assert 0.3 < top.share_low < 0.8 < top.share_high < 1


def test_reliability_of_nothing_says_nothing_and_of_nonsense_is_refused() -> None:
    nothing = reliability([], [])
    assert (nothing.count, nothing.error, [one.share for one in nothing.bins]) == (0, None, [None] * 10)
    for confidences, right in (([0.5], []), ([1.5], [True]), ([float("nan")], [True])):
        with pytest.raises(ValueError, match="match"):
            reliability(confidences, right)


def test_interval_of_a_share_holds_it_and_stays_a_share() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 10)[0] == 0.0
    for hits, low, high in ((10, 0.7225, 1.0), (8, 0.4902, 0.9433)):
        assert list(wilson(hits, 10)) == pytest.approx([low, high], abs=1e-3)
