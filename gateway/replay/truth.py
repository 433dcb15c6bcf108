"""What is known of prompts beside their text: groups for the domain oracle, right domains for label noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gateway.replay.deciding import Indices
from router import DomainScores, Noisy, OutcomeTable


def groups_of(outcomes: OutcomeTable) -> tuple[tuple[str, ...] | None, str]:
    """Return n groups for the domain oracle and what they are; None when the outcomes tell nothing apart."""
    given = tuple(domain for domain in outcomes.domains if domain is not None)
    if len(given) == len(outcomes) and len(set(given)) > 1:
        return given, "given domain"
    return (outcomes.groups, "group (task, subject or source)") if len(set(outcomes.groups)) > 1 else (None, "")


def noisy_of(
    policy: str,
    outcomes: OutcomeTable,
    scores: Sequence[DomainScores | None],
    labels: tuple[str, ...],
    by_domain: Indices,
) -> Noisy | None:
    """Return choices for every domain with the right one.

    The right domain is the given one; else that which the classifier gives most to all prompts of the same group,
    because many prompts tell more than one; else the classifier's own best.

    Args:
        policy: whose choices they are.
        outcomes: n prompts.
        scores: of them.
        labels: k domains.
        by_domain: int (n, k).

    Returns:
        None with fewer than two domains, or when some prompt could not be scored.
    """
    known = [each.probabilities for each in scores if each is not None]
    if len(known) < len(scores) or len(labels) < 2:
        return None
    probabilities = np.stack(known)
    top = probabilities.argmax(axis=1)
    given = [labels.index(domain) for domain in outcomes.domains if domain in labels]
    if len(given) == len(outcomes):
        actual, right = np.array(given, dtype=np.intp), "the given one"
    elif len(set(outcomes.groups)) > 1:
        actual = _of_groups(outcomes.groups, probabilities)
        right = "that which the classifier gives most to all prompts of the same group"
    else:
        return Noisy(policy, "the classifier's own best", by_domain, top)
    return Noisy(policy, right, by_domain, actual, float((top == actual).mean()))


def _of_groups(groups: Sequence[str], probabilities: np.ndarray) -> Indices:
    names, members = np.unique(np.array(groups, dtype=object), return_inverse=True)
    best = [int(probabilities[members == group].mean(axis=0).argmax()) for group in range(len(names))]
    return np.array(best, dtype=np.intp)[members]
