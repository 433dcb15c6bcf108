"""Waits in tests for what happens in the background, without guessing how long it takes."""

import asyncio
from collections.abc import Callable


async def until(true: Callable[[], object], timeout_s: float = 5) -> None:
    """Return once the condition holds.

    Raises:
        TimeoutError: it did not in time.
    """
    async with asyncio.timeout(timeout_s):
        while not true():  # noqa: ASYNC110 - any condition will do, not only one that somebody announces
            await asyncio.sleep(0.005)
