"""What a policy is compared with: single experts, chance, and choosers that know what no router can know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from router.replay.choices import Contender, Indices, Recorded, first_best, mean_known

RANDOM: Final = "random"
DOMAIN_ORACLE: Final = "domain oracle"
PROMPT_ORACLE: Final = "prompt oracle"


def always(recorded: Recorded, expert: int, name: str = "") -> Contender:
    """Return the contender that sends everything to one expert."""
    choices = np.full(len(recorded), expert, dtype=np.intp)
    return Contender.of(name or recorded.experts[expert], recorded, choices)


def random(recorded: Recorded) -> Contender:
    """Return the expected value of drawing uniformly among the experts that were scored on each prompt."""
    experts = len(recorded.experts)
    shares = np.full(experts, 1 / experts)
    return Contender(RANDOM, mean_known(recorded.scores), mean_known(recorded.cost), shares)


def domain_oracle(recorded: Recorded, groups: Sequence[str]) -> Contender:
    """Return the chooser that knows each prompt's group and which expert is best on that group's own prompts.

    Args:
        recorded: outcomes of n prompts.
        groups: n labels: a domain, a task, a subject.

    Source: "dataset oracle" of LLMRouterBench, arXiv:2601.07206.
    """
    choices = np.empty(len(recorded), dtype=np.intp)
    names, members = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    for group in range(len(names)):
        rows = members == group
        choices[rows] = first_best(mean_known(recorded.scores[rows].T), mean_known(recorded.cost[rows].T))
    return Contender.of(DOMAIN_ORACLE, recorded, choices)


def prompt_oracle(recorded: Recorded) -> Contender:
    """Return the chooser that knows every outcome: the cheapest expert among the best of each prompt.

    Source: "oracle router" of RouterBench, arXiv:2403.12031.
    """
    scores = np.where(np.isnan(recorded.scores), -np.inf, recorded.scores)
    cost = np.where(np.isnan(recorded.cost), np.inf, recorded.cost)
    # An unknown cost loses to any known one, and still beats an expert that is not among the best.
    ranked = np.where(scores == scores.max(axis=1, keepdims=True), np.minimum(cost, np.finfo(np.float64).max), np.inf)
    choices: Indices = ranked.argmin(axis=1)
    return Contender.of(PROMPT_ORACLE, recorded, choices)
