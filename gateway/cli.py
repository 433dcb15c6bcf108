"""The `pointsman` command. Parses arguments and prints; the work is done elsewhere and imported when needed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gateway import (
    __version__,
    cli_admin_tokens,
    cli_data,
    cli_domains,
    cli_feedback,
    cli_keys,
    cli_quality,
    cli_records,
    cli_replay,
    cli_training,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.settings import Settings

ConfigPath = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="POINTSMAN_CONFIG", help="Configuration file.", show_default=True),
]
DEFAULT_CONFIG = Path("experts.yaml")

app = typer.Typer(
    name="pointsman",
    help="A serving gateway that sends every prompt to the expert that answers it best per dollar.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would swallow the brackets of "pointsman[train]"
)


def main() -> None:
    """Run the command line; the console script's entry point."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pointsman {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    config: ConfigPath = DEFAULT_CONFIG,
    host: Annotated[str | None, typer.Option(envvar="POINTSMAN_HOST", help="Address instead of server.host.")] = None,
    port: Annotated[int | None, typer.Option(envvar="POINTSMAN_PORT", help="Port instead of server.port.")] = None,
    workers: Annotated[
        int | None, typer.Option(envvar="POINTSMAN_WORKERS", min=1, max=64, help="Processes instead of server.workers.")
    ] = None,
    worker: Annotated[str | None, typer.Option(hidden=True, help="Be a worker; its place.")] = None,
) -> None:
    """Start the gateway. Ctrl-C or SIGTERM stops it after running requests have ended, a second one at once.

    Changes of the configuration file are taken over while it runs, or by SIGHUP.
    """
    from gateway import server
    from gateway.reload import ConfigSource
    from gateway.workers import Place

    source = ConfigSource(config, lambda settings: settings.with_address(host, port, workers))
    settings = _loaded(source.load)
    try:
        if worker is None and settings.server.workers > 1:
            told = (("host", host), ("port", port), ("workers", workers))
            given = [f"--{name}={value}" for name, value in told if value is not None]
            command = [sys.executable, "-m", "gateway.cli", "serve", f"--config={config}", *given]
            code = server.run_workers(settings, settings.server.workers, lambda place: [*command, f"--worker={place}"])
        else:
            place = None if worker is None else Place.parse(worker)
            code = server.run(settings, source=source, place=place)
    except server.CannotServe as error:
        _fail(str(error))
    raise typer.Exit(code)


@app.command()
def check(
    config: ConfigPath = DEFAULT_CONFIG,
    schema: Annotated[bool, typer.Option("--schema", help="Print the file's JSON Schema instead.")] = False,
) -> None:
    """Check a configuration and print the one in effect, defaults included. Secrets are never printed."""
    from gateway import catalog, grants
    from gateway.settings import MissingSecret
    from gateway.settings_file import dump, json_schema

    if schema:
        typer.echo(json_schema())
        return
    settings = _settings(config)
    try:
        built = catalog.build(settings)
        grants.build(settings)
    except (MissingSecret, grants.SameKey) as error:
        _fail(f"{config}: {error}")
    typer.echo(dump(settings), nl=False)
    typer.echo(f"# {config}: good; {len(built.experts)} experts, catalog version {built.version}", err=True)


@app.command()
def route(
    text: Annotated[str, typer.Argument(help="The prompt; `-` reads it from standard input.")],
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    words: Annotated[
        bool, typer.Option("--words", help="Add the words that decided and the nearest training topics.")
    ] = False,
    policy: Annotated[str | None, typer.Option(help="Decide by this policy instead of the configured one.")] = None,
) -> None:
    """Print the decision for one prompt and why, as if all experts were up. Sends nothing anywhere."""
    from gateway.dry_run import decide_offline, describe
    from gateway.errors import RequestError
    from gateway.settings import MissingSecret
    from gateway.thresholds import UnknownDomain
    from router import RouterError

    prompt = sys.stdin.read() if text == "-" else text
    try:
        explained = decide_offline(_settings(config), prompt, words=words, policy=policy)
    except (RouterError, MissingSecret, UnknownDomain, RequestError) as error:
        _fail(str(error))
    typer.echo(describe(explained, as_json=as_json))


@app.command()
def sim(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Start simulated vLLM experts on the loopback addresses the configuration names. No model runs."""
    from gateway.demo import CannotSimulate, run_simulation

    try:
        run_simulation(_settings(config))
    except CannotSimulate as error:
        _fail(f"{config}: {error}")


@app.command()
def demo(
    config: ConfigPath = DEFAULT_CONFIG,
    port: Annotated[int | None, typer.Option(envvar="POINTSMAN_PORT", help="Port instead of server.port.")] = None,
    dashboard: Annotated[bool, typer.Option(help="Show the dashboard, with stores that go with the demo.")] = True,
    per_second: Annotated[
        float, typer.Option(min=0, max=100, help="Requests of simulated callers in a second; 0: none, and no past.")
    ] = 3.0,
) -> None:
    """Start simulated experts, the gateway in front of them and its dashboard, and print what to try."""
    from gateway import server
    from gateway.demo import CannotSimulate, Extras, run_demo
    from gateway.settings import MissingSecret
    from gateway.thresholds import UnknownDomain
    from router import RouterError

    try:
        run_demo(config, _settings(config).with_address(None, port), Extras(dashboard, per_second))
    except (CannotSimulate, server.CannotServe, RouterError, MissingSecret, UnknownDomain) as error:
        _fail(str(error))


app.command()(cli_training.train)
app.command()(cli_training.evaluate)
app.command()(cli_domains.explain)
app.command()(cli_replay.replay)
app.add_typer(cli_data.data_app)
app.add_typer(cli_domains.domains_app)
app.add_typer(cli_quality.quality_app)
app.add_typer(cli_feedback.feedback_app)
app.add_typer(cli_records.records_app)
app.add_typer(cli_keys.keys_app)
app.add_typer(cli_admin_tokens.admin_tokens_app)


def _settings(path: Path) -> Settings:
    from gateway.settings_file import load

    return _loaded(lambda: load(path))


def _loaded(load: Callable[[], Settings]) -> Settings:
    from gateway.settings_file import ConfigError

    try:
        return load()
    except ConfigError as error:
        _fail("\n".join(error.lines()))


def _fail(message: str) -> NoReturn:
    typer.echo(f"pointsman: {message}" if "\n" not in message else message, err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    main()
