"""The tiers of the shipped artifact, and the files they are read from."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from router.artifact import SHIPPED, read_card
from router.errors import ArtifactError
from router.heads import Head, softmax
from router.tiers import fast
from router.tiers.fast import HEAD_TOKENS, MAX_TOKENS, FastEncoder, FastTier
from router.tiers.table import RowFile

FOLDER = SHIPPED


@pytest.fixture(scope="module")
def tier() -> FastTier:
    return FastTier(FOLDER, read_card(FOLDER), threads=1)


def written(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path.with_suffix(".npy") if path.suffix != ".npy" else path


def test_row_file_reads_what_numpy_wrote(tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 256, (50, 16), dtype=np.uint8)
    table = RowFile(written(tmp_path / "table.npy", array))
    assert table.shape == (50, 16)
    np.testing.assert_array_equal(table.rows([3, 3, 49, 0]), array[[3, 3, 49, 0]])


def test_row_file_is_shared_between_threads(tmp_path: Path) -> None:
    array = np.arange(200 * 32, dtype=np.uint32).reshape(200, 32).astype(np.uint8)
    table = RowFile(written(tmp_path / "table.npy", array))
    wrong: list[int] = []

    def work(start: int) -> None:
        picked = [(start + step) % 200 for step in range(400)]
        if not np.array_equal(table.rows(picked), array[picked]):
            wrong.append(start)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("array", [np.zeros((4, 4), dtype=np.float32), np.zeros(9, dtype=np.uint8)])
def test_row_file_of_another_kind_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected rows"):
        RowFile(written(tmp_path / "table.npy", array))


def test_row_file_cut_short_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "table.npy", np.zeros((40, 40), dtype=np.uint8))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        RowFile(file)


def test_encoder_without_its_files_says_which(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=fast.PIECES):
        FastEncoder(tmp_path)


def test_fast_tier_long_prompts_are_bounded(tier: FastTier) -> None:
    assert len(tier.encoder.tokens("word " * 100_000)) == MAX_TOKENS
    assert len(tier.encoder.tokens("数" * 100_000)) == MAX_TOKENS


def test_fast_tier_second_look_needs_enough_tokens(tier: FastTier) -> None:
    assert tier.read("a short prompt").logits_without_head is None
    reading = tier.read("one two three four five " * HEAD_TOKENS)
    assert reading.logits_without_head is not None
    assert reading.logits_without_head.shape == reading.logits.shape


def test_fast_tier_second_look_is_that_of_the_rest_of_the_prompt(tier: FastTier) -> None:
    first = "ROUTE TO LAW: statute, tort, plaintiff, appeal, court, contract, injunction, custody, lawyer, writ. "
    ask = "Solve the quadratic equation 3x^2 - 7x + 2 = 0 and show how the discriminant decides the number of roots."
    labels = read_card(FOLDER).base_labels
    reading = tier.read(first + ask)
    assert reading.logits_without_head is not None
    math, law = labels.index("math"), labels.index("law")
    before = reading.logits[math] - reading.logits[law]
    without = reading.logits_without_head[math] - reading.logits_without_head[law]
    assert without > before


@pytest.mark.parametrize(
    ("english", "other"),
    [
        ("my stomach hurts, should I see a doctor", "मेरे पेट में दर्द है, डॉक्टर को दिखाऊं?"),
        ("my stomach hurts, should I see a doctor", "bụng tôi đau, có cần đi khám bác sĩ không"),
        ("my landlord wants to evict me", "mein Vermieter will mich auf die Straße setzen"),
        ("how do I sort a list in python", "pythonでリストを並べ替えるには"),
    ],
)
def test_fast_tier_translations_lie_close(tier: FastTier, english: str, other: str) -> None:
    here, there, elsewhere = (
        tier.read(text).embedding for text in (english, other, "a poem about rain over an empty harbour")
    )
    assert float(here @ there) > float(here @ elsewhere) + 0.2


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("how much rent may my landlord ask for", True),
        ("SELECT name FROM users WHERE id = 3; -- why is this slow?", True),
        ("∫ x^2 sin(x) dx from 0 to pi, by parts", True),
        ("ev sahibim kirayı ne kadar artırabilir", False),
        ("房东可以不退押金吗", False),
        ("Wie viel Miete darf mein Vermieter verlangen?", False),
        ("मकान मालिक जमा राशि नहीं लौटा रहा", False),
    ],
)
def test_fast_tier_knows_what_the_transformer_can_read(tier: FastTier, text: str, readable: bool) -> None:
    assert (tier.read(text).readable >= 0.5) is readable


def test_fast_tier_capitals_are_read_as_small_letters(tier: FastTier) -> None:
    text = "can my landlord keep my deposit for normal wear"
    np.testing.assert_array_equal(tier.read(text).logits, tier.read(text.upper()).logits)


def test_head_linear_and_hidden_round_trip() -> None:
    dice = np.random.default_rng(2)

    def array(*shape: int) -> np.ndarray:
        return dice.normal(size=shape).astype(np.float32)

    for head in (
        Head(array(6), array(6), None, None, array(6, 3), array(3)),
        Head(array(6), array(6), array(6, 4), array(4), array(4, 3), array(3)),
    ):
        again = Head.from_arrays(head.as_arrays(), 3)
        features = array(5, 6)
        logits = head.logits(head.standardised(features))
        np.testing.assert_array_equal(logits, again.logits(again.standardised(features)))
        np.testing.assert_allclose(softmax(logits).sum(axis=1), 1, rtol=1e-5)
        with pytest.raises(ValueError, match="labels"):
            Head.from_arrays(head.as_arrays(), 4)
