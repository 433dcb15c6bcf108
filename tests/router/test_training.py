"""The whole training road on a tiny encoder made on the spot, from JSONL to a scorer that has learnt something."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

import router
from router import DataError, MissingExtraError, Recipe, load_scorer

WORDS = {
    "math": ["triangle", "integral", "prime", "fraction", "matrix", "angle", "sum", "equation"],
    "law": ["contract", "tenant", "court", "statute", "appeal", "lawyer", "custody", "will"],
    "general": ["dinner", "holiday", "dog", "joke", "movie", "weather", "gift", "party"],
}
FILLER = ["please", "tell", "me", "about", "the", "my", "what", "is", "a", "with"]


def test_train_without_the_extra_says_what_to_install(tmp_path: Path) -> None:
    try:
        import torch  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match=r'pip install "pointsman\[train\]"'):
            router.train([tmp_path], tmp_path / "out")
    else:
        assert MissingExtraError("torch").library == "torch"


def test_evaluate_folder_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.jsonl"):
        router.evaluate([tmp_path])


def test_evaluate_small_folder_reports_every_figure(tmp_path: Path) -> None:
    rows = [
        {"text": "Solve 3x + 4 = 19 for x", "label": "math", "lang": "en"},
        {"text": "Fix this Python traceback: KeyError 'id'", "label": "coding", "lang": "en"},
        {"text": "unknown label", "label": "astrology"},
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines: list[str] = []
    report = router.evaluate([tmp_path], progress=lines.append)
    assert (report.overall.count, report.skipped) == (2, 1)
    assert report.overall.accuracy == 1.0
    assert report.majority_accuracy == 0.5
    assert set(report.sources) == {"mine"}
    assert report.speed.overall.mean_ms > 0
    assert lines
    json.dumps(report.as_dict())


def make_prompt(label: str, dice: random.Random) -> str:
    words = dice.sample(FILLER, 3) + dice.sample(WORDS[label], 2)
    dice.shuffle(words)
    return " ".join(words)


def make_data(folder: Path, count: int, seed: int) -> Path:
    folder.mkdir()
    dice = random.Random(seed)
    for label in WORDS:
        for part in ("a", "b"):
            lines = [json.dumps({"text": make_prompt(label, dice), "label": label}) for _ in range(count)]
            (folder / f"{label}-{part}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def make_base(folder: Path) -> Path:
    """Write a two-layer BERT with random weights and a word-level vocabulary."""
    import tokenizers
    import transformers

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *FILLER, *(word for words in WORDS.values() for word in words)]
    model = tokenizers.models.WordPiece({word: n for n, word in enumerate(vocabulary)}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    config = transformers.BertConfig(
        vocab_size=2000, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("default")  # the training libraries warn about themselves
def test_train_interrupted_run_continues_to_an_artifact_that_beats_chance(tmp_path: Path) -> None:
    for library in ("torch", "transformers", "onnx", "sklearn"):
        pytest.importorskip(library, reason="needs the train extra")
    recipe = Recipe(
        name="tiny",
        base=str(make_base(tmp_path / "base")),
        steps=100,
        batch=32,
        max_tokens=32,
        encoder_rate=2e-3,
        head_rate=2e-2,
        tiers=("fast", "transformer"),
        draws=2_000,
        test_share=0.1,
    )
    folders = [make_data(tmp_path / "train", 60, seed=1)]
    focus = [make_data(tmp_path / "focus", 60, seed=2)]
    validation = [make_data(tmp_path / "validation", 20, seed=3)]
    output = tmp_path / "out"

    def interrupt(line: str) -> None:
        if line.startswith("step 75 "):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        router.train(folders, output, focus=focus, validation=validation, recipe=recipe, progress=interrupt)
    lines: list[str] = []
    result = router.train(folders, output, focus=focus, validation=validation, recipe=recipe, progress=lines.append)
    assert [line.split(",")[0] for line in lines if line.startswith("step ")] == ["step 75 of 100", "step 100 of 100"]
    assert not list(tmp_path.glob("*.checkpoint"))
    validated = result.evaluations["validation"]
    assert validated.overall.accuracy > 0.9
    assert result.labels == ("general", "law", "math")
    assert {"TF-IDF + logistic regression", "fast tier alone", "transformer tier alone"} <= set(validated.baselines)
    scorer = load_scorer(output)
    assert scorer.version == result.version
    assert scorer.score(["what is the tenant contract"])[0].top()[0] == "law"
    assert (output / "README.md").read_text().startswith("#")
    assert json.loads((output / "evaluation.json").read_text())["unseen"]["quality"]["overall"]["count"] > 0
    card = json.loads((output / "card.json").read_text())
    assert card["command"].startswith("pointsman train ")
    assert card["training"]["prompts"]["hand-written"] > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("default")
def test_train_quick_from_a_csv_of_own_labels_learns_them(tmp_path: Path) -> None:
    for library in ("torch", "transformers", "onnx", "sklearn"):
        pytest.importorskip(library, reason="needs the train extra")
    dice = random.Random(5)
    rows = [f'"{make_prompt(label, dice)}",{label}' for label in WORDS for _ in range(80)]
    file = tmp_path / "mine.csv"
    file.write_text("text,label\n" + "\n".join(rows) + "\n")
    recipe = Recipe(name="mine", tiers=("fast",), test_share=0.1, calibration_share=0.1)
    result = router.train([], tmp_path / "out", focus=[file], recipe=recipe)
    assert result.evaluations["unseen"].overall.accuracy > 0.9
    scorer = load_scorer(tmp_path / "out")
    assert scorer.labels == ("general", "law", "math")
    assert scorer.score(["which court hears the appeal of a tenant"])[0].top()[0] == "law"
    # The encoder is multilingual, so a label learnt in English holds in a language no row was in.
    assert scorer.score(["welches Gericht ist für die Klage des Mieters zuständig"])[0].top()[0] == "law"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("default")
def test_leave_one_source_out_measures_each_source_unseen(tmp_path: Path) -> None:
    for library in ("torch", "transformers", "onnx", "sklearn"):
        pytest.importorskip(library, reason="needs the train extra")
    dice = random.Random(6)
    for source in ("a", "b", "c"):
        lines = [json.dumps({"text": make_prompt(label, dice), "label": label}) for label in WORDS for _ in range(20)]
        (tmp_path / f"{source}.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "odd.jsonl").write_text(json.dumps({"text": "only here", "label": "alone"}) + "\n")
    found = router.leave_one_source_out([tmp_path])
    assert [row.source for row in found] == ["a", "b", "c"]
    assert all(row.count == 60 and row.accuracy > 0.9 for row in found)
    assert all(row.accuracy_five >= row.accuracy for row in found)
