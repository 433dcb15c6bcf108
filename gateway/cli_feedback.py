"""The command that prints what callers have rated. Changes nothing in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer

feedback_app = typer.Typer(
    name="feedback",
    help="Callers' ratings of answers.",
    no_args_is_help=True,
    rich_markup_mode=None,  # as in `gateway.cli`
)


@feedback_app.callback()
def _group() -> None:
    """Callers' ratings of answers."""


@feedback_app.command()
def export(
    path: Annotated[Path, typer.Argument(help="The file, `feedback.database`; a gateway may be writing to it.")],
) -> None:
    """Print all ratings as JSON lines, the first rated first. Comments are the callers' own words."""
    from gateway.stores.feedback import read_rows
    from gateway.stores.sqlite import StoreError

    try:
        for row in read_rows(str(path)):
            typer.echo(orjson.dumps(row))
    except StoreError as error:
        typer.echo(f"pointsman: {error}", err=True)
        raise typer.Exit(1) from error
