"""Scores of several experts on the same prompts: tables are fitted on them, policies replayed. No fitting here."""

from __future__ import annotations

from router.outcomes.reading import read_outcomes
from router.outcomes.table import OutcomeTable, Prices, from_scores, join

__all__ = ["OutcomeTable", "Prices", "from_scores", "join", "read_outcomes"]
