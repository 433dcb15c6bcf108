"""Learn which tokens belong to what is asked, so that the fast tier hardly hears greetings, small talk and stray words.

The labels cost nothing: augmentation knows what it put around a prompt. It decides on no domain.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import torch
from torch.nn import functional

from router.data.noise import Part
from router.recipe import Recipe
from router.text import clean
from router.tiers.fast import BEGIN_ID, END_ID, MAX_TOKENS, FastEncoder
from router.training.convolution import positions, windows
from router.training.sampling import Sampler

REACH: Final = 4
"""Tokens on each side that a token's relevance depends on, besides the mean of all tokens."""
LEAST: Final = 0.12
"""Weight of the least relevant token: a prompt of small talk alone is still read. At 0.02 prompts in other languages
were 1.7 points less often right, for no more than a point of consistency."""
_NARROW: Final = 64
_HIDDEN: Final = 48
_BATCH: Final = 64
_RATE: Final = 3e-3
_WEIGHT_DECAY: Final = 0.01
_REPORT_EVERY: Final = 200


class Relevance(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Token features (t, width) to the logit (t, 1) that each token is part of what is asked."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.narrow = torch.nn.Linear(width, _NARROW)
        self.hidden = torch.nn.Linear(_NARROW * (2 * REACH + 2), _HIDDEN)
        self.last = torch.nn.Linear(_HIDDEN, 1)

    def forward(self, tokens: Any, position: Any) -> Any:
        """Look at a window of tokens and at the mean of all; `position` as `positions` gives it."""
        narrow = functional.relu(self.narrow(tokens))
        everywhere = narrow.mean(dim=0, keepdim=True) + torch.zeros_like(narrow)
        return self.last(
            functional.relu(self.hidden(torch.cat([windows(narrow, position, REACH, REACH), everywhere], dim=-1)))
        )

    def weights(self, tokens: Any, position: Any) -> Any:
        """Return how much each token counts (t, 1), from `LEAST` to 1."""
        return LEAST + (1 - LEAST) * torch.sigmoid(self(tokens, position))


def fit_relevance(
    encoder: FastEncoder, convolution: Any, sampler: Sampler, recipe: Recipe, progress: Callable[[str], None]
) -> Relevance:
    """Train on `recipe.relevance_steps` batches of altered prompts.

    Args:
        encoder: tokens and their rows.
        convolution: `router.training.convolution.Convolution`, which stays as it is.
        sampler: where prompts come from.
        recipe: steps, seed and threads.
        progress: gets a line now and then.
    """
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    relevance = Relevance(convolution.width)
    optimiser = torch.optim.AdamW(relevance.parameters(), lr=_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=max(2, recipe.relevance_steps))
    started = time.monotonic()
    for step, prompts in enumerate(sampler.marked(recipe.relevance_steps, size=_BATCH), start=1):
        loss = sum(_loss(relevance, convolution, encoder, parts) for parts in prompts) / len(prompts)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % _REPORT_EVERY == 0 or step == recipe.relevance_steps:
            progress(f"relevance: {step} steps, loss {float(loss):.3f}, {time.monotonic() - started:.0f} s")
    relevance.eval().requires_grad_(requires_grad=False)
    return relevance


def _loss(relevance: Relevance, convolution: Any, encoder: FastEncoder, parts: Sequence[Part]) -> Any:
    """Return a prompt's loss; long prompts count by the root of their length."""
    ids, asked = marked_tokens(encoder, parts)
    rows = torch.from_numpy(encoder.rows(ids))
    position = positions(rows)
    with torch.no_grad():
        tokens = convolution.tokens(rows, position)
    targets = torch.tensor(asked).unsqueeze(1)
    loss = functional.binary_cross_entropy_with_logits(relevance(tokens, position), targets, reduction="sum")
    return loss / len(ids) ** 0.5


def marked_tokens(encoder: FastEncoder, parts: Iterable[Part]) -> tuple[list[int], list[float]]:
    """Return the ids of the joined parts and, for each, 1.0 where it belongs to what is asked, else 0.0."""
    ids, asked = [BEGIN_ID], [1.0]
    for part in parts:
        pieces = encoder.pieces(clean(part.text))
        ids += pieces
        asked += [float(part.asked)] * len(pieces)
    return [*ids[: MAX_TOKENS - 1], END_ID], [*asked[: MAX_TOKENS - 1], 1.0]
