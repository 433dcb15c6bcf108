"""What recorded outcomes say of ways to choose an expert: quality, cost and the field's routing metrics.

Arrays in, figures out. It must not know a policy, a classifier, prices or files of outcomes.
"""

from router.replay.choices import Contender, Family, Recorded
from router.replay.noise import BreakEven, Noisy
from router.replay.result import Replay
from router.replay.terms import Terms

__all__ = ["BreakEven", "Contender", "Family", "Noisy", "Recorded", "Replay", "Terms"]
