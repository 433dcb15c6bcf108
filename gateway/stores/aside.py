"""Moves a corrupt SQLite file that several processes of ours may use aside, once. Opens no database.

Only what is ours is ever moved: a path that names somebody else's file by mistake must not cost them that file. Whether
it is ours says a file `<path>.lock` beside it, which also lets one process after the other look and rename.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

KEPT = 2
_USED = b"used\n"

Identity = tuple[int, int]


class Custody:
    """What is known of a file that may have to be moved aside.

    Args:
        path: the file.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._marked = False

    def identity(self) -> Identity | None:
        """Return which file is at the path now; None when there is none."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def mark_used(self) -> None:
        """Write down that a process of ours has used the file.

        Raises:
            OSError: it cannot be written; the file is then never moved.
        """
        if not self._marked:
            with self._alone() as lock:
                os.pwrite(lock, _USED, 0)
            self._marked = True

    def move(self, used: Identity | None) -> str | None:
        """Rename the file to `<path>.corrupt-N`, of which the last two are kept.

        Args:
            used: which file was found to be corrupt; another that stands there by now is left alone.

        Returns:
            Its new name; None when it was not moved: it is not ours, or another process has moved it.

        Raises:
            OSError: it cannot be renamed.
        """
        with self._alone() as lock:
            if used is None or used != self.identity() or os.pread(lock, len(_USED), 0) != _USED:
                return None
            return put_aside(self._path)

    @contextmanager
    def _alone(self) -> Iterator[int]:
        lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)


def put_aside(path: Path) -> str:
    """Rename a database with its helper files, delete all but the last `KEPT` of those before it, return its new name.

    Raises:
        OSError: it cannot be renamed.
    """
    older = sorted(path.parent.glob(f"{path.name}.corrupt-*[0-9]"))
    for stale in older[: max(0, len(older) - KEPT + 1)]:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{stale}{suffix}").unlink(missing_ok=True)
    aside = f"{path}.corrupt-{time.time_ns()}"
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            os.rename(f"{path}{suffix}", f"{aside}{suffix}")
    return Path(aside).name
