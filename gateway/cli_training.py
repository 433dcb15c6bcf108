"""The commands that make and measure classifiers. All work is `router`'s; progress goes to standard error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import orjson
import typer

import router

if TYPE_CHECKING:
    from router import Recipe

Result = TypeVar("Result")
Folders = Annotated[list[Path], typer.Argument(help="Folders or files of labelled prompts (.jsonl, .jsonl.gz).")]


def train(
    folders: Folders,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the new artifact.")],
    focus: Annotated[
        list[Path] | None, typer.Option(help="Folder of hand-written prompts: a fixed share of every batch.")
    ] = None,
    validation: Annotated[
        list[Path] | None, typer.Option(help="Folder that is only measured on, never trained on.")
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="Folder of the encoder to start from; left out: all-MiniLM-L6-v2.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seeds every random choice.")] = None,
) -> None:
    """Fine-tune a classifier on labelled prompts and write it as an artifact folder.

    Needs the training libraries: pip install "pointsman[train]". Use the result as `router.artifact`.
    """
    changes = {"base": base, "steps": steps, "threads": threads, "seed": seed}
    recipe = _recipe({name: value for name, value in changes.items() if value is not None})
    training = _guarded(
        lambda: router.train(
            folders, output, focus=focus or [], validation=validation or [], recipe=recipe, progress=_progress
        )
    )
    typer.echo(f"{training.version} written to {training.artifact}")
    for name, quality in training.evaluations.items():
        typer.echo(f"  {name:<28} {quality.accuracy:.4f} of {quality.count}")


def evaluate(
    folders: Folders,
    artifact: Annotated[str, typer.Option("--artifact", "-a", help="`default` or an artifact folder.")] = "default",
    threads: Annotated[int, typer.Option(min=1, help="Threads of one classifier run.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a classifier on labelled prompts it has not seen: accuracy, calibration, speed."""
    evaluation = _guarded(lambda: router.evaluate(folders, artifact=artifact, threads=threads, progress=_progress))
    if as_json:
        options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY
        typer.echo(orjson.dumps(evaluation.as_dict(), option=options).decode())
        return
    typer.echo(f"{evaluation.artifact}: {evaluation.overall.accuracy:.4f} of {evaluation.overall.count}")
    typer.echo(f"  always the commonest label   {evaluation.majority_accuracy:.4f}")
    for name, quality in evaluation.sources.items():
        typer.echo(f"  {name:<28} {quality.accuracy:.4f} of {quality.count}")


def _recipe(changes: dict[str, object]) -> Recipe:
    return replace(router.Recipe(), **changes)  # type: ignore[arg-type]  # names and types are those of the options


def _guarded(work: Callable[[], Result]) -> Result:
    try:
        return work()
    except router.RouterError as error:
        typer.echo(f"pointsman: {error}", err=True)
        raise typer.Exit(1) from error


def _progress(line: str) -> None:
    typer.echo(line, err=True)
