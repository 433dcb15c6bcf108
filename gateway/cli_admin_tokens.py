"""The commands that make, list, rotate and revoke admin tokens. Prints a token once, and no secret otherwise."""

from __future__ import annotations

from typing import Annotated

import orjson
import typer

from gateway import cli_keys
from gateway.cli_keys import DEFAULT_CONFIG, ConfigPath, Expires, Grace

admin_tokens_app = typer.Typer(
    name="admin-tokens",
    help="Tokens for the admin side, in the store that `key_store` names.",
    no_args_is_help=True,
    rich_markup_mode=None,  # as in `gateway.cli`
)
TokenName = Annotated[str, typer.Argument(help="The name, which events and logs go by.")]


@admin_tokens_app.callback()
def _group() -> None:
    """Tokens for the admin side, in the store that `key_store` names."""


@admin_tokens_app.command()
def create(
    name: TokenName,
    config: ConfigPath = DEFAULT_CONFIG,
    role: Annotated[str, typer.Option(help="`viewer` may look, `admin` may change as well.")] = "viewer",
    expires: Expires = None,
) -> None:
    """Make an admin token and print it. It is shown this once."""
    from gateway.keyring import Role
    from gateway.stores.keys import Space

    if role not in tuple(Role):
        cli_keys.fail(f"no role is called {role!r}; there are: {', '.join(Role)}")
    cli_keys.add(cli_keys.settings_of(config), Space.ADMIN, name, orjson.dumps({"role": role}), expires)


@admin_tokens_app.command("list")
def list_tokens(
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """List the admin tokens, revoked and expired ones too, without their secrets."""
    from gateway.stores.keys import Space

    cli_keys.show(cli_keys.settings_of(config), Space.ADMIN, as_json)


@admin_tokens_app.command()
def rotate(name: TokenName, config: ConfigPath = DEFAULT_CONFIG, grace: Grace = "0s", expires: Expires = None) -> None:
    """Give an admin token a new secret and print it. Sessions opened with the old one end with it."""
    from gateway.stores.keys import Space

    cli_keys.replace(cli_keys.settings_of(config), Space.ADMIN, name, grace, expires)


@admin_tokens_app.command()
def revoke(name: TokenName, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """End an admin token for ever. Running gateways refuse it, and its sessions, within about a second."""
    from gateway.stores.keys import Space

    cli_keys.end(cli_keys.settings_of(config), Space.ADMIN, name)
