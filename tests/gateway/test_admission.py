"""Who is let in when there is too much, who is not, and how fast that is said."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.admission import Admission, Admitted
from gateway.errors import Overloaded, RateLimited
from gateway.settings.reliability import OverloadSettings

LATE, FINE = (1.0, 0.0), (0.0, 0.0)


def door(requests: int = 100) -> Admission:
    return Admission(OverloadSettings(requests=requests))


def crowd(admission: Admission, key: str, count: int) -> list[Admitted]:
    return [admission.enter(key) for _ in range(count)]


def test_full_is_503_and_the_next_gets_in_when_one_leaves() -> None:
    admission = door(3)
    first, *_ = crowd(admission, "", 3)
    with pytest.raises(Overloaded) as refused:
        admission.enter("")
    assert (refused.value.status, refused.value.code) == (503, "overloaded")
    assert refused.value.headers == (("retry-after", "1"),)
    first.close()
    first.close()
    assert admission.inside == 2
    admission.enter("")


def test_other_limits_hold_from_then_on() -> None:
    admission = door(2)
    crowd(admission, "", 2)
    admission.configure(OverloadSettings(requests=3))
    admission.enter("")
    admission.configure(OverloadSettings(requests=1))
    with pytest.raises(Overloaded):
        admission.enter("")
    assert admission.inside == 3


@pytest.mark.row("G5")
def test_noisy_key_leaves_room_for_others() -> None:
    """OPERATIONS G5."""
    admission = door(100)
    noisy = crowd(admission, "noisy", 80)
    with pytest.raises(RateLimited) as refused:
        admission.enter("noisy")
    assert (refused.value.status, refused.value.code) == (429, "too_many_open")
    # Two others get what they have a right to, and then the house is full.
    quiet = crowd(admission, "a", 10) + crowd(admission, "b", 10)
    with pytest.raises(Overloaded):
        admission.enter("c")
    # What the noisy one gives up goes to those with less.
    for admitted in noisy[:20]:
        admitted.close()
    quiet += crowd(admission, "a", 10)
    with pytest.raises(RateLimited):
        admission.enter("noisy")
    for admitted in [*quiet, *noisy]:
        admitted.close()
    assert admission.inside == 0
    crowd(admission, "noisy", 80)


def test_key_may_take_what_nobody_wants_below_the_pressure() -> None:
    admission = door(100)
    crowd(admission, "a", 79)
    admission.enter("a")


def test_open_gateway_uses_its_whole_limit() -> None:
    admission = door(100)
    crowd(admission, "", 100)
    assert admission.inside == 100


@pytest.mark.row("G3")
def test_delay_that_stays_lowers_the_limit_and_its_end_raises_it() -> None:
    admission = door(100)
    crowd(admission, "", 50)
    admission.observe(*LATE)
    assert admission.limit == 100
    admission.observe(*LATE)
    assert admission.limit == 45
    with pytest.raises(Overloaded):
        admission.enter("")
    for _ in range(10):
        admission.observe(*FINE)
    assert admission.limit == 95
    admission.observe(*FINE)
    admission.observe(*FINE)
    assert admission.limit == 100


@pytest.mark.parametrize(("lag_s", "age_s"), [(0.2, 0), (0, 1)])
def test_either_delay_counts(lag_s: float, age_s: float) -> None:
    admission = door(100)
    crowd(admission, "", 50)
    for _ in range(2):
        admission.observe(lag_s, age_s)
    assert admission.limit == 45


def test_late_moments_now_and_then_change_nothing() -> None:
    admission = door(100)
    crowd(admission, "", 90)
    for _ in range(20):
        admission.observe(*LATE)
        admission.observe(*FINE)
    assert admission.limit == 100


def test_delay_of_an_empty_house_is_not_for_its_guests_to_pay() -> None:
    admission = door(100)
    for _ in range(50):
        admission.observe(*LATE)
    assert admission.limit == 100


def test_delay_without_end_leaves_the_door_ajar() -> None:
    admission = door(100)
    inside = crowd(admission, "", 100)
    for admitted in inside:
        admission.observe(*LATE)
        admitted.close()
    assert admission.limit >= 2
    admission.enter("")


@pytest.mark.row("G3")
def test_refusal_is_immediate_however_many_keys_are_in() -> None:
    admission = door(10_000)
    for number in range(10_000):
        admission.enter(str(number))
    started = time.perf_counter()
    for _ in range(1_000):
        with pytest.raises(Overloaded):
            admission.enter("x")
    assert (time.perf_counter() - started) / 1_000 < 0.001


class AnyCrowd(RuleBasedStateMachine):
    """Keys come and go, the loop lags or does not."""

    def __init__(self) -> None:
        super().__init__()
        self.admission = door(20)
        self.inside: list[tuple[str, Admitted]] = []

    def counts(self) -> Counter[str]:
        return Counter(key for key, _ in self.inside)

    @rule(key=st.sampled_from(["", "a", "b", "c", "d"]), count=st.integers(1, 12))
    def enter(self, key: str, count: int) -> None:
        for _ in range(count):
            before, limit, mine = len(self.inside), self.admission.limit, self.counts()[key]
            try:
                self.inside.append((key, self.admission.enter(key)))
            except Overloaded:
                assert before >= limit
            except RateLimited:
                assert key
                assert 0.8 * limit <= before < limit
                # Who has nothing yet, or less than a share with one more, is never told so.
                assert mine >= limit / (len(self.counts()) + 1)
            else:
                assert before < limit

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        _, admitted = self.inside.pop(data.draw(st.integers(0, len(self.inside) - 1)))
        admitted.close()
        admitted.close()

    @rule(lag_s=st.floats(0, 1), age_s=st.floats(0, 2))
    def observe(self, lag_s: float, age_s: float) -> None:
        self.admission.observe(lag_s, age_s)

    @invariant()
    def counted_right(self) -> None:
        assert self.admission.inside == len(self.inside)
        assert 1 <= self.admission.limit <= 20
        assert self.admission._inside == dict(self.counts())


TestAnyCrowd = AnyCrowd.TestCase
