"""Says whether files have changed, by what the file system tells of them. Keeps no file open and watches nothing.

Nothing is held on to: a file replaced by renaming, or behind a link that points elsewhere now (Kubernetes swaps the
link `..data` under a mounted ConfigMap), is seen as it is found by its path.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

Stamp = tuple[int, ...] | tuple[tuple[str, tuple[int, ...]], ...] | None
"""What identifies a file's content: device, inode, size and times; of a folder, those of its files; None: not there."""


def stamps(paths: Iterable[Path]) -> tuple[Stamp, ...]:
    """Look at files and folders. Equal stamps mean equal content, for all that can be told without reading."""
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
        if not stat.S_ISDIR(found.st_mode):
            return _numbers(found)
        with os.scandir(path) as entries:
            return tuple(sorted((entry.name, _numbers(entry.stat())) for entry in entries if entry.is_file()))
    except OSError:
        return None


def _numbers(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
