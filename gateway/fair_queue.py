"""A queue that is fair between keys: who brings much waits longest. Holds things, but wakes and refuses nobody.

Every operation is O(1), also taking out of the middle and finding the key that brought most.

Source: McKenney, "Stochastic Fairness Queueing" (1990): round robin over flows, and the longest flow gives way.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class FairQueue(Generic[Item]):
    """First in first out by key, keys in turn; each item at most once."""

    def __init__(self) -> None:
        self._key_of: OrderedDict[Item, str] = OrderedDict()
        self._by_key: OrderedDict[str, OrderedDict[Item, None]] = OrderedDict()
        # Keys by how many items they have, so that the longest is at hand.
        self._by_length: dict[int, OrderedDict[str, None]] = {}
        self._longest = 0

    def __len__(self) -> int:
        return len(self._key_of)

    def oldest(self) -> Item | None:
        """Return the item that has been here longest; None when the queue is empty."""
        return next(iter(self._key_of), None)

    def length_of(self, key: str) -> int:
        """Return how many items of a key are here."""
        return len(self._by_key.get(key, ()))

    def push(self, key: str, item: Item) -> None:
        """Add an item that is not here yet."""
        items = self._by_key.setdefault(key, OrderedDict())
        items[item] = None
        self._key_of[item] = key
        self._note_length(key, len(items) - 1, len(items))

    def pop(self) -> Item:
        """Take out the first item of the key whose turn it is.

        Raises:
            KeyError: the queue is empty.
        """
        if not self._by_key:
            raise KeyError("the queue is empty")
        key, items = next(iter(self._by_key.items()))
        item = next(iter(items))
        self._by_key.move_to_end(key)
        self.discard(item)
        return item

    def last_of_longest(self, longer_than: int) -> Item | None:
        """Return the newest item of the key that has most; None when it has no more than `longer_than`."""
        if self._longest <= longer_than:
            return None
        key = next(iter(self._by_length[self._longest]))
        return next(reversed(self._by_key[key]))

    def discard(self, item: Item) -> None:
        """Take out an item if it is here."""
        key = self._key_of.pop(item, None)
        if key is None:
            return
        items = self._by_key[key]
        del items[item]
        self._note_length(key, len(items) + 1, len(items))
        if not items:
            del self._by_key[key]

    def _note_length(self, key: str, before: int, now: int) -> None:
        if before:
            same = self._by_length[before]
            del same[key]
            if not same:
                del self._by_length[before]
        if now:
            self._by_length.setdefault(now, OrderedDict())[key] = None
        if now > self._longest or self._longest not in self._by_length:
            self._longest = now
