"""The numbers of the training recipe in one place; no code that trains."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train one artifact.

    Attributes:
        name: artifact name, first half of the scorer's version.
        base: encoder the transformer starts from, a folder or a name on the model hub; None takes the verified
            all-MiniLM-L6-v2 package. Another base is trained on all languages.
        steps: optimiser steps.
        batch: prompts per step.
        focus_share: share of each batch drawn from the focus folders, the hand-written prompts.
        max_tokens: longest sequence, in training and in serving.
        encoder_rate: peak learning rate of the encoder.
        head_rate: peak learning rate of the head.
        layers: layers of the default base that are kept, from the lowest; 0 keeps all, as of another base.
        frozen_layers: lowest encoder layers (with the embeddings) that stay as they are.
        alternative_share: probability mass a row's `alt` labels share in its training target.
        test_share: share of the focus prompts only measured on.
        calibration_share: share of the focus prompts only used for the temperature.
        held_out_sources: share of the other sources held out whole, for calibration and as a measurement.
        hold_out: sources held out by name instead.
        tiers: names of the tiers to train, the fastest first.
        other_languages: languages of the other sources that are used, "" is unknown; empty means all. Public data sets
            in one language often have one label, and teach that the language is the label; hand-written prompts in
            any language are kept.
        transformer_languages: languages the transformer is trained on, "" is unknown; empty means all. The default
            base reads English only, and its time is better spent on that; the fast tier reads the rest.
        altered_share: share of the fast tier's prompts that are altered in style; the transformer sees all altered.
        draws: prompts drawn to train the fast tier's head.
        hidden: width of that head's hidden layer.
        relevance_steps: steps in which the fast tier learns to tell the ask from what is around it; 0 for none.
        least_reached: share of the specialist prompts that must reach a specialist; thresholds are as strict as that
            allows.
        threads: CPU threads.
        seed: seeds every random choice.
    """

    name: str = "default"
    base: str | None = None
    steps: int = 1500
    batch: int = 64
    focus_share: float = 0.65
    max_tokens: int = 64
    encoder_rate: float = 1.5e-4
    head_rate: float = 1e-3
    layers: int = 0
    frozen_layers: int = 0
    alternative_share: float = 0.3
    test_share: float = 0.06
    calibration_share: float = 0.05
    held_out_sources: float = 0.15
    hold_out: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ("fast", "transformer")
    other_languages: tuple[str, ...] = ("", "en")
    transformer_languages: tuple[str, ...] = ("", "en")
    altered_share: float = 0.6
    draws: int = 160_000
    hidden: int = 512
    relevance_steps: int = 1000
    least_reached: float = 0.82
    threads: int = 2
    seed: int = 7
