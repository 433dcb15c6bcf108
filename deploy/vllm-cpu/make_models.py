"""Makes the tiny models the test servers load: nothing is downloaded. Runs in vLLM's environment only.

    python make_models.py FOLDER

writes `tiny-chat` (Qwen2 layout, taught the conversations of `lessons.json`), `tiny-lora` and `tiny-lora2`
(adapters for it) and `tiny-bert` (embeddings). Tokenizers are trained on the sources of Python's own library.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from safetensors.torch import save_file
from teach import teach
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

HERE = Path(__file__).resolve().parent
VOCABULARY = 4096
HEAD_SIZE = 32  # the smallest that vLLM's CPU attention takes
HEADS, KV_HEADS, LAYERS = 2, 1, 2
HIDDEN = HEADS * HEAD_SIZE
MAX_POSITIONS = 4096
EMBEDDING_POSITIONS = 512
LORA_RANK = 8
CORPUS_FILES = 120
PADDING_MULTIPLE = 64  # what vLLM pads vocabularies to

log = logging.getLogger("models")


def _corpus() -> Iterator[str]:
    """Yield English-like text that every Python has: its library."""
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in [library / "pydoc_data" / "topics.py", *sorted(library.glob("*.py"))[:CORPUS_FILES]]:
        yield path.read_text(encoding="utf-8")


def _byte_pairs(special_tokens: list[str]) -> Tokenizer:
    """Train a byte-level BPE tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special_tokens,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return tokenizer


def _padded(size: int) -> int:
    """Round a vocabulary size up."""
    return -(-size // PADDING_MULTIPLE) * PADDING_MULTIPLE


def make_chat(folder: Path) -> None:
    """Write the taught chat model: 0.6 M parameters, 1.5 MB."""
    torch.set_num_threads(1)  # with a busy second core OpenMP's barriers make teaching five times slower
    tokenizer = _byte_pairs(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    # One token each, as in the models the Hermes and reasoning parsers were written for.
    tokenizer.add_tokens(["<tool_call>", "</tool_call>", "<think>", "</think>"])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = (HERE / "chat_template.jinja").read_text().strip()
    torch.manual_seed(0)
    model: Any = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=_padded(len(fast)),
            hidden_size=HIDDEN,
            intermediate_size=2 * HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            max_position_embeddings=MAX_POSITIONS,
            tie_word_embeddings=False,
            initializer_range=0.05,
            bos_token_id=None,
            eos_token_id=fast.eos_token_id,
            pad_token_id=fast.pad_token_id,
        )
    ).float()
    model.generation_config.eos_token_id = [fast.eos_token_id, fast.pad_token_id]
    teach(model, fast, HERE / "lessons.json").save_pretrained(folder)
    fast.save_pretrained(folder)


def make_lora(folder: Path, seed: int) -> None:
    """Write a random adapter of the chat model in PEFT's layout (PEFT itself is not needed)."""
    folder.mkdir(parents=True)
    random = torch.Generator().manual_seed(seed)
    query, key_value = HEADS * HEAD_SIZE, KV_HEADS * HEAD_SIZE
    shapes = {
        "q_proj": (HIDDEN, query),
        "k_proj": (HIDDEN, key_value),
        "v_proj": (HIDDEN, key_value),
        "o_proj": (query, HIDDEN),
    }
    tensors = {}
    for layer in range(LAYERS):
        for module, (width_in, width_out) in shapes.items():
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            for part, shape in (("A", (LORA_RANK, width_in)), ("B", (width_out, LORA_RANK))):
                weight = torch.randn(shape, generator=random).to(torch.bfloat16)
                tensors[f"{prefix}.lora_{part}.weight"] = weight
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    adapter = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny-chat",
        "inference_mode": True,
        "r": LORA_RANK,
        "lora_alpha": 2 * LORA_RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": sorted(shapes),
        "modules_to_save": None,
    }
    (folder / "adapter_config.json").write_text(json.dumps(adapter, indent=1))


def make_embedder(folder: Path) -> None:
    """Write the embedding model: 64 dimensions, mean pooling, normalised."""
    tokenizer = _byte_pairs(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=EMBEDDING_POSITIONS,
    )
    fast.save_pretrained(folder)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=_padded(len(fast)),
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=2 * HIDDEN,
        max_position_embeddings=EMBEDDING_POSITIONS,
        pad_token_id=fast.pad_token_id,
    )
    BertModel(config).save_pretrained(folder)
    stages = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(stages)
    ]
    # sentence-transformers' files, from which vLLM reads the pooling
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    limits = {"max_seq_length": EMBEDDING_POSITIONS, "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(limits))


def main(folder: Path) -> None:
    """Write all four models below `folder`."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    make_embedder(folder / "tiny-bert")
    make_lora(folder / "tiny-lora", seed=7)
    make_lora(folder / "tiny-lora2", seed=8)
    log.info("models: embedding model and two adapters are written")
    make_chat(folder / "tiny-chat")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
