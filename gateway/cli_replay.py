"""The command that replays policies on recorded outcomes. Work is done elsewhere; progress goes to standard error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import orjson
import typer

import router

if TYPE_CHECKING:
    from gateway.replay.sweeps import Sweep
    from gateway.settings import Settings
    from router import OutcomeTable, Replay


def replay(
    outcomes: Annotated[
        list[Path], typer.Argument(help="Per-prompt scores (.csv, .csv.gz, .jsonl); several files are joined.")
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="Configuration: experts, prices, thresholds, declared domains, policies and their options.",
        ),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="Policy to replay; left out: the configured one, and balanced over cost_weight.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Option of --policy as NAME=VALUE; what it sets is not varied.")
    ] = None,
    all_policies: Annotated[bool, typer.Option("--all-policies", help="Replay every policy.")] = False,
    prices: Annotated[
        Path | None,
        typer.Option(help="CSV with expert, input, output: prices per million tokens, instead of recorded costs."),
    ] = None,
    generalist: Annotated[
        str | None,
        typer.Option(help="The generalist; left out: the best single expert of the prompts that tables are fitted on."),
    ] = None,
    artifact: Annotated[
        str | None, typer.Option("--artifact", "-a", help="`default` or a folder; left out: as configured.")
    ] = None,
    quality_table: Annotated[
        Path | None, typer.Option(help="Decide with this table instead of one fitted on other prompts.")
    ] = None,
    split: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Part that tables are fitted on; at 0.5 the halves swap roles.")
    ] = 0.5,
    complete: Annotated[bool, typer.Option("--complete", help="Only prompts that every expert was scored on.")] = False,
    limit: Annotated[int | None, typer.Option(min=2, help="Replay so many prompts, drawn at random.")] = None,
    bootstrap: Annotated[int, typer.Option(min=1, max=100_000, help="Draws for the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seeds every random choice.")] = 7,
    threads: Annotated[int, typer.Option(min=1, help="Threads of one classifier run.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for replay.json, report.md and report.html (with matplotlib)."),
    ] = None,
) -> None:
    """Replay policies on recorded outcomes: quality, cost and routing metrics against all baselines.

    No prompt is judged with a quality table that saw it. Sends nothing anywhere.
    """
    from gateway.replay.experts import read_prices
    from gateway.replay.run import Plan
    from gateway.replay.run import replay as run
    from gateway.settings import MissingSecret
    from gateway.thresholds import UnknownDomain

    if config is not None and generalist is not None:
        raise typer.BadParameter("--config names the generalist; leave --generalist out")
    settings = None if config is None else _settings(config)
    sweeps = _sweeps(policy, option or [], settings, every=all_policies)
    if output is not None:  # Before the work: a folder that cannot be made must not cost a long replay.
        _make_folder(output)
    try:
        table = _read(outcomes, limit=limit, complete=complete, seed=seed)
        plan = Plan(
            sweeps=sweeps,
            settings=settings,
            prices=None if prices is None else read_prices(prices),
            generalist=generalist,
            quality_table=quality_table,
            split=split,
            seed=seed,
            draws=bootstrap,
            title=", ".join(file.name for file in outcomes),
        )
        wanted = artifact or (settings.router.artifact if settings else "default")
        found = run(table, router.load_scorer(wanted, threads=threads), plan, progress=_progress)
    except (router.RouterError, MissingSecret, UnknownDomain) as error:
        _fail(str(error))
    if output is not None:
        _write(found, output)
    if as_json:
        typer.echo(orjson.dumps(found.as_dict(), option=orjson.OPT_INDENT_2).decode())
    else:
        typer.echo(found.text())


def _sweeps(policy: str | None, options: list[str], settings: Settings | None, *, every: bool) -> tuple[Sweep, ...]:
    from pydantic import ValidationError

    from gateway.policies import UnknownPolicy
    from gateway.replay import sweeps
    from gateway.variants import options_of

    if options and policy is None:
        raise typer.BadParameter("--option belongs to --policy; name one")
    if every and policy is not None:
        raise typer.BadParameter("--all-policies replays every policy; leave --policy out")
    configured = {} if settings is None else options_of(settings)
    try:
        if every:
            return sweeps.every(configured)
        if policy is not None:
            return sweeps.asked(policy, dict(map(_option, options)), configured)
        return sweeps.usual(None if settings is None else settings.policy.name, configured)
    except UnknownPolicy as error:
        _fail(str(error))
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False)[0]
        name = ".".join(map(str, wrong["loc"]))
        _fail(f"policy {policy}: {name}: {wrong['msg'].lower()}")


def _option(text: str) -> tuple[str, object]:
    name, mark, value = text.partition("=")
    if not mark or not name:
        raise typer.BadParameter(f"{text}: expected NAME=VALUE")
    try:
        return name, orjson.loads(value)
    except orjson.JSONDecodeError:
        return name, value


def _read(files: list[Path], *, limit: int | None, complete: bool, seed: int) -> OutcomeTable:
    """Read and join files, and keep the prompts that are wanted."""
    import numpy as np

    table = router.join_outcomes([router.read_outcomes(file) for file in files])
    if complete:
        table = table.rows(np.isfinite(table.scores).all(axis=1))
        if not len(table):
            raise router.DataError("no prompt was scored on every expert")
    if limit is not None and limit < len(table):
        drawn = np.random.default_rng(seed).choice(len(table), size=limit, replace=False)
        table = table.rows(np.sort(drawn))
    return table


def _settings(path: Path) -> Settings:
    from gateway.settings_file import ConfigError, load

    try:
        return load(path)
    except ConfigError as error:
        typer.echo("\n".join(error.lines()), err=True)
        raise typer.Exit(1) from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _fail(f"cannot write to {folder}: {error.strerror}")


def _write(found: Replay, folder: Path) -> None:
    """Write the report; the page with plots is left out where its library is missing."""
    try:
        found.write(folder)
    except router.MissingExtraError as error:
        _progress(f"report.html is left out: {error}")
    except OSError as error:
        _fail(f"cannot write to {folder}: {error.strerror}")
    _progress(f"report in {folder}")


def _progress(line: str) -> None:
    typer.echo(line, err=True)


def _fail(message: str) -> NoReturn:
    typer.echo(f"pointsman: {message}", err=True)
    raise typer.Exit(1)
