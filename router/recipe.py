"""The numbers of the training recipe in one place; no code that trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train one artifact.

    Attributes:
        name: artifact name, first half of the scorer's version.
        base: folder of the base encoder; None takes the verified all-MiniLM-L6-v2 package.
        steps: optimiser steps.
        batch: prompts per step.
        focus_share: share of each batch drawn from the focus folders, the hand-written prompts.
        max_tokens: longest sequence, in training and in serving.
        encoder_rate: peak learning rate of the encoder.
        head_rate: peak learning rate of the head.
        frozen_layers: lowest encoder layers (with the embeddings) that stay as they are.
        alternative_share: probability mass a row's `alt` labels share in its training target.
        test_share: share of the focus prompts only measured on.
        calibration_share: share of the focus prompts only used for the temperature.
        held_out_sources: share of the other sources held out whole, for the temperature and as a measurement.
        threads: CPU threads.
        seed: seeds every random choice.
    """

    name: str = "default"
    base: Path | None = None
    steps: int = 720
    batch: int = 32
    focus_share: float = 0.6
    max_tokens: int = 128
    encoder_rate: float = 1.5e-4
    head_rate: float = 1e-3
    frozen_layers: int = 0
    alternative_share: float = 0.3
    test_share: float = 0.10
    calibration_share: float = 0.05
    held_out_sources: float = 0.15
    threads: int = 2
    seed: int = 7
