"""Open an artifact folder: check its card and the hash of each file, then hand over to the backend it names.

A folder holds `card.json` and the files it lists. The card says which file of `router/backends/` reads them, so
a new kind of model is one new file there. It must not import a backend before an artifact asks for it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from router.abstention import Thresholds
from router.calibration import Calibration
from router.errors import ArtifactError
from router.scores import Scorer

CARD: Final = "card.json"
FORMAT: Final = 2
DEFAULT: Final = "default"
_BACKEND_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
SHIPPED: Final = Path(__file__).parent / "artifacts" / DEFAULT
"""The artifact that comes with the package."""


@dataclass(frozen=True, slots=True)
class Card:
    """The part of `card.json` that loading needs; the rest of the file is for readers.

    Attributes:
        name: artifact name, first half of the scorer's version.
        backend: file of `router/backends/` that reads the weights.
        base_labels: domains the model was trained on, in column order.
        added: domains added afterwards (`router.gates`), in column order after the others.
        tiers: names of the model's tiers, the fastest first.
        calibration: numbers fitted after training; see `router.calibration`.
        thresholds: when to abstain, as fitted.
        max_tokens: longest token sequence the transformer sees; longer prompts keep head and tail.
        files: file name to sha256, hex.
    """

    name: str
    backend: str
    base_labels: tuple[str, ...]
    added: tuple[str, ...]
    tiers: tuple[str, ...]
    calibration: Calibration
    thresholds: Thresholds
    max_tokens: int
    files: Mapping[str, str]

    @property
    def labels(self) -> tuple[str, ...]:
        """All domains in column order."""
        return self.base_labels + self.added

    @property
    def version(self) -> str:
        """Name plus a digest of the weights."""
        digest = hashlib.sha256("".join(f"{n}{h}" for n, h in sorted(self.files.items())).encode()).hexdigest()
        return f"{self.name}-{digest[:12]}"


class BackendClass(Protocol):
    """What the class `Backend` of a backend file offers."""

    def __call__(self, folder: Path, card: Card, *, threads: int) -> Scorer:
        """Load the weights; `ArtifactError` when they do not fit the card."""


def load_scorer(artifact: str | Path = DEFAULT, *, threads: int = 1) -> Scorer:
    """Load a classifier.

    Args:
        artifact: an artifact folder, or "default" for the one shipped in this package.
        threads: threads one `score` call may use.

    Returns:
        A scorer that is safe to share between threads.

    Raises:
        ArtifactError: the folder cannot be used; the message says what is wrong.
    """
    folder = artifact_folder(artifact)
    card = read_card(folder)
    _verify(folder, card)
    return _backend(folder, card.backend)(folder, card, threads=threads)


def artifact_folder(artifact: str | Path) -> Path:
    """Return the folder of an artifact; "default" is the one shipped in this package."""
    return SHIPPED if artifact == DEFAULT else Path(artifact)


def read_card(folder: Path) -> Card:
    """Return the checked loading part of the card in `folder`; `ArtifactError` names what is wrong."""
    content = read_card_json(folder)
    if content.get("format") != FORMAT:
        raise ArtifactError(folder, f"unknown format {content.get('format')!r}; this version reads {FORMAT}")
    try:
        card = Card(
            name=str(content["name"]),
            backend=str(content["backend"]),
            base_labels=tuple(str(label) for label in content["labels"]),
            added=tuple(str(label) for label in content.get("added", ())),
            tiers=tuple(str(tier) for tier in content["tiers"]),
            calibration=Calibration.from_dict(content["calibration"]),
            thresholds=Thresholds.from_dict(content["thresholds"]),
            max_tokens=int(content["max_tokens"]),
            files={str(name): str(digest) for name, digest in content["files"].items()},
        )
    except KeyError as error:
        raise ArtifactError(folder, f"{CARD} lacks {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(folder, f"{CARD} has a value of the wrong kind: {error}") from error
    _check(folder, card)
    return card


def read_card_json(folder: Path) -> dict[str, Any]:
    """Return the whole card as parsed JSON; `ArtifactError` when it is missing or no JSON object."""
    try:
        content = json.loads((folder / CARD).read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError(folder, f"no {CARD}") from error
    except OSError as error:
        raise ArtifactError(folder, f"cannot read {CARD}: {error.strerror}") from error
    except ValueError as error:
        raise ArtifactError(folder, f"{CARD} is not valid JSON") from error
    if not isinstance(content, dict):
        raise ArtifactError(folder, f"{CARD} is not a JSON object")
    return content


def _check(folder: Path, card: Card) -> None:
    if len(card.labels) < 2 or len(set(card.labels)) != len(card.labels):
        raise ArtifactError(folder, "needs two or more distinct labels")
    if not card.tiers or len(set(card.tiers)) != len(card.tiers):
        raise ArtifactError(folder, "needs one or more distinct tiers")
    shifts = {len(card.calibration.first_shift), len(card.calibration.pair_shift)}
    if shifts - {0, len(card.base_labels)}:
        raise ArtifactError(folder, f"calibration has shifts for {max(shifts)} labels, not {len(card.base_labels)}")
    if not 8 <= card.max_tokens <= 8192:
        raise ArtifactError(folder, f"max_tokens {card.max_tokens} is outside 8..8192")
    if not card.files:
        raise ArtifactError(folder, f"{CARD} lists no files")


def _verify(folder: Path, card: Card) -> None:
    for name, expected in card.files.items():
        if Path(name).name != name or name in ("", ".", ".."):
            raise ArtifactError(folder, f"file name {name!r} is not a plain name")
        try:
            digest = sha256_of(folder / name)
        except FileNotFoundError as error:
            raise ArtifactError(folder, f"missing file {name}") from error
        except OSError as error:
            raise ArtifactError(folder, f"cannot read {name}: {error.strerror}") from error
        if digest != expected:
            raise ArtifactError(folder, f"hash mismatch of {name}: card {expected[:12]}, file {digest[:12]}")


def _backend(folder: Path, name: str) -> BackendClass:
    """Return the class `Backend` of `router/backends/<name>.py`; unknown and uninstalled are two errors."""
    module_name = f"router.backends.{name}"
    if not _BACKEND_NAME.fullmatch(name) or importlib.util.find_spec(module_name) is None:
        raise ArtifactError(folder, f"unknown backend {name!r}")
    try:
        backend: BackendClass = importlib.import_module(module_name).Backend
    except ImportError as error:
        raise ArtifactError(folder, f"backend {name!r} needs {error.name}, which is not installed") from error
    return backend


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
