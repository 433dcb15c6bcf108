"""Counting votes: the winner has the most, comes first among its equals, and stands before all have been heard."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway import catalog as catalogs
from gateway.strategies import Call
from gateway.strategies.vote import MAXIMUM_SAMPLES, Sample, decide, settled
from tests.conftest import settings_for

CALL = Call(catalogs.build(settings_for({"generalist": {"model": "m", "upstreams": ["http://a:1"]}})).generalist)


def sample(number: int, vote: str | None) -> Sample:
    return Sample(number, CALL, {}, {}, vote)


VOTES = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=MAXIMUM_SAMPLES)


@given(VOTES)
def test_decide_winner_has_the_most_votes_and_is_its_first_sample(votes: list[str | None]) -> None:
    winner, outcome = decide([sample(i, vote) for i, vote in enumerate(votes)], len(votes))
    counted = {vote: votes.count(vote) for vote in votes if vote is not None}
    if not counted:
        assert (winner.number, outcome) == (0, "no_majority")
        return
    most = votes.count(winner.vote)
    assert winner.vote is not None
    assert most == max(counted.values())
    assert votes.index(winner.vote) == winner.number
    assert (outcome == "majority") == (2 * most > len(votes))


@given(VOTES, st.integers(0, MAXIMUM_SAMPLES), st.data())
def test_settled_no_outstanding_votes_change_the_winner(votes: list[str | None], more: int, data: Any) -> None:
    if not settled(votes, more):
        return
    before, _ = decide([sample(i, vote) for i, vote in enumerate(votes)], len(votes) + more)
    rest = data.draw(st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=more, max_size=more))
    # Whichever numbers the late ones have.
    everything = data.draw(st.permutations([*votes, *rest]))
    after, _ = decide([sample(i, vote) for i, vote in enumerate(everything)], len(everything))
    assert before.vote == after.vote
