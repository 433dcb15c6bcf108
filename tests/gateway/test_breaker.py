"""When a server is left alone, how it comes back, and what says nothing about it at all."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pydantic import ValidationError

from gateway.breaker import SMALLEST_SHARE, Breaker, BreakerState, Failure, Rank, Trial, Why
from gateway.retry_after import retry_after_s
from gateway.settings.reliability import BreakerSettings
from gateway.window import Window

OPEN, CLOSED, HALF_OPEN = BreakerState.OPEN, BreakerState.CLOSED, BreakerState.HALF_OPEN
DEFAULTS = BreakerSettings()
NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A breaker with a clock, and all that it announced."""

    def __init__(self, *, spare: bool = False, settings: BreakerSettings = DEFAULTS) -> None:
        self.clock = Clock()
        self.told: list[tuple[BreakerState, Why | None]] = []
        self.spare = spare
        self.breaker = Breaker(
            settings,
            spare=lambda: self.spare,
            changed=lambda state, why: self.told.append((state, why)),
            clock=self.clock,
        )

    def fail(self, times: int = 1, failure: Failure = Failure.SERVER) -> None:
        for _ in range(times):
            self.breaker.begin().failed(failure)

    def succeed(self, times: int = 1) -> None:
        for _ in range(times):
            self.breaker.begin().succeeded()

    def opened(self) -> Bench:
        self.fail(5)
        assert self.breaker.state is OPEN
        return self

    def half_open(self) -> Bench:
        self.opened()
        self.clock.now += 30
        assert self.breaker.state is HALF_OPEN
        return self


@pytest.mark.parametrize("failure", Failure)
@pytest.mark.row("A17")
def test_five_failures_in_a_row_eject_for_thirty_seconds(failure: Failure) -> None:
    bench = Bench()
    bench.fail(4, failure)
    assert (bench.breaker.state, bench.breaker.rank) == (CLOSED, Rank.USABLE)
    bench.fail(1, failure)
    assert (bench.breaker.state, bench.breaker.rank) == (OPEN, Rank.EJECTED)
    assert bench.told == [(OPEN, Why.LOCAL_FAILURES if failure is Failure.LOCAL else Why.SERVER_FAILURES)]
    bench.clock.now += 29.9
    assert bench.breaker.state is OPEN
    bench.clock.now += 0.1
    assert (bench.breaker.state, bench.breaker.rank) == (HALF_OPEN, Rank.PROBE)


def test_two_kinds_of_failures_are_counted_apart() -> None:
    bench = Bench()
    for _ in range(4):
        bench.fail(1, Failure.LOCAL)
        bench.fail(1, Failure.SERVER)
    assert bench.breaker.state is CLOSED
    bench.fail(1, Failure.LOCAL)
    assert bench.told == [(OPEN, Why.LOCAL_FAILURES)]


def test_success_between_failures_begins_the_row_anew() -> None:
    bench = Bench()
    for _ in range(4):
        bench.fail(4)
        bench.succeed()
    assert bench.breaker.state is CLOSED


@pytest.mark.row("A20")
def test_4xx_neither_opens_nor_keeps_closed() -> None:
    bench = Bench()
    for _ in range(100):
        bench.breaker.begin().close()
    assert bench.breaker.state is CLOSED
    # A dead engine still refuses what is malformed: between its failures that is no sign of life.
    for _ in range(5):
        bench.fail()
        bench.breaker.begin().close()
    assert bench.breaker.state is OPEN


@pytest.mark.parametrize("spare", [True, False])
def test_server_that_fails_often_is_ejected_if_another_can_take_its_work(spare: bool) -> None:
    bench = Bench(spare=spare)
    for _ in range(10):
        bench.succeed()
        bench.fail()
    assert bench.breaker.state is (OPEN if spare else CLOSED)
    # Nothing protects one that fails always.
    bench.fail(5)
    assert bench.breaker.state is OPEN


def test_few_requests_are_no_share() -> None:
    bench = Bench(spare=True)
    for _ in range(9):
        bench.succeed()
        bench.fail()
    assert bench.breaker.state is CLOSED


def test_old_failures_are_no_share_either() -> None:
    bench = Bench(spare=True)
    for _ in range(9):
        bench.fail()
        bench.succeed()
    bench.clock.now += 31
    bench.succeed(2)
    bench.fail()
    assert bench.breaker.state is CLOSED


def test_stream_that_breaks_midway_counts_though_it_began() -> None:
    bench = Bench()
    for _ in range(5):
        trial = bench.breaker.begin()
        trial.began()
        trial.failed(Failure.LOCAL)
    assert bench.breaker.state is OPEN


