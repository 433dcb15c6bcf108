"""The lock that lets one gateway, and no second one, write to a file. Opens no database.

The workers of one gateway share it: SQLite lets them write in turn, a batch takes milliseconds, and so there is one
file to read. A pipe to a single writing worker was rejected: its queue would be lost with that worker, and it would
need framing, backpressure and a successor. Who comes first takes the lock alone, writes the group's name down and then
shares it. The kernel lets go when a process ends, however it ends. The lock's file also says that a gateway has used
the database: only what is ours is ever moved aside.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress

from gateway.stores.sqlite import StoreError

_TRIES = 20
_PAUSE_S = 0.05
_USED = "used"


class WriterLock:
    """Held from the start on, until `release`.

    Args:
        path: the database; the lock is `<path>.lock` beside it.
        group: what all processes of one gateway have in common.

    Attributes:
        used: whether a gateway has used the database, so that it is ours.

    Raises:
        StoreError: another gateway holds it; the message says which process took it first.
        OSError: the lock's file cannot be written.
    """

    def __init__(self, path: str, group: str) -> None:
        self.used = False
        self._file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            holder = self._take(group)
        except BaseException:
            self.release()
            raise
        if holder is not None:
            self.release()
            raise StoreError(f"{path}: another gateway writes to it (process {holder}); give each a file of its own")

    def release(self) -> None:
        """Let others have it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _take(self, group: str) -> str | None:
        """Take the lock. Returns the holder's process id where that is another gateway's."""
        holder = "unknown"
        for _ in range(_TRIES):
            with suppress(BlockingIOError):
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.used = self._read()[-1] == _USED
                self._write(str(os.getpid()), group, *[_USED] * self.used)
                fcntl.flock(self._file, fcntl.LOCK_SH)
                return None
            with suppress(BlockingIOError):
                fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                holder, found, *marks = (*self._read(), "")
                if found == group:
                    self.used = _USED in marks
                    return None
                fcntl.flock(self._file, fcntl.LOCK_UN)
            # Somebody holds it alone: to write its name, or just before letting go.
            time.sleep(_PAUSE_S)
        return holder

    def mark_used(self) -> None:
        """Write down that a gateway has used the database."""
        if not self.used:
            self._write(*self._read()[:2], _USED)
            self.used = True

    def _read(self) -> list[str]:
        return os.pread(self._file, 4_096, 0).decode(errors="replace").splitlines() or [""]

    def _write(self, *lines: str) -> None:
        text = "".join(f"{line}\n" for line in lines).encode()
        os.pwrite(self._file, text, 0)
        os.ftruncate(self._file, len(text))
