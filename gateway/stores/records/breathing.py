"""Gives the event loop its turn while the writing thread computes. Computes nothing itself.

Without it a waiting loop gets the interpreter only after 5 ms (`sys.getswitchinterval`). Changing that would be for all
threads of the process, the classifier's too.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

# About 0.5 ms of work, then some 0.1 ms of sleep. A sleep of 0 does not let others go first.
_ITEMS = 40
_SLEEP_S = 0.00005


def breathing(items: Iterable[Item], every: int = _ITEMS) -> Iterator[Item]:
    """Return the same items, with a very short sleep after every few."""
    for place, item in enumerate(items, 1):
        if not place % every:
            time.sleep(_SLEEP_S)
        yield item
