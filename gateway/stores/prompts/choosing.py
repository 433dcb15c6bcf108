"""Makes the place for prompts and labels that goes with the records'. Loads PostgreSQL's library only for it."""

from __future__ import annotations

from gateway.settings import secret
from gateway.settings.records import RecordSettings
from gateway.stores.prompts.contract import Database, Limits
from gateway.stores.prompts.sqlite import SqlitePrompts

_DAY_S = 86_400


def database(settings: RecordSettings) -> Database:
    """Return the place: beside the records' file a file of its own, or tables in the records' PostgreSQL.

    Nothing is opened yet.

    Raises:
        MissingSecret: the environment variable is not set.
    """
    if settings.database is not None:
        return SqlitePrompts(f"{settings.database}.prompts")
    from gateway.stores.prompts.postgres import PostgresPrompts

    return PostgresPrompts(secret(settings.postgres_env) or "")


def limits(settings: RecordSettings) -> Limits:
    """Return how much is kept, and how long."""
    prompts = settings.prompts
    return Limits(
        prompts_s=prompts.keep_days * _DAY_S,
        labelled_s=prompts.keep_labelled_days * _DAY_S,
        labels_s=settings.keep_hours_days * _DAY_S,
        rows=prompts.most_rows,
        size=int(prompts.most_megabytes * 1e6),
    )
