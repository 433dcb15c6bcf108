"""Starts and stops a PostgreSQL server of the tests' own, from Debian's package, in a temporary folder."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import psycopg


def binaries() -> Path | None:
    """Where PostgreSQL's programs are, the newest version; None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class Postgres:
    """One server. It refuses to run as root, so there it runs as Debian's user `postgres`."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        # Not pytest's folder: its parents cannot be entered by another user.
        self._folder = Path(tempfile.mkdtemp(prefix="pointsman-pg-"))
        self._user = None if os.geteuid() else pwd.getpwnam("postgres")
        if self._user is not None:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._run("initdb", "-D", self.data, "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8")
        self.start()

    @property
    def data(self) -> str:
        return str(self._folder / "data")

    def address(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=on"
        self._run("pg_ctl", "-D", self.data, "-w", "-t", "30", "-l", str(self._folder / "log"), "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", self.data, "-w", "-t", "30", "-m", mode, "stop")

    def create(self, database: str) -> str:
        """Make an empty database. Returns its address."""
        with psycopg.connect(self.address(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"'.encode())
        return self.address(database)

    def close(self) -> None:
        subprocess.run(
            [self._programs / "pg_ctl", "-D", self.data, "-m", "immediate", "stop"],
            user=self._user and self._user.pw_uid,
            capture_output=True,
            check=False,
        )
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        # pg_ctl leaves a server behind that would keep a pipe open: no capture.
        subprocess.run(
            [str(self._programs / program), *arguments],
            user=self._user and self._user.pw_uid,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )
