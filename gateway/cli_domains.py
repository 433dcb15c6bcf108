"""The commands that add domains to a classifier without training it again. All work is `router`'s."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
import typer

import router

Result = TypeVar("Result")
Artifact = Annotated[str, typer.Option("--artifact", "-a", help="`default` or an artifact folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

domains_app = typer.Typer(
    name="domains",
    help="Add, list and remove domains of a classifier, without training it again.",
    no_args_is_help=True,
    rich_markup_mode=None,  # as in `gateway.cli`
)


@domains_app.callback()
def _group() -> None:
    """Add, list and remove domains of a classifier, without training it again."""


@domains_app.command()
def add(
    name: Annotated[str, typer.Argument(help="The domain: lower-case letters, digits, - and _.")],
    examples: Annotated[
        list[Path] | None, typer.Argument(help="Files of its prompts, CSV or JSONL; other labels are passed over.")
    ] = None,
    artifact: Artifact = "default",
    description: Annotated[
        list[str] | None, typer.Option(help="A sentence about the domain, up to 20; enough when there are no examples.")
    ] = None,
    description_file: Annotated[Path | None, typer.Option(help="Text file of such sentences, one a line.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="New folder for a copy; left out: the artifact is changed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add a domain from 20 or more example prompts, or from a description; or add examples to one added before.

    The shipped classifier is never changed: with it, --output is needed. Use the result as `router.artifact`.
    """
    sentences = [*(description or []), *_lines(description_file)]
    added = _guarded(
        lambda: router.add_domain(artifact, name, examples=examples or [], description=sentences, output=output)
    )
    typer.echo(_json(added.as_dict()) if as_json else added.as_text())
    for warning in added.warnings:
        typer.echo(f"warning: {warning}", err=True)


@domains_app.command()
def remove(
    name: Annotated[str, typer.Argument(help="A domain that was added.")],
    artifact: Artifact = "default",
) -> None:
    """Remove an added domain; all other scores are as if it had never been there."""
    version = _guarded(lambda: router.remove_domain(artifact, name))
    typer.echo(f"{name} removed from {artifact} ({version})")


@domains_app.command("list")
def list_all(artifact: Artifact = "default", as_json: AsJson = False) -> None:
    """List the domains a classifier was trained on and those that were added."""
    domains = [domain.as_dict() for domain in _guarded(lambda: router.list_domains(artifact))]
    typer.echo(_json(domains) if as_json else _table(domains))


def explain(
    text: Annotated[str, typer.Argument(help="The prompt; `-` reads it from standard input.")],
    artifact: Artifact = "default",
    as_json: AsJson = False,
    words: Annotated[int, typer.Option(min=0, help="Most words to report.")] = 12,
) -> None:
    """Print what the classifier says of one prompt and why: its words, nearest topics and limits."""
    prompt = typer.get_text_stream("stdin").read() if text == "-" else text
    explained = _guarded(lambda: router.explain(router.load_scorer(artifact), prompt, words=words))
    typer.echo(_json(explained.as_dict()) if as_json else explained.as_text())


def _lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        return [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        typer.echo(f"pointsman: {file}: {reason}", err=True)
        raise typer.Exit(1) from error


def _table(domains: list[dict[str, Any]]) -> str:
    rows = [f"{'name':<32} {'made from':<12} {'examples':>8} {'recall':>8} {'threshold':>9}"]
    rows += [
        f"{domain['name']:<32} {domain['kind']:<12} {domain['examples'] or '-':>8} "
        f"{_share(domain['recall']):>8} {domain['threshold']:>9.2f}"
        for domain in domains
    ]
    return "\n".join(rows)


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def _json(content: object) -> str:
    return orjson.dumps(content, option=orjson.OPT_INDENT_2).decode()


def _guarded(work: Callable[[], Result]) -> Result:
    try:
        return work()
    except router.RouterError as error:
        typer.echo(f"pointsman: {error}", err=True)
        raise typer.Exit(1) from error