@pytest.mark.row("A17")
def test_half_open_lets_one_request_try() -> None:
    bench = Bench().half_open()
    probe = bench.breaker.begin()
    assert probe.probe
    assert bench.breaker.rank is Rank.EJECTED
    assert not bench.breaker.begin().probe
    probe.succeeded()
    assert (bench.breaker.state, bench.breaker.rank) == (CLOSED, Rank.USABLE)


@pytest.mark.parametrize("word", ["close", "saturated"])
def test_probe_that_learns_nothing_gives_its_place_back(word: str) -> None:
    bench = Bench().half_open()
    probe = bench.breaker.begin()
    probe.close() if word == "close" else probe.saturated(None)
    assert bench.breaker.state is HALF_OPEN
    assert bench.breaker.begin().probe


@pytest.mark.row("A26")
def test_failed_probe_ejects_for_longer_each_time_up_to_the_cap() -> None:
    bench = Bench().opened()
    lengths = []
    for _ in range(14):
        assert bench.breaker.open_until is not None
        lengths.append(bench.breaker.open_until - bench.clock.now)
        bench.clock.now = bench.breaker.open_until
        bench.fail()
    assert lengths == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300, 300, 300]
    assert bench.told[-1] == (OPEN, Why.PROBE)


def test_answer_that_has_begun_closes_at_once_and_its_break_opens_again() -> None:
    bench = Bench().half_open()
    probe = bench.breaker.begin()
    probe.began()
    assert bench.breaker.state is CLOSED
    bench.clock.now += 3
    probe.failed(Failure.LOCAL)
    assert (bench.breaker.state, bench.breaker.ejections) == (OPEN, 2)


def test_probe_that_breaks_after_others_were_answered_is_one_failure_of_many() -> None:
    bench = Bench().half_open()
    probe = bench.breaker.begin()
    probe.began()
    bench.succeed()
    probe.failed(Failure.LOCAL)
    assert bench.breaker.state is CLOSED


def test_requests_from_before_the_ejection_change_nothing() -> None:
    bench = Bench()
    good, bad = bench.breaker.begin(), bench.breaker.begin()
    bench.opened()
    until = bench.breaker.open_until
    good.succeeded()
    bad.failed(Failure.SERVER)
    assert (bench.breaker.state, bench.breaker.open_until) == (OPEN, until)


def test_requests_from_before_the_ejection_do_not_open_again_what_has_closed() -> None:
    bench = Bench()
    old = [bench.breaker.begin() for _ in range(10)]
    bench.half_open().succeed()
    for trial in old:
        trial.failed(Failure.LOCAL)
    assert bench.breaker.state is CLOSED


def test_probe_of_an_earlier_ejection_does_not_free_the_place_of_this_ones() -> None:
    bench = Bench().half_open()
    first = bench.breaker.begin()
    bench.breaker.begin().succeeded()
    bench.opened()
    bench.clock.now += 60
    assert bench.breaker.begin().probe
    first.close()
    assert not bench.breaker.begin().probe


def test_two_hundred_streams_that_break_at_once_are_one_ejection() -> None:
    bench = Bench()
    trials = [bench.breaker.begin() for _ in range(200)]
    for trial in trials:
        trial.failed(Failure.LOCAL)
    assert (bench.breaker.ejections, len(bench.told)) == (1, 1)


def test_last_resort_that_is_answered_closes_and_one_that_fails_prolongs_nothing() -> None:
    bench = Bench().opened()
    until = bench.breaker.open_until
    bench.fail(20)
    assert (bench.breaker.open_until, bench.breaker.ejections) == (until, 1)
    bench.succeed()
    assert bench.breaker.state is CLOSED


@pytest.mark.row("A25")
def test_active_check_that_passes_closes_nothing() -> None:
    """OPERATIONS A25: `/health` is fine, generating fails."""
    bench = Bench().opened()
    for _ in range(29):
        bench.breaker.checked(True)
        bench.clock.now += 1
    assert bench.breaker.state is OPEN
    bench.clock.now += 1
    bench.breaker.checked(True)
    assert bench.breaker.state is HALF_OPEN
    bench.breaker.checked(True)
    assert bench.breaker.state is HALF_OPEN


def test_active_check_that_fails_keeps_open_beyond_the_time() -> None:
    bench = Bench().opened()
    bench.breaker.checked(False)
    bench.clock.now += 1_000
    assert bench.breaker.state is OPEN
    bench.breaker.checked(True)
    assert bench.breaker.state is HALF_OPEN


@pytest.mark.row("A26")
def test_server_that_restarted_is_tried_before_the_time_but_not_when_it_flaps() -> None:
    bench = Bench().opened()
    bench.breaker.checked(False)
    bench.clock.now += 5
    bench.breaker.checked(True)
    assert bench.breaker.state is HALF_OPEN
    bench.fail()
    bench.breaker.checked(False)
    bench.clock.now += 5
    bench.breaker.checked(True)
    assert bench.breaker.state is OPEN


