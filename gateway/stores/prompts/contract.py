"""What is kept of prompts and labels, and how a database is spoken to. Knows no SQL and no file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


class Why(StrEnum):
    """Why a prompt was kept."""

    RANDOM = "random"
    """By chance: only these stand for all traffic."""
    LOW_MARGIN = "low_margin"
    """The two best domains were close to each other."""
    OUT_OF_DOMAIN = "out_of_domain"
    """It was too unlike the training data."""
    THUMBS_DOWN = "thumbs_down"
    """A caller rated the answer below 0.5."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One kept prompt.

    Attributes:
        at_us: when the request came, microseconds since the epoch; with `id` its record's key.
        id: the request's id.
        text: what the classifier saw of the prompt.
        predicted: the domain it found.
        confidence: its calibrated probability.
        margin: distance to the next domain's.
        out_of_domain: share of ordinary prompts that are more like the training data.
        chosen: the expert that answered.
        reason: why.
        why: why it was kept, at least one.
    """

    at_us: int
    id: str
    text: str
    predicted: str | None
    confidence: float | None
    margin: float | None
    out_of_domain: float | None
    chosen: str | None
    reason: str | None
    why: tuple[Why, ...]

    @property
    def key(self) -> tuple[int, str]:
        """Return the primary key."""
        return self.at_us, self.id


@dataclass(frozen=True, slots=True)
class Label:
    """What a person says that a request's domain was.

    Attributes:
        at_us, id: the request's.
        predicted: the domain that the classifier found; None: it was not scored.
        confidence: its calibrated probability.
        label: the right domain.
        random: the request was picked by chance, so the label stands for all traffic.
        who: the person's admin token's name.
        labelled_us: when, microseconds since the epoch.
    """

    at_us: int
    id: str
    predicted: str | None
    confidence: float | None
    label: str
    random: bool
    who: str
    labelled_us: int

    @property
    def agrees(self) -> bool:
        """Tell whether the classifier was right."""
        return self.label == self.predicted


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often labels and predictions agree.

    Attributes:
        domain: the predicted one.
        random: whether these requests were picked by chance.
        count: labelled requests.
        agreed: how many were predicted right.
    """

    domain: str
    random: bool
    count: int
    agreed: int


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept, and how long. Times in seconds.

    Attributes:
        prompts_s: prompts that nobody labelled.
        labelled_s: labelled prompts.
        labels_s: labels, which hold no prompt.
        rows: most prompts; the oldest that nobody labelled go first.
        size: most characters of them, all together.
    """

    prompts_s: int
    labelled_s: int
    labels_s: int
    rows: int
    size: int


class Session(Protocol):
    """Runs statements with `?` for parameters, on either database."""

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        ...


class Database(Protocol):
    """A place for the tables; every session opens it anew."""

    def exists(self) -> bool:
        """Tell whether there may be anything in it."""
        ...

    def reading(self) -> AbstractContextManager[Session]:
        """Open it for reading.

        Raises:
            RecordsUnavailable: not now.
        """
        ...

    def writing(self) -> AbstractContextManager[Session]:
        """Open it for one transaction.

        Raises:
            RecordsUnavailable: not now; nothing was written.
        """
        ...
