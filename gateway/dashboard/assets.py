"""Scripts and styles, read once and served from memory. Opens no file for a request, so no path can lead astray."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from starlette.responses import Response

HERE = Path(__file__).parent
FOLDERS = (HERE / "static", HERE / "vendor")
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    packed: bytes
    type: str


class Assets:
    """The files below some folders, by name. Names are unique over all folders.

    Args:
        folders: where they are; one that is missing has none.

    Attributes:
        digest: of all of them; part of every address, so that a new version is fetched and an old one may be kept.
    """

    def __init__(self, folders: Iterable[Path] = FOLDERS) -> None:
        paths = sorted(path for folder in folders if folder.is_dir() for path in folder.iterdir())
        self._files = {path.name: _read(path) for path in paths if path.suffix in _TYPES}
        total = sha256()
        for name, file in sorted(self._files.items()):
            total.update(name.encode() + b"\0" + sha256(file.content).digest())
        self.digest = total.hexdigest()[:16]

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def size_bytes(self, name: str) -> int:
        """Return how many bytes of a file go over the wire."""
        return len(self._files[name].packed)

    def answer(self, digest: str, name: str, accepts: str) -> Response | None:
        """Return a file; None: there is none of this name.

        Args:
            digest: the one in the address; a page of another version gets the file all the same, to be asked for anew.
            name: of the file, without its folder.
            accepts: the request's `Accept-Encoding`.
        """
        file = self._files.get(name)
        if file is None:
            return None
        headers = {
            "cache-control": _FOR_EVER if digest == self.digest else "no-cache",
            "vary": "accept-encoding",
            "accept-ranges": "none",
        }
        content = file.content
        if "gzip" in accepts:
            headers["content-encoding"], content = "gzip", file.packed
        return Response(content, headers=headers, media_type=file.type)


def _read(path: Path) -> _File:
    content = path.read_bytes()
    return _File(content, gzip.compress(content, 9, mtime=0), _TYPES[path.suffix])
