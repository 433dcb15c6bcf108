"""Mutated requests over raw sockets, a few seconds of what `make fuzz` does for ten minutes (OPERATIONS C17)."""

from __future__ import annotations

import logging
from random import Random

import pytest

from tests.faults.fuzz import TIMEOUTS, mutated, storm
from tests.faults.raw import open_town

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.row("C17")
async def test_c17_mutated_requests_get_no_server_error_and_leave_nothing_behind(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with open_town(timeouts=TIMEOUTS) as town:
        findings = await storm(town, seed, seconds=20, most=250)
    assert not findings.wrong
    assert not caplog.records
    # It must have come to both, or the mutations are too wild or too tame.
    assert findings.statuses[200] > 20
    assert findings.statuses[400] > 20


@pytest.mark.row("C17")
def test_c17_mutations_are_the_same_for_the_same_seed() -> None:
    first, second = Random(7), Random(7)
    assert [mutated(first) for _ in range(50)] == [mutated(second) for _ in range(50)]
