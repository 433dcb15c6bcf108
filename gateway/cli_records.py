"""The commands that print stored requests. Change nothing in the store."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, NoReturn

import orjson
import typer

if TYPE_CHECKING:
    from gateway.stores.records.queries import Queries

records_app = typer.Typer(
    name="records",
    help="Stored requests.",
    no_args_is_help=True,
    rich_markup_mode=None,  # as in `gateway.cli`
)

ConfigPath = Annotated[
    Path, typer.Option("--config", "-c", envvar="POINTSMAN_CONFIG", help="Configuration file.", show_default=True)
]
Moment = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="In UTC.")]


class Format(StrEnum):
    """What `export` writes."""

    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"


@records_app.callback()
def _group() -> None:
    """Stored requests."""


@records_app.command()
def show(
    request_id: Annotated[str, typer.Argument(help="The request's id, `x-request-id`.")],
    config: ConfigPath = Path("experts.yaml"),
) -> None:
    """Print one request and its attempts as JSON; the latest, where several have the id."""
    with _explained():
        row = _queries(config).find(request_id)
    if row is None:
        _fail(f"no request {request_id} is stored")
    typer.echo(orjson.dumps(row, option=orjson.OPT_INDENT_2))


@records_app.command()
def export(
    form: Annotated[Format, typer.Option("--format", help="Parquet needs `pointsman[parquet]`.")] = Format.JSONL,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of standard output.")] = None,
    since: Moment = None,
    until: Moment = None,
    config: ConfigPath = Path("experts.yaml"),
) -> None:
    """Write stored requests, the newest first. A running gateway is not held up.

    In CSV, text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    from gateway.record_export import ExportError, write
    from gateway.stores.records.queries import RecordFilter

    wanted = RecordFilter()
    if since is not None or until is not None:
        wanted = RecordFilter(since_us=_us(since, 0), until_us=_us(until, wanted.until_us))
    with _explained():
        rows = _queries(config).every(wanted)
        try:
            _write(output, lambda target: write(form.value, rows, target))
        except ExportError as error:
            _fail(str(error))


def _write(output: Path | None, write: Callable[[BinaryIO], None]) -> None:
    target: BinaryIO
    if output is None:
        write(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    with output.open("wb") as target:
        write(target)


def _us(moment: datetime | None, otherwise: int) -> int:
    return otherwise if moment is None else int(moment.replace(tzinfo=UTC).timestamp()) * 1_000_000


def _queries(config: Path) -> Queries:
    from gateway.settings_file import ConfigError, load
    from gateway.stores.records.choosing import queries

    try:
        settings = load(config).records
    except ConfigError as error:
        _fail("\n".join(error.lines()))
    if not settings.wanted:
        _fail(f"{config}: neither records.database nor records.postgres_env is set")
    return queries(settings)


@contextmanager
def _explained() -> Iterator[None]:
    from gateway.settings import MissingSecret
    from gateway.stores.records import QueryTooSlow, RecordsUnavailable

    try:
        yield
    except (RecordsUnavailable, QueryTooSlow, MissingSecret, OSError) as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(f"pointsman: {message}" if "\n" not in message else message, err=True)
    raise typer.Exit(1)