def test_check_of_a_closed_breaker_says_nothing_later() -> None:
    bench = Bench()
    bench.breaker.checked(False)
    bench.opened()
    bench.clock.now += 30
    assert bench.breaker.state is HALF_OPEN


@pytest.mark.row("A17")
def test_share_grows_from_a_tenth_to_all_in_ten_seconds() -> None:
    bench = Bench()
    assert bench.breaker.share == 1
    bench.half_open().succeed()
    shares = []
    for _ in range(12):
        shares.append(round(bench.breaker.share, 3))
        bench.clock.now += 1
    assert shares == [SMALLEST_SHARE, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1]


def test_fresh_server_begins_with_a_small_share() -> None:
    bench = Bench()
    bench.breaker.ramp()
    assert (bench.breaker.share, bench.breaker.state) == (SMALLEST_SHARE, CLOSED)


def test_ejections_are_forgotten_in_service_one_by_one() -> None:
    bench = Bench().half_open()
    bench.fail()
    bench.clock.now += 60
    bench.fail()
    assert bench.breaker.ejections == 3
    bench.clock.now += 90
    bench.succeed()
    bench.clock.now += 125
    bench.fail(5)
    assert bench.breaker.ejections == 2


@pytest.mark.row("A16")
def test_busy_server_is_left_alone_and_never_ejected() -> None:
    """OPERATIONS A16."""
    bench = Bench()
    for _ in range(50):
        bench.breaker.begin().saturated(2)
    assert (bench.breaker.state, bench.breaker.rank) == (CLOSED, Rank.SATURATED)
    assert bench.breaker.busy_s == 2
    bench.clock.now += 2
    assert (bench.breaker.rank, bench.breaker.busy_s) == (Rank.USABLE, 0)


@pytest.mark.parametrize("told", [None, 0, -5, math.nan])
@pytest.mark.row("A18")
def test_busy_server_that_does_not_say_how_long_rests_longer_each_time(told: float | None) -> None:
    bench = Bench()
    rests = []
    for _ in range(8):
        # All of a burst were refused for one and the same reason.
        for _ in range(10):
            bench.breaker.begin().saturated(told)
        rests.append(bench.breaker.busy_s)
        bench.clock.now += bench.breaker.busy_s
    assert rests == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 3.2, 3.2])
    bench.succeed()
    bench.breaker.begin().saturated(told)
    assert bench.breaker.busy_s == pytest.approx(0.1)


def test_server_that_was_down_and_is_back_rests_no_more() -> None:
    bench = Bench()
    bench.breaker.begin().saturated(30)
    bench.breaker.ramp()
    assert (bench.breaker.busy_s, bench.breaker.rank) == (0, Rank.USABLE)


def test_shorter_rest_does_not_end_a_longer_one() -> None:
    bench = Bench()
    bench.breaker.begin().saturated(30)
    bench.breaker.begin().saturated(2)
    assert bench.breaker.busy_s == 30


@pytest.mark.parametrize("told", [61, 86_400, 1e300, math.inf])
@pytest.mark.row("A16")
def test_rest_is_capped_whatever_the_server_says(told: float) -> None:
    bench = Bench()
    bench.breaker.begin().saturated(told)
    assert bench.breaker.busy_s == 60


def test_other_limits_keep_what_is_known() -> None:
    bench = Bench().opened()
    bench.breaker.configure(BreakerSettings(server_failures=1, ejection_s=100, window_s=5), lambda: True)
    assert bench.breaker.state is OPEN
    bench.clock.now += 30
    assert bench.breaker.state is HALF_OPEN
    bench.fail()
    assert bench.breaker.open_until == bench.clock.now + 200


def test_second_word_of_a_trial_is_not_heard() -> None:
    bench = Bench()
    trials = [bench.breaker.begin() for _ in range(5)]
    for trial in trials:
        trial.close()
        trial.failed(Failure.SERVER)
        trial.saturated(9)
        trial.began()
    assert (bench.breaker.state, bench.breaker.busy_s) == (CLOSED, 0)


@pytest.mark.parametrize(
    "fields", [{"ejection_s": 60, "longest_ejection_s": 30}, {"busy_s": 61}, {"failure_share": 0}, {"window_s": 0}]
)
def test_settings_that_contradict_themselves_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        BreakerSettings.model_validate(fields)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2", 2),
        (" 120 ", 120),
        ("0", 0),
        ("1.5", 1.5),
        ("Wed, 25 Nov 2026 12:00:07 GMT", 7),
        ("Wednesday, 25-Nov-26 12:00:07 GMT", 7),
        ("Wed, 25 Nov 2026 13:00:07 +0100", 7),
        ("Wed, 25 Nov 2026 12:00:07 -0000", 7),
        ("Wed, 25 Nov 2026 11:00:00 GMT", 0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("nan", None),
        ("1e9", None),
        ("99999999999999999999", None),
        ("Wed, 99 Nov 2026 12:00:07 GMT", None),
        ("Wed, 25 Nov 99999 12:00:07 GMT", None),
    ],
)
@pytest.mark.row("A16")
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW) == seconds


