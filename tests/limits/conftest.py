"""A Valkey or Redis server, empty for every test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.limits.servers import Valkey, binary


@pytest.fixture(scope="session")
def valkey_program() -> str:
    """The program; skips where neither server is installed (`deploy/ci/servers.sh`)."""
    program = binary()
    if program is None:
        pytest.skip("neither Valkey nor Redis is installed; deploy/ci/servers.sh installs one")
    return program


@pytest.fixture(scope="session")
def valkey_server(valkey_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with closing(Valkey(valkey_program, tmp_path_factory.mktemp("valkey"))) as server:
        yield server


@pytest.fixture
def valkey(valkey_server: Valkey) -> Valkey:
    valkey_server.client().flushall()
    valkey_server.client().script_flush()
    return valkey_server
