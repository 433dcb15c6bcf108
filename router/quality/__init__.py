"""Measured quality of every expert in every domain, and what follows from it for one prompt. It knows no price."""

from __future__ import annotations

from router.quality.fitting import fit_quality
from router.quality.table import QualityTable
from router.quality.winners import Winner, winners

__all__ = ["QualityTable", "Winner", "fit_quality", "winners"]
