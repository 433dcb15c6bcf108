"""Strategies: one file each, a way to produce an answer with more than one call. They call through `Calls` only.

A strategy knows bodies and answers as OpenAI writes them; servers, fail-over, limits and accounting belong to whoever
implements `Calls`. Files whose names begin with an underscore are no strategies but what several of them share.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import Protocol, cast

from pydantic import BaseModel, ConfigDict

from gateway.strategies._calls import Call as Call
from gateway.strategies._calls import Calls as Calls
from gateway.strategies._calls import Job as Job
from gateway.strategies._calls import Result as Result
from gateway.strategies._calls import Skip as Skip
from gateway.types import Expert

NONE = "none"
"""What a request says to be answered without a strategy."""


class Options(BaseModel):
    """Base of every strategy: its fields are its options; an unknown option is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def named_experts(self) -> tuple[str, ...]:
        """Return the experts that the options name; a configuration without them is refused."""
        return ()


class Strategy(Protocol):
    """A way to answer."""

    def named_experts(self) -> tuple[str, ...]:
        """Return the experts that the options name."""
        ...

    def participants(self, job: Job) -> tuple[Expert, ...] | Skip:
        """Return whom the strategy may call, once for each call, or why it does not apply. Must not raise."""
        ...

    async def answer(self, job: Job, calls: Calls) -> Result:
        """Answer a job that `participants` did not skip.

        Must leave no task running and no stream open but the one it returns.

        Raises:
            UpstreamError: nobody could answer.
        """
        ...


class UnknownStrategy(ValueError):
    """No file of that name in this package."""


def names() -> tuple[str, ...]:
    """Return the names of all strategies, sorted: one file in this package is one strategy."""
    files = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in files if not name.startswith("_")))


def strategy_class(name: str) -> type[Options]:
    """Return the class `Strategy` of the file `name`.

    Raises:
        UnknownStrategy: there is no such file.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name not in names():
        raise UnknownStrategy(f"unknown strategy {name!r}; there are: {', '.join(names())}")
    return cast("type[Options]", importlib.import_module(f"{__name__}.{name}").Strategy)


def load(name: str, options: dict[str, object]) -> Strategy:
    """Build a strategy from its name and options.

    Raises:
        UnknownStrategy: there is no such strategy.
        pydantic.ValidationError: an option is unknown or out of range.
    """
    return cast("Strategy", strategy_class(name).model_validate(options))
