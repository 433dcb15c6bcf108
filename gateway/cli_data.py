"""The commands that prepare training data. All work is `router`'s; progress goes to standard error."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer

import router

data_app = typer.Typer(
    name="data",
    help="Prepare labelled prompts for training.",
    no_args_is_help=True,
    rich_markup_mode=None,  # as in `gateway.cli`
)


@data_app.callback()
def _group() -> None:
    """Prepare labelled prompts for training."""


@data_app.command()
def build(
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, .jsonl or .jsonl.gz.")],
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Folders or files of labelled prompts (.jsonl, .jsonl.gz).")
    ] = None,
    corpus: Annotated[
        bool, typer.Option("--corpus/--no-corpus", help="Add the hand-written prompts that come with the package.")
    ] = True,
    report: Annotated[bool, typer.Option("--report", help="Print the report that is written beside the file.")] = False,
) -> None:
    """Make one training set: cleaned, without repeats, weighted by label and source, split by source."""
    try:
        building = router.build_data(folders or [], output, use_corpus=corpus, progress=_progress)
    except router.RouterError as error:
        typer.echo(f"pointsman: {error}", err=True)
        raise typer.Exit(1) from error
    rows = building.report["rows"]
    if report:
        typer.echo(orjson.dumps(building.report, option=orjson.OPT_INDENT_2).decode())
    else:
        counts = ", ".join(f"{count} {split}" for split, count in rows.items())
        typer.echo(f"{building.output} written: {counts}; report in {building.report_path}")


def _progress(line: str) -> None:
    typer.echo(line, err=True)
