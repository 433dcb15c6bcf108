"""What `experts.yaml` says of the admin API: where it listens, who may use it, what may be changed through it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gateway.settings.common import VARIABLE, Strict
from gateway.settings.serving import HOST


class AdminSettings(Strict):
    """A port of its own for administrators; closed until `port` is set."""

    port: int | None = Field(
        None, ge=0, le=65_535, description="Port of the admin API; left out: closed; 0 takes a free one."
    )
    host: str = Field("127.0.0.1", description="Address that the admin API listens on.")
    token_env: str | None = Field(
        None,
        pattern=VARIABLE,
        description="Environment variable with an administrator's token, of 16 characters at least. Without it and "
        "without `key_store` the admin API is refused on every address.",
    )
    viewer_token_env: str | None = Field(
        None,
        pattern=VARIABLE,
        description="Environment variable with a token that may look at everything, change nothing.",
    )
    hosts: tuple[Annotated[str, Field(pattern=HOST)], ...] = Field(
        (),
        description="Names in the Host header that the admin API answers, as in `server.hosts`; addresses and "
        "`localhost` always are.",
    )
    read_only: bool = Field(
        False, description="The configuration cannot be changed through the API: the file comes from elsewhere."
    )
    database: str | None = Field(
        None,
        min_length=1,
        description="SQLite file for the configurations that were applied, relative to this file; left out: "
        "`records.database` with `.admin` behind its name, and without that none are kept.",
    )
    variables: tuple[Annotated[str, Field(pattern=VARIABLE)], ...] = Field(
        (),
        description="Environment variables that a configuration given through the API may newly name in `api_key_env`, "
        "whose values are sent to servers.",
    )
    dashboard: bool = Field(True, description="Pages for people, beside the API, at `/admin/`.")
    base_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9_.~-]{1,60}){0,5}$",
        description="Path that a proxy puts before `/admin`, such as `/router`. Requests may come with or without it; "
        "the addresses in pages have it.",
    )
    notice: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="A sentence on top of every page, such as that traffic is simulated.",
    )
    allow_link_local: bool = Field(
        False,
        description="Upstreams may be at link-local addresses, where clouds keep their credentials: a configuration "
        "given through the API may name them, and they are connected to.",
    )