@given(value=st.one_of(st.text(), st.from_regex(r"\w{0,3}, ?\d{1,5} \w{3} \d{1,6} \d+:\d+:\d+ ?[\w+-]*")))
def test_any_retry_after_is_read_without_an_error(value: str) -> None:
    seconds = retry_after_s(value, NOW)
    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))


@given(steps=st.lists(st.tuples(st.floats(0, 40), st.booleans()), max_size=60))
def test_window_counts_the_last_seconds_give_or_take_a_step(steps: list[tuple[float, bool]]) -> None:
    window, now, events = Window(30), 0.0, list[tuple[float, bool]]()
    for passed, failed in steps:
        now += passed
        window.add(now, failed=failed)
        events.append((now, failed))
        requests, failures = window.totals(now)
        for count, kinds in ((requests, (True, False)), (failures, (True,))):
            most = sum(kind in kinds and now - at <= 30 for at, kind in events)
            least = sum(kind in kinds and now - at <= 27 for at, kind in events)
            assert least <= count <= most


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens in whatever order, requests overlapping, time passing."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.open: list[Trial] = []
        self.lengths: list[float] = []

    @property
    def breaker(self) -> Breaker:
        return self.bench.breaker

    @rule()
    def begin(self) -> None:
        before = self.breaker.state
        trial = self.breaker.begin()
        assert not trial.probe or before is HALF_OPEN
        self.open.append(trial)

    @precondition(lambda self: self.open)
    @rule(
        data=st.data(),
        word=st.sampled_from(["began", "succeeded", "failed", "saturated", "close"]),
        kind=st.sampled_from(Failure),
    )
    def end(self, data: st.DataObject, word: str, kind: Failure) -> None:
        index = data.draw(st.integers(0, len(self.open) - 1))
        trial = self.open[index] if word == "began" else self.open.pop(index)
        told, ejections = len(self.bench.told), self.breaker.ejections
        if word == "failed":
            trial.failed(kind)
            # Failures open, and nothing else does.
            if len(self.bench.told) > told:
                assert self.bench.told[-1][0] is OPEN
                until = self.breaker.open_until
                assert until is not None
                length = until - self.bench.clock.now
                assert length == min(30 * self.breaker.ejections, 300)
                assert self.bench.told[-1][1] is not Why.PROBE or self.breaker.ejections >= min(ejections, 10)
        elif word == "saturated":
            trial.saturated(3)
            assert self.breaker.busy_s > 0
        else:
            getattr(trial, word)()
        if word != "failed":
            assert all(state is CLOSED for state, _ in self.bench.told[told:])

    @rule(passed=st.booleans())
    def check(self, passed: bool) -> None:
        told = len(self.bench.told)
        self.breaker.checked(passed)
        assert len(self.bench.told) == told

    @rule(seconds=st.sampled_from([0.1, 1, 10, 30, 100, 1_000]))
    def wait(self, seconds: float) -> None:
        self.bench.clock.now += seconds

    @rule(spare=st.booleans())
    def others(self, spare: bool) -> None:
        self.bench.spare = spare

    @invariant()
    def limits_hold(self) -> None:
        assert SMALLEST_SHARE <= self.breaker.share <= 1
        assert 0 <= self.breaker.ejections <= 10
        assert 0 <= self.breaker.busy_s <= 60
        until = self.breaker.open_until
        assert until is None or until - self.bench.clock.now <= 300
        assert (self.breaker.rank is Rank.EJECTED) or self.breaker.state is not OPEN

    @invariant()
    def a_probe_has_at_most_one_at_a_time(self) -> None:
        if self.breaker.state is HALF_OPEN:
            waiting = [trial for trial in self.open if trial.probe and trial.epoch == self.breaker._epoch]
            assert len(waiting) <= 1
            assert self.breaker.rank is (Rank.EJECTED if waiting else self.breaker.rank)

    @invariant()
    def events_alternate_or_reopen(self) -> None:
        states = [state for state, _ in self.bench.told]
        assert all(pair != (CLOSED, CLOSED) for pair in zip(states, states[1:], strict=False))

    def teardown(self) -> None:
        """All end, time passes, the next good answer closes: nothing is stuck."""
        for trial in self.open:
            trial.close()
        self.breaker.checked(True)
        self.bench.clock.now += 301
        assert self.breaker.rank in (Rank.USABLE, Rank.PROBE)
        self.bench.succeed()
        assert self.breaker.rank is Rank.USABLE


TestAnyHistory = AnyHistory.TestCase
