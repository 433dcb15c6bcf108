"""Encoders of other architectures as the transformer's base: exported graph and torch module say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router import DataError, Recipe
from tests.router.test_training import make_base

SMALL = {"vocab_size": 2000, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Bert": SMALL | {"intermediate_size": 64},
    "XLMRoberta": SMALL | {"intermediate_size": 64, "max_position_embeddings": 300},
    "DistilBert": {"vocab_size": 2000, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "ModernBert": SMALL
    | {"intermediate_size": 64, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2}
    | {"sep_token_id": 3},
    "DebertaV2": SMALL
    | {"intermediate_size": 64, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 32},
}


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_export_any_encoder_keeps_what_it_computes(architecture: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the train extra")
    transformers = pytest.importorskip("transformers", reason="needs the train extra")
    import onnxruntime

    from router.training import encoder, export

    base = make_base(tmp_path / "base")
    config = getattr(transformers, f"{architecture}Config")(**ARCHITECTURES[architecture])
    transformers.AutoModel.from_config(config).save_pretrained(base)
    classifier = encoder.load_base(Recipe(base=str(base)), ("a", "b", "c"))
    export.export(classifier, tmp_path / "out")
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "transformer.int8.onnx"))
    for length in (5, 30, 120):
        ids = np.random.default_rng(length).integers(4, 1900, (1, length))
        (embedding,) = session.run(None, {"input_ids": ids})
        mask = torch.ones(1, length, dtype=torch.long)
        with torch.no_grad():
            hidden = classifier.encoder.eval()(input_ids=torch.tensor(ids), attention_mask=mask).last_hidden_state
        expected = hidden.mean(dim=1).numpy()
        cosine = (embedding * expected).sum() / np.linalg.norm(embedding) / np.linalg.norm(expected)
        assert cosine > 0.995


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_base_that_is_no_folder_and_not_on_the_hub_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="needs the train extra")
    from router.training import encoder

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="no folder and cannot be fetched"):
        encoder.find_base("nobody/no-such-encoder")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"lacks model\.safetensors"):
        encoder.find_base(str(tmp_path))
