"""The commands that fit a quality table and print it. All work is `router`'s."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import orjson
import typer

import router

Result = TypeVar("Result")
SLIGHT = 0.01
"""Least weight of a rating, for records that say 0."""
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

quality_app = typer.Typer(
    name="quality",
    help="Measure which expert is best in which domain, for the policies.",
    no_args_is_help=True,
    rich_markup_mode=None,  # as in `gateway.cli`
)


@quality_app.callback()
def _group() -> None:
    """Measure which expert is best in which domain, for the policies."""


@quality_app.command()
def fit(
    outcomes: Annotated[
        list[Path] | None,
        typer.Argument(help="CSV or JSONL, gzipped or not: a prompt (or domain) and a score 0 to 1 of each expert."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The table; use it as `policy.quality_table`.")] = Path(
        "quality.csv"
    ),
    generalist: Annotated[
        str | None, typer.Option(help="Expert the others are compared with; left out: `generalist`, else the best.")
    ] = None,
    artifact: Annotated[str, typer.Option("--artifact", "-a", help="`default` or an artifact folder.")] = "default",
    experts: Annotated[
        list[str] | None, typer.Option(help="OLD=NEW renames an expert of the outcomes; may be repeated.")
    ] = None,
    prior: Annotated[float | None, typer.Option(help="Prompts the prior is worth.")] = None,
    confidence: Annotated[float | None, typer.Option(help="One-sided level of the lower bounds.")] = None,
    no_cells: Annotated[bool, typer.Option("--no-cells", help="Do not look for places finer than domains.")] = False,
    from_feedback: Annotated[
        Path | None, typer.Option(help="Add the ratings of a gateway's feedback file (SQLite).")
    ] = None,
    per_key_limit: Annotated[
        int, typer.Option(min=1, help="Most ratings of one key that count for one expert in one domain, the newest.")
    ] = 100,
    as_json: AsJson = False,
) -> None:
    """Measure every expert in every domain and write a table.

    Cells finer than domains go to NAME.cells.npz beside the table, when they choose better on held-out prompts.
    """
    renames = _renames(experts or [])

    def work() -> router.QualityTable:
        tables = [router.read_outcomes(path) for path in outcomes or []]
        joined = [router.join_outcomes(tables).renamed(renames)] if tables else []
        joined += [_feedback(from_feedback, per_key_limit)] if from_feedback is not None else []
        options = {"prior": prior, "confidence": confidence}
        table = router.fit_quality(
            router.join_outcomes(joined),
            scorer=router.load_scorer(artifact),
            generalist=generalist,
            cells=not no_cells,
            **{name: value for name, value in options.items() if value is not None},
        )
        table.save(output)
        return table

    table = _guarded(work)
    typer.echo(_json(table) if as_json else f"{_text(table)}\nwritten to {output}")


@quality_app.command()
def show(
    path: Annotated[Path, typer.Argument(help="A table as `fit` writes it.")],
    as_json: AsJson = False,
) -> None:
    """Print a table and the winner of each domain, with 95 % intervals."""
    table = _guarded(lambda: router.QualityTable.load(path))
    typer.echo(_json(table) if as_json else _text(table))


def _feedback(path: Path, per_key_limit: int) -> router.OutcomeTable:
    from gateway.stores.feedback import read_scores
    from gateway.stores.sqlite import StoreError

    try:
        ratings = read_scores(str(path), per_key_limit=per_key_limit)
    except StoreError as error:
        _fail(str(error))
    # As much as the classifier was sure of the domain: the rest of the rating is about one that nobody knows, as
    # outcomes without a given domain are spread over the domains by their probabilities.
    weights = [1.0 if rating.confidence is None else min(1.0, max(SLIGHT, rating.confidence)) for rating in ratings]
    rows = ((rating.domain, rating.expert, rating.score) for rating in ratings)
    return router.outcomes_from_scores(rows, weights)


def _renames(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if not all(pair.partition("=")):
            _fail(f"--experts {pair}: expected OLD=NEW")
    return {old: new for old, _, new in (pair.partition("=") for pair in pairs)}


def _text(table: router.QualityTable) -> str:
    parts = [_scores(table), _winners(router.winners(table))]
    if table.cells is not None:
        parts.append(_cells(table))
    return "\n\n".join(parts)


def _scores(table: router.QualityTable) -> str:
    """Return one line for each cell of the table that was measured."""
    width = max(len(expert) for expert in table.experts)
    rows = [f"{'domain':<16} {'expert':<{width}} {'score':>7} {'count':>9} {'mean':>7} {'lower bound':>12}"]
    for row, domain in enumerate(table.labels):
        for column, expert in enumerate(table.experts):
            score, count = table.score[row, column], table.count[row, column]
            mean, lower = table.mean[row, column], table.lower[row, column]
            if count > 0:
                rows.append(f"{domain:<16} {expert:<{width}} {score:>7.3f} {count:>9,.1f} {mean:>7.3f} {lower:>12.3f}")
    return "\n".join(rows)


def _winners(found: Sequence[router.Winner]) -> str:
    width = max(len("winner"), *(len(row.winner) for row in found))
    rows = [f"{'domain':<16} {'winner':<{width}} {'mean':>7} {'95 % interval':>16} {'generalist':>11} {'prompts':>9}"]
    rows += [
        f"{row.domain:<16} {row.winner:<{width}} {row.mean:>7.3f} {f'{row.low:.3f} to {row.high:.3f}':>16} "
        f"{row.generalist_mean:>11.3f} {row.count:>9,.1f}"
        for row in found
    ]
    return "\n".join(rows)


def _cells(table: router.QualityTable) -> str:
    """Return the best expert of each cell."""
    cells = table.cells
    assert cells is not None
    column, width = cells.experts.index(cells.generalist), max(len(expert) for expert in cells.experts)
    rows = [
        f"{len(cells.names)} cells finer than domains, fitted with {cells.scorer}",
        f"{'cell':<32} {'winner':<{width}} {'lower bound':>12} {'generalist':>11} {'prompts':>9}",
    ]
    for row, name in enumerate(cells.names):
        best = int(cells.lower[row].argmax())
        figures = f"{cells.lower[row, best]:>12.3f} {cells.lower[row, column]:>11.3f} {cells.count[row]:>9,.1f}"
        rows.append(f"{name[:32]:<32} {cells.experts[best]:<{width}} {figures}")
    return "\n".join(rows)


def _json(table: router.QualityTable) -> str:
    content = {
        "generalist": table.generalist,
        "prior": table.prior,
        "confidence": table.confidence,
        "cells": 0 if table.cells is None else len(table.cells.names),
        "table": [
            {
                "domain": domain,
                "expert": expert,
                "score": table.score[row, column].item(),
                "count": table.count[row, column].item(),
                "mean": table.mean[row, column].item(),
                "lower": table.lower[row, column].item(),
            }
            for row, domain in enumerate(table.labels)
            for column, expert in enumerate(table.experts)
            if table.count[row, column] > 0
        ],
        "winners": [row.as_dict() for row in router.winners(table)],
    }
    return orjson.dumps(content, option=orjson.OPT_INDENT_2).decode()


def _guarded(work: Callable[[], Result]) -> Result:
    try:
        return work()
    except router.RouterError as error:
        _fail(str(error), error)


def _fail(message: str, cause: Exception | None = None) -> NoReturn:
    typer.echo(f"pointsman: {message}", err=True)
    raise typer.Exit(1) from cause
