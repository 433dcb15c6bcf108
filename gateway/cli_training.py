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
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the new artifact.")],
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of labelled prompts; some of their sources are held out whole."),
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="File or folder of your own prompts (.csv, .jsonl); the same as --focus.")
    ] = None,
    focus: Annotated[
        list[Path] | None, typer.Option(help="Folder of hand-written prompts: a fixed share of every batch.")
    ] = None,
    validation: Annotated[
        list[Path] | None, typer.Option(help="Folder that is only measured on, never trained on.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Encoder the transformer tier starts from: a folder, or a name on the model hub.")
    ] = None,
    tier: Annotated[
        list[str] | None, typer.Option(help="Tier to train, fast first; left out: fast and transformer.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only the fast tier: minutes instead of half an hour.")
    ] = False,
    hold_out: Annotated[
        list[str] | None, typer.Option(help="Source never trained on; left out: some are chosen.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the artifact, first half of its version.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seeds every random choice.")] = None,
) -> None:
    """Train a classifier on labelled prompts and write it as an artifact folder.

    Needs the training libraries: pip install "pointsman[train]". Use the result as `router.artifact`.
    """
    if not folders and not data and not focus:
        raise typer.BadParameter("nothing to train on: name a folder, or --data FILE")
    changes = {
        "base": base,
        "tiers": ("fast",) if quick else tuple(tier or ()) or None,
        "hold_out": tuple(hold_out or ()) or None,
        "name": name,
        "steps": steps,
        "threads": threads,
        "seed": seed,
    }
    recipe = _recipe({name: value for name, value in changes.items() if value is not None})
    training = _guarded(
        lambda: router.train(
            folders or [],
            output,
            focus=[*(data or []), *(focus or [])],
            validation=validation or [],
            recipe=recipe,
            progress=_progress,
        )
    )
    typer.echo(f"{training.version} written to {training.artifact}")
    for name, evaluation in training.evaluations.items():
        overall = evaluation.overall
        typer.echo(f"  {name:<28} {overall.accuracy:.4f} of {overall.count}")


def evaluate(
    folders: Folders,
    artifact: Annotated[str, typer.Option("--artifact", "-a", help="`default` or an artifact folder.")] = "default",
    leave_out: Annotated[
        bool,
        typer.Option(
            "--leave-one-source-out",
            help="Instead: train the fast tier's head anew without each source, and measure it on that source.",
        ),
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of one classifier run.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for evaluation.json, report.md and report.html (with matplotlib)."),
    ] = None,
) -> None:
    """Measure a classifier on labelled prompts it has not seen: quality, decisions, consistency, speed.

    Without --output and --json the report is printed as Markdown.
    """
    if leave_out:
        _leave_one_source_out(folders, artifact, as_json)
        return
    if output is not None:  # Before the work: a folder that cannot be made must not cost a long measurement.
        _writing(output, lambda: output.mkdir(parents=True, exist_ok=True))
    evaluation = _guarded(lambda: router.evaluate(folders, artifact=artifact, threads=threads, progress=_progress))
    if output is not None:
        _writing(output, lambda: evaluation.write(output))
        _progress(f"report in {output}")
    if as_json:
        typer.echo(orjson.dumps(evaluation.as_dict(), option=orjson.OPT_INDENT_2).decode())
    elif output is None:
        typer.echo(evaluation.markdown())
    else:
        typer.echo(f"{evaluation.artifact}: {evaluation.overall.accuracy:.4f} of {evaluation.overall.count}")


def _leave_one_source_out(folders: list[Path], artifact: str, as_json: bool) -> None:
    found = _guarded(lambda: router.leave_one_source_out(folders, artifact=artifact, progress=_progress))
    if as_json:
        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return
    typer.echo(f"{'source':<28} {'prompts':>7} {'accuracy':>9} {'five domains':>13}")
    for row in found:
        typer.echo(f"{row.source:<28} {row.count:>7} {row.accuracy:>9.4f} {row.accuracy_five:>13.4f}")


def _writing(folder: Path, work: Callable[[], object]) -> None:
    """Write the report; the page with plots is left out where its library is missing."""
    try:
        work()
    except router.MissingExtraError as error:
        _progress(f"report.html is left out: {error}")
    except OSError as error:
        typer.echo(f"pointsman: cannot write to {folder}: {error.strerror}", err=True)
        raise typer.Exit(1) from error


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
