"""The commands that make, list, rotate and revoke callers' keys. Prints a key once, and no secret otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import orjson
import typer

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.stores.keys import KeyRow, KeyStore, SecretRow, Space, Stored

keys_app = typer.Typer(
    name="keys",
    help="Callers' keys, in the store that `key_store` names.",
    no_args_is_help=True,
    rich_markup_mode=None,  # as in `gateway.cli`
)
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_LONGEST_S = 3_660 * 86_400

ConfigPath = Annotated[
    Path, typer.Option("--config", "-c", envvar="POINTSMAN_CONFIG", help="Configuration file.", show_default=True)
]
KeyName = Annotated[str, typer.Argument(help="The name, which records and budgets go by.")]
Expires = Annotated[str | None, typer.Option(help="How long it is good: 45s, 15m, 12h, 30d, 8w; left out: for ever.")]
Grace = Annotated[str, typer.Option(help="How long the old one is good besides: 0s, 15m, 1h, 7d.")]
DEFAULT_CONFIG = Path("experts.yaml")


@keys_app.callback()
def _group() -> None:
    """Callers' keys, in the store that `key_store` names."""


@keys_app.command()
def create(
    name: KeyName,
    config: ConfigPath = DEFAULT_CONFIG,
    expert: Annotated[list[str] | None, typer.Option(help="An expert it may use, repeatable; none: all.")] = None,
    policy: Annotated[list[str] | None, typer.Option(help="A policy it may ask for, repeatable; none: all.")] = None,
    own_policy: Annotated[str | None, typer.Option(help="Its policy when a request names none.")] = None,
    endpoint: Annotated[
        list[str] | None, typer.Option(help="An inference endpoint it may use (chat, embeddings ...); none: all.")
    ] = None,
    price_cap: Annotated[float | None, typer.Option(help="Most that one request may be expected to cost.")] = None,
    daily_budget: Annotated[float | None, typer.Option(help="Most that it may spend in a day (UTC).")] = None,
    monthly_budget: Annotated[float | None, typer.Option(help="Most that it may spend in a month (UTC).")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="Most requests in a minute.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="Most tokens in a minute.")] = None,
    concurrent_requests: Annotated[int | None, typer.Option(help="Most requests at once.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A word of your own, repeatable.")] = None,
    expires: Expires = None,
) -> None:
    """Make a key and print it. It is shown this once."""
    from gateway.stores.keys import Space

    settings = settings_of(config)
    terms = {
        "experts": expert or None,
        "policies": policy or None,
        "policy": own_policy,
        "endpoints": endpoint or None,
        "price_cap": price_cap,
        "daily_budget": daily_budget,
        "monthly_budget": monthly_budget,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "concurrent_requests": concurrent_requests,
        "tags": tag or (),
    }
    if name in settings.keys:
        fail(f"{name!r} is the name of a key in {config} already")
    add(settings, Space.KEY, name, _checked(settings, terms), expires)


@keys_app.command("list")
def list_keys(
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """List the keys, revoked and expired ones too, without their secrets."""
    from gateway.stores.keys import Space

    show(settings_of(config), Space.KEY, as_json)


@keys_app.command()
def rotate(name: KeyName, config: ConfigPath = DEFAULT_CONFIG, grace: Grace = "1h", expires: Expires = None) -> None:
    """Give a key a new secret and print it. The old one is good for a while longer; `--grace 0s` ends it now."""
    from gateway.stores.keys import Space

    replace(settings_of(config), Space.KEY, name, grace, expires)


@keys_app.command()
def revoke(name: KeyName, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """End a key for ever. Running gateways refuse it within about a second."""
    from gateway.stores.keys import Space

    end(settings_of(config), Space.KEY, name)


def add(settings: Settings, space: Space, name: str, terms: bytes, expires: str | None) -> None:
    """Make a key of a space, keep it, print it."""
    from gateway.keyring import make
    from gateway.settings.common import NAME
    from gateway.stores.keys import KeyRow

    # Without the `$`, which lets a line end through.
    if not re.fullmatch(NAME.rstrip("$"), name):
        fail(f"{name!r} is no name: 1 to 64 letters, digits, `_`, `.` and `-`, the first a letter or digit")
    now, made = _now(), make(space)
    until = None if expires is None else now + duration(expires)
    with opened(settings) as store:
        store.add(KeyRow(made.prefix, space, name, terms.decode(), now, until), made.row(now))
    typer.echo(made.token)
    typer.echo(f"# {name}: keep it, it is not shown again", err=True)


def replace(settings: Settings, space: Space, name: str, grace: str, expires: str | None) -> None:
    """Give a key of a space a new secret, print it."""
    from gateway.keyring import make

    now, made = _now(), make(space)
    until = None if expires is None else now + duration(expires)
    with opened(settings) as store:
        store.rotate(space, name, made.row(now), grace_s=duration(grace), expires_at=until)
    typer.echo(made.token)
    typer.echo(f"# {name}: keep it, it is not shown again; the old one is good for {grace} more", err=True)


def end(settings: Settings, space: Space, name: str) -> None:
    """Revoke a key of a space."""
    with opened(settings) as store:
        done = store.revoke(space, name, _now())
    typer.echo(f"{name}: revoked" if done else f"{name}: was revoked before")


def show(settings: Settings, space: Space, as_json: bool) -> None:
    """Print the keys of a space."""
    with opened(settings) as store:
        stored = store.load()
    rows = [_described(key, stored) for key in stored.keys if key.space is space]
    if as_json:
        for row in rows:
            typer.echo(orjson.dumps(row))
        return
    for row in rows:
        terms = " ".join(f"{word}={_short(value)}" for word, value in row["terms"].items())
        times = " ".join(f"{word}={row[word]}" for word in ("created", "expires", "last_used") if row[word] is not None)
        typer.echo(f"{row['name']}  {row['state']}  {','.join(row['prefixes']) or '-'}  {times}  {terms}".rstrip())


def settings_of(path: Path) -> Settings:
    """Read the configuration; ends the command when it is wrong."""
    from gateway.settings_file import ConfigError, load

    try:
        return load(path)
    except ConfigError as error:
        fail("\n".join(error.lines()))


@contextmanager
def opened(settings: Settings) -> Iterator[KeyStore]:
    """Use the store; ends the command when there is none or it does not do what is asked."""
    from gateway.settings import MissingSecret
    from gateway.stores.keys.choosing import key_store
    from gateway.stores.sqlite import StoreError

    try:
        store = key_store(settings.key_store)
        if store is None:
            fail("there is no store of keys: set key_store.database or key_store.postgres_env")
        yield store
    except (StoreError, MissingSecret) as error:
        fail(str(error))


def duration(text: str) -> float:
    """Read `30d` as seconds; ends the command when it is none."""
    number, unit = text[:-1], text[-1:]
    if not (
        number.isascii()
        and number.isdigit()
        and unit in _UNITS
        and len(number) <= 9
        and int(number) * _UNITS[unit] <= _LONGEST_S
    ):
        fail(f"{text!r} is no time: a number and s, m, h, d or w, of ten years at most, for example 30d")
    return float(int(number) * _UNITS[unit])


def fail(message: str) -> NoReturn:
    """End the command with a message."""
    typer.echo(f"pointsman: {message}", err=True)
    raise typer.Exit(1)


def _checked(settings: Settings, terms: dict[str, Any]) -> bytes:
    from pydantic import ValidationError

    from gateway.settings import StoredTerms

    try:
        checked = StoredTerms.model_validate(terms)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, p['loc']))}: {p['msg'].removeprefix('Value error, ')}" for p in error.errors())
        fail("\n".join(problems))
    unknown = set(checked.experts or ()) - set(settings.named_experts())
    if unknown:
        fail(f"no expert is called {min(unknown)!r}; there are: {', '.join(settings.named_experts())}")
    return checked.model_dump_json(exclude_defaults=True).encode()


def _described(key: KeyRow, stored: Stored) -> dict[str, Any]:
    now = _now()
    live = [secret for secret in stored.secrets if secret.id == key.id and _is_live(key, secret, now)]
    state = "revoked" if key.revoked_at is not None else "active" if live else "expired"
    return {
        "name": key.name,
        "state": state,
        "prefixes": [secret.prefix for secret in live],
        "created": _time(key.created_at),
        "expires": _time(key.expires_at),
        "revoked": _time(key.revoked_at),
        "last_used": _time(key.last_used_at),
        "terms": _terms(key.terms),
    }


def _is_live(key: KeyRow, secret: SecretRow, now: float) -> bool:
    ends = (key.expires_at, secret.expires_at)
    return key.revoked_at is None and all(end is None or now < end for end in ends)


def _terms(text: str) -> dict[str, Any]:
    try:
        terms = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {"unreadable": True}
    return terms if isinstance(terms, dict) else {"unreadable": True}


def _short(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _now() -> float:
    return datetime.now(UTC).timestamp()
