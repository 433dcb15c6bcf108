"""A few threads for what would hold up the event loop: queries, YAML, files. Knows nothing of what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gateway.admin.errors import QueryTooSlowError

Result = TypeVar("Result")

# Two, so that a slow query does not hold up a change of the configuration; more would only take cores from requests.
THREADS = 2
QUERY_S = 8.0


class Threads:
    """Runs work off the event loop. How much waits is bounded by how many requests are inside.

    Args:
        limit_s: longest wait for a query, the time before it begins included.
    """

    def __init__(self, limit_s: float = QUERY_S) -> None:
        self._limit_s = limit_s
        self._queries = ThreadPoolExecutor(THREADS, thread_name_prefix="admin-query")
        self._files = ThreadPoolExecutor(1, thread_name_prefix="admin-file")

    async def query(self, work: Callable[[], Result]) -> Result:
        """Run a query, which ends by itself after some seconds.

        Raises:
            QueryTooSlowError: it took too long, or waited too long for others.
        """
        try:
            async with asyncio.timeout(self._limit_s):
                return await asyncio.get_running_loop().run_in_executor(self._queries, work)
        except TimeoutError as error:
            raise QueryTooSlowError("The query took too long; take a shorter time.") from error

    async def files(self, work: Callable[[], Result]) -> Result:
        """Run work on files; one at a time, without a limit: half of it would be worse."""
        return await asyncio.get_running_loop().run_in_executor(self._files, work)

    def close(self) -> None:
        """Take no more; what runs ends by itself."""
        self._queries.shutdown(wait=False, cancel_futures=True)
        self._files.shutdown(wait=False)
