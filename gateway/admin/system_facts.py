"""What the process runs on: memory, files, schema versions, libraries. Reads files: call it in a thread."""

from __future__ import annotations

import os
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from gateway.settings import Settings
from gateway.stores.sqlite import StoreError, versions

Row = dict[str, Any]

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_LICENCE_CHARACTERS = 100


def rss_bytes() -> int | None:
    """Return the process's resident memory, where the system tells it."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def file_sizes(settings: Settings) -> Row:
    """Return the bytes on disk of each SQLite file with what lies beside it; by section, no path."""
    return {name: _size(path) for name, path in _files(settings).items()}


def schemas(settings: Settings) -> list[tuple[str, str, int | None]]:
    """Return section, store and schema version of each SQLite file; None where it cannot be read."""
    found: list[tuple[str, str, int | None]] = []
    for section, path in _files(settings).items():
        try:
            found += [(section, name, version) for name, version in versions(path).items()]
        except StoreError:
            found.append((section, "", None))
    return found


def _files(settings: Settings) -> dict[str, str]:
    named = {
        "records": settings.records.database,
        "records.prompts": settings.records.database and f"{settings.records.database}.prompts",
        "feedback": settings.feedback.database,
        "key_store": settings.key_store.database,
        "quotas": settings.quotas.database,
        "admin": settings.admin.database or (settings.records.database and f"{settings.records.database}.admin"),
    }
    return {name: path for name, path in named.items() if path and (name != "records.prompts" or Path(path).exists())}


def _size(path: str) -> int:
    total = 0
    for part in (path, f"{path}-wal", f"{path}-shm"):
        try:
            total += os.stat(part).st_size
        except OSError:
            continue
    return total


def libraries() -> list[Row]:
    """Return the libraries that serving needs, with version and licence as they state it. Reads their metadata."""
    try:
        required = metadata.requires("pointsman") or []
    except metadata.PackageNotFoundError:  # run from a checkout
        return []
    wanted = (found[0] for line in required if "extra ==" not in line and (found := _NAME.match(line)))
    return [library for name in sorted(set(wanted)) if (library := _library(name)) is not None]


def _library(name: str) -> Row | None:
    try:
        known = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    stated = _first(known.get_all("License-Expression")) or _first(known.get_all("License"))
    classified = [
        line.rpartition(" :: ")[2] for line in known.get_all("Classifier") or () if line.startswith("License")
    ]
    licence = stated.strip().partition("\n")[0][:_LICENCE_CHARACTERS] or ", ".join(classified)
    return {"name": name, "version": _first(known.get_all("Version")) or None, "licence": licence or None}


def _first(values: list[Any] | None) -> str:
    return str(values[0]) if values else ""
