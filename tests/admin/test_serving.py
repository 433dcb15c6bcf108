"""`pointsman serve` with an admin API: its port, its refusals to start, several workers (OPERATIONS D12, H4, H23)."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.admin.conftest import ADMIN, API, bearer
from tests.faults.lifecycle import serve, simulated, write_config

pytestmark = pytest.mark.slow

LONG = "a-token-that-is-long-enough"


async def said_by(path: Path, *options: str, command: tuple[str, ...] = ("serve",)) -> tuple[int, str]:
    """What a command says that ends by itself, as a gateway does that does not start."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", *command, "--config", str(path), *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(40):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, said.decode()


@pytest.mark.row("D12")
@pytest.mark.parametrize(
    ("admin", "said", "options"),
    [
        ({"port": 0}, "admin.token_env", ()),
        ({"port": 0, "host": "0.0.0.0"}, "admin.token_env", ()),
        ({"port": 0, "token_env": "T_SHORT"}, "shorter than 16", ()),
        ({"port": 0, "token_env": "T_NOT_SET"}, "T_NOT_SET", ()),
        ({"port": 0}, "admin.token_env", ("--workers", "2")),
    ],
)
async def test_admin_api_without_a_good_token_refuses_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, admin: dict[str, Any], said: str, options: tuple[str, ...]
) -> None:
    monkeypatch.setenv("T_SHORT", "short")
    async with simulated() as servers:
        write_config(tmp_path / "experts.yaml", servers, admin=admin)
        code, output = await said_by(tmp_path / "experts.yaml", *options)
    assert code == 1
    assert said in output
    assert "short\n" not in output


async def test_token_that_is_a_callers_key_refuses_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T_BOTH", LONG)
    async with simulated() as servers:
        keys = {"caller": {"key_env": "T_BOTH"}}
        write_config(tmp_path / "experts.yaml", servers, admin={"port": 0, "token_env": "T_BOTH"}, keys=keys)
        code, output = await said_by(tmp_path / "experts.yaml")
    assert code == 1
    assert LONG not in output


async def test_taken_port_refuses_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T_ADMIN", ADMIN)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with simulated() as servers:
            port = taken.getsockname()[1]
            write_config(tmp_path / "experts.yaml", servers, admin={"port": port, "token_env": "T_ADMIN"})
            code, output = await said_by(tmp_path / "experts.yaml")
    assert code == 1
    assert "cannot listen" in output


@pytest.mark.parametrize("workers", [1, 2])
async def test_served_admin_api_answers_until_the_drain_is_over_and_leaks_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setenv("T_ADMIN", ADMIN)
    path = tmp_path / "experts.yaml"
    async with simulated("math") as servers:
        section = {"port": 0, "token_env": "T_ADMIN"}
        records = {"database": "records.db"}
        write_config(path, servers, admin=section, records=records, server={"port": 0, "drain_grace_s": 1})
        async with serve(path, "--workers", str(workers)) as served:
            url = (await served.logged("admin_listening"))[0]["address"]
            assert url.startswith("http://127.0.0.1:")
            async with httpx2.AsyncClient(base_url=url, headers=bearer(ADMIN), timeout=20) as http:
                overview = (await http.get(f"{API}/overview")).json()
                assert (overview["workers"], overview["ready"]) == (workers, True)
                file = (await http.get(f"{API}/config/file")).json()
                changed = {"yaml": f"# a comment\n{file['yaml']}", "base_version": file["file_version"]}
                assert (await http.post(f"{API}/config/apply", json=changed)).json()["outcome"] == "unchanged"
                assert path.read_text() == changed["yaml"]
                assert (await served.chat())[0] == 200
                switch = {"url": servers["math"].url, "on": False}
                assert (await http.post(f"{API}/upstreams/switch", json=switch)).json()["disabled"] is True
                await served.logged("upstream_switched", workers)  # each worker by itself
                served.signal(signal.SIGTERM)
                await served.logged("drain_started")
                assert (await http.get(f"{API}/overview")).json()["draining"] is True
            assert await served.ended() == 0
            assert [event["action"] for event in served.of("admin_action")] == ["config_apply", "upstream_off"]
            assert ADMIN not in served.said
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{url}{API}/overview")
    assert len(served.of("admin_listening")) == 1


async def test_token_made_by_the_command_opens_the_api_until_it_is_revoked(tmp_path: Path) -> None:
    path = tmp_path / "experts.yaml"
    async with simulated() as servers:
        write_config(path, servers, admin={"port": 0}, key_store={"database": "keys.db"})
        _, made = await said_by(path, command=("admin-tokens", "create", "ops", "--role", "viewer"))
        token = next(line for line in made.splitlines() if line.startswith("pma-"))
        async with serve(path) as served:
            url = (await served.logged("admin_listening"))[0]["address"]
            async with httpx2.AsyncClient(base_url=url, headers=bearer(token), timeout=20) as http:
                overview = (await http.get(f"{API}/overview")).json()
                assert overview["principal"] == {"name": "ops", "role": "viewer"}
                assert (await http.post(f"{API}/reload")).status_code == 403
                await said_by(path, command=("admin-tokens", "revoke", "ops"))
                async with asyncio.timeout(5):  # OPERATIONS H10
                    while (await http.get(f"{API}/overview")).status_code != 401:  # noqa: ASYNC110 - it looks by itself
                        await asyncio.sleep(0.1)
        assert token not in served.said


async def test_without_a_port_there_is_no_admin_api(tmp_path: Path) -> None:
    async with simulated() as servers:
        write_config(tmp_path / "experts.yaml", servers)
        async with serve(tmp_path / "experts.yaml") as served:
            assert served.of("admin_listening") == []
            assert (await served.ask(f"{API}/overview"))[0] == 404
