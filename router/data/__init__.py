"""Turn labelled prompts from many sources into one training set: cleaned, without repeats, weighted and split.

Numpy and the standard library only; no model, and nothing that is imported when a gateway serves.
"""

from __future__ import annotations

from router.data.augment import augment, with_typos
from router.data.balance import weights
from router.data.build import CORPUS, CORPUS_SOURCE, Building, build_data
from router.data.duplicates import DuplicateIndex, Match, canonical, find_repeats
from router.data.normalise import normalise

__all__ = [
    "CORPUS",
    "CORPUS_SOURCE",
    "Building",
    "DuplicateIndex",
    "Match",
    "augment",
    "build_data",
    "canonical",
    "find_repeats",
    "normalise",
    "weights",
    "with_typos",
]
