"""Takes callers' ratings of answers: who may rate what, how often, where it goes. Applies none of them to anything.

Feedback can be poisoned (OPERATIONS H20), so it only lands in a file; `pointsman quality fit --from-feedback` reads it
when somebody decides to.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import structlog

from gateway.context import RequestContext, RouteRecord
from gateway.errors import FeedbackBusy, FeedbackUnavailable, RateLimited, RecordNotFound
from gateway.metrics import Metrics
from gateway.rate import RateLimit
from gateway.recent import Recent
from gateway.settings import FeedbackSettings
from gateway.stores.feedback import FeedbackStore
from gateway.stores.feedback_table import FeedbackRow

log = structlog.get_logger(__name__)

GOOD_FROM = 0.5
RETRY_S = 5


@dataclass(frozen=True, slots=True)
class Rating:
    """What a caller says of one answer.

    Attributes:
        record_id: the request's id.
        score: 0 to 1.
        domain: what the domain was, where the caller says so.
        comment: the caller's own words.
    """

    record_id: str
    score: float
    domain: str | None = None
    comment: str | None = None


class Feedback:
    """Ratings of one gateway; an async context manager.

    Args:
        settings: the configuration's section.
        path: the file, `settings.database`.
        metrics: where ratings are counted.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        settings: FeedbackSettings,
        path: str,
        metrics: Metrics,
        clock: Callable[[], float] = lambda: datetime.now(UTC).timestamp(),
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._with_comments = settings.comments
        self._recent = Recent(settings.remember)
        self._rate = RateLimit(settings.per_minute)
        self._store = FeedbackStore(path, keep=settings.keep)

    async def __aenter__(self) -> Self:
        """Open the file.

        Raises:
            gateway.stores.sqlite.StoreError: it cannot be used.
        """
        await self._store.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Write what waits and close the file."""
        await self._store.__aexit__(*exc)

    def remember(self, context: RequestContext, record: RouteRecord) -> None:
        """Keep in mind what can be rated; the recorder calls this for every finished request."""
        self._recent.note(record)

    def admit(self, key: str) -> None:
        """Count one attempt of a key, a failed one too: ids cannot be guessed faster than answers are rated.

        Raises:
            RateLimited: the key has to wait.
        """
        wait_s = self._rate.take(key)
        if wait_s > 0:
            after = ("retry-after", str(math.ceil(wait_s)))
            raise RateLimited("Too much feedback in a minute. Try again later.", headers=(after,))

    async def take(self, key: str, rating: Rating) -> bool:
        """Store a rating. Returns whether it replaced one.

        Raises:
            RecordNotFound: the key has no request of this id, or it is too long ago.
            FeedbackBusy: too much is waiting.
            FeedbackUnavailable: the file cannot be written.
        """
        rated = self._recent.find(key, rating.record_id)
        if rated is None:
            raise RecordNotFound("No recent answer of yours has this id (`x-request-id`).", param="id")
        row = FeedbackRow(
            record_id=rating.record_id,
            key=key,
            score=rating.score,
            right_domain=rating.domain,
            comment=rating.comment if self._with_comments else None,
            rated_at=self._clock(),
            **rated._asdict(),
        )
        try:
            replaced = await self._store.add(row)
        except (FeedbackBusy, FeedbackUnavailable) as error:
            error.headers = (("retry-after", str(RETRY_S)),)
            raise
        self._note(row)
        return replaced

    def _note(self, row: FeedbackRow) -> None:
        domain, rating = row.right_domain or row.domain, "up" if row.score >= GOOD_FROM else "down"
        self._metrics.feedback.labels(domain or "none", row.expert, rating).inc()
        log.info("feedback", request_id=row.record_id, key=row.key, expert=row.expert, domain=domain, score=row.score)
