"""`pointsman keys` and `pointsman admin-tokens` as a user types them, beside a real `pointsman serve`."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from tests.gateway.test_cli import POINTSMAN, run, write_config

pytestmark = pytest.mark.slow

KEY = re.compile(r"pm-[A-Za-z0-9]{8}-[A-Za-z0-9]{32}\n")
TOKEN = re.compile(r"pma-[A-Za-z0-9]{8}-[A-Za-z0-9]{32}\n")


@pytest.fixture
def config(tmp_path: Path) -> str:
    return str(write_config(tmp_path, key_store={"database": "keys.db"}))


def keys(config: str, *arguments: str, command: str = "keys") -> subprocess.CompletedProcess[str]:
    return run(command, *arguments, f"--config={config}")


def made(config: str, *arguments: str, command: str = "keys") -> str:
    """Make a key. Returns it."""
    done = keys(config, "create", *arguments, command=command)
    assert done.returncode == 0, done.stderr
    assert (KEY if command == "keys" else TOKEN).fullmatch(done.stdout)
    assert done.stdout.strip() not in done.stderr
    return done.stdout.strip()


def listed(config: str, command: str = "keys") -> list[dict[str, object]]:
    done = keys(config, "list", "--json", command=command)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_key_is_printed_once_and_stands_nowhere_else(config: str, tmp_path: Path) -> None:
    key = made(config, "team-a", "--expert=math", "--endpoint=chat", "--tag=x", "--daily-budget=2.5", "--expires=30d")
    secret = key.rpartition("-")[2]
    outputs = [keys(config, "list"), keys(config, "list", "--json"), keys(config, "create", "team-a")]
    for done in outputs:
        assert secret not in done.stdout + done.stderr
    for file in tmp_path.iterdir():
        assert secret.encode() not in file.read_bytes(), file
    assert stat.S_IMODE((tmp_path / "keys.db").stat().st_mode) == 0o600
    (row,) = listed(config)
    assert (row["name"], row["state"], row["prefixes"]) == ("team-a", "active", [key.split("-")[1]])
    assert row["terms"] == {"experts": ["math"], "endpoints": ["chat"], "tags": ["x"], "daily_budget": 2.5}
    assert row["last_used"] is None
    assert "team-a  active" in outputs[0].stdout


def test_rotate_and_revoke_show_in_the_list(config: str) -> None:
    first = made(config, "a")
    done = keys(config, "rotate", "a", "--grace=0s")
    assert KEY.fullmatch(done.stdout)
    assert listed(config)[0]["prefixes"] == [done.stdout.split("-")[1]] != [first.split("-")[1]]
    assert len(keys(config, "rotate", "a").stdout.splitlines()) == 1
    assert len(listed(config)[0]["prefixes"]) == 2  # type: ignore[arg-type]  # a list
    assert keys(config, "revoke", "a").stdout == "a: revoked\n"
    assert keys(config, "revoke", "a").stdout == "a: was revoked before\n"
    assert (listed(config)[0]["state"], listed(config)[0]["prefixes"]) == ("revoked", [])
    assert keys(config, "rotate", "a").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a b",), "is no name"),
        (("a\n",), "is no name"),
        (("",), "is no name"),
        (("x" * 65,), "is no name"),
        (("ok", "--expert=physics"), "no expert is called 'physics'"),
        (("ok", "--policy=luck"), "luck"),
        (("ok", "--own-policy=cheapest", "--policy=modem"), "cheapest"),
        (("ok", "--endpoint=chats"), "endpoints"),
        (("ok", "--daily-budget=-1"), "daily_budget"),
        (("ok", "--daily-budget=nan"), "daily_budget"),
        (("ok", "--requests-per-minute=0"), "requests_per_minute"),
        (("ok", "--tag=a b"), "tags"),
        (("ok", "--expires=soon"), "is no time"),
        (("ok", "--expires=-5d"), "is no time"),
        (("ok", "--expires=1000w"), "is no time"),
        (("ok", "--expires=" + "9" * 500 + "s"), "is no time"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_made(config: str, arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, ["keys", "create", f"--config={config}", *arguments[1:], "--", arguments[0]])
    assert (done.exit_code, done.stdout) == (1, "")
    assert said in done.stderr
    assert isinstance(done.exception, SystemExit)
    assert CliRunner().invoke(app, ["keys", "list", f"--config={config}"]).output == ""


def test_name_of_a_key_in_the_file_is_refused(tmp_path: Path) -> None:
    path = write_config(tmp_path, key_store={"database": "keys.db"}, keys={"team": {"key_env": "TEAM_KEY"}})
    done = keys(str(path), "create", "team")
    assert (done.returncode, done.stdout) == (1, "")


def test_without_a_store_the_command_says_what_to_set(tmp_path: Path) -> None:
    done = keys(str(write_config(tmp_path)), "list")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "key_store.database" in done.stderr


def test_corrupt_foreign_or_newer_store_is_a_clear_error(config: str, tmp_path: Path) -> None:
    place = tmp_path / "keys.db"
    place.write_bytes(b"no database at all, but long enough" * 300)
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE theirs (a)")
    for other_file in (None, tmp_path / "other.db"):
        if other_file is not None:
            os.replace(other_file, place)
        before = place.read_bytes()
        for arguments in (("create", "a"), ("list",), ("revoke", "a")):
            done = keys(config, *arguments)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
            assert "keys.db" in done.stderr
        assert place.read_bytes() == before
    place.unlink()
    made(config, "a")
    with closing(sqlite3.connect(place)) as connection, connection:
        connection.execute("UPDATE schema_version SET version = 9")
    assert "version 9" in keys(config, "list").stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_store_that_may_only_be_read_can_be_listed_but_not_changed(config: str, tmp_path: Path) -> None:
    made(config, "a")
    place, folder = tmp_path / "keys.db", tmp_path
    place.chmod(0o444)
    code = (
        "import os, sys\n"
        "from gateway.stores.keys import KeyStore, Space\n"
        "from gateway.stores.keys.sqlite import SqliteKeys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "store = KeyStore(SqliteKeys(sys.argv[1])); print(len(store.load().keys))\n"
        "store.revoke(Space.KEY, 'a', 1.0)\n"
    )
    temporary = Path(tempfile.gettempdir())
    for parent in (folder, *(parent for parent in folder.parents if temporary in parent.parents)):
        parent.chmod(parent.stat().st_mode | 0o055)
    folder.chmod(0o777)  # SQLite keeps its index of the WAL beside the file
    done = subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "1\n", done.stderr
    assert "StoreError" in done.stderr
    assert listed(config)[0]["state"] == "active"


def test_admin_tokens_have_a_role_and_are_no_keys(config: str) -> None:
    made(config, "ada", "--role=admin", command="admin-tokens")
    made(config, "vic", command="admin-tokens")
    made(config, "ada")
    assert [(row["name"], row["terms"]) for row in listed(config, "admin-tokens")] == [
        ("ada", {"role": "admin"}),
        ("vic", {"role": "viewer"}),
    ]
    assert [row["name"] for row in listed(config)] == ["ada"]
    assert keys(config, "create", "eve", "--role=root", command="admin-tokens").returncode == 1
    assert keys(config, "revoke", "ada", command="admin-tokens").returncode == 0
    assert listed(config)[0]["state"] == "active"


@contextmanager
def serving(config: str, log: Path) -> Iterator[str]:
    """A real gateway. Yields its base address."""
    port = json.loads(Path(config).read_text())["server"]["port"]
    url = f"http://127.0.0.1:{port}"
    with log.open("w") as output:
        child = subprocess.Popen([*POINTSMAN, "serve", f"--config={config}"], stdout=output, stderr=output)
        try:
            wait_for(lambda: answered(f"{url}/health/live", "") == 200, 30)
            yield url
        finally:
            child.terminate()
            child.wait(20)


def answered(url: str, key: str) -> int:
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def wait_for(true: object, timeout_s: float) -> float:
    started = time.monotonic()
    while not true():  # type: ignore[operator]  # a condition
        assert time.monotonic() - started < timeout_s
        time.sleep(0.05)
    return time.monotonic() - started


def test_commands_reach_a_running_gateway_and_no_output_has_a_secret(config: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(config, log) as url:
        models = f"{url}/v1/models"
        assert answered(models, "") == 401
        key, token = made(config, "team"), made(config, "ada", command="admin-tokens")
        wait_for(lambda: answered(models, key) == 200, 5)
        assert answered(models, token) == 401
        assert (
            key.encode()
            not in urllib.request.urlopen(
                urllib.request.Request(f"{url}/metrics", headers={"authorization": f"Bearer {key}"}), timeout=5
            ).read()
        )
        new = keys(config, "rotate", "team", "--grace=0s").stdout.strip()
        wait_for(lambda: answered(models, new) == 200, 5)
        assert answered(models, key) == 401
        keys(config, "revoke", "team")
        assert wait_for(lambda: answered(models, new) == 401, 5) < 3
    text = log.read_text()
    assert "keys_read" in text
    assert not [secret for secret in (key, token, new) if secret.rpartition("-")[2] in text]
    assert listed(config)[0]["last_used"] is not None
