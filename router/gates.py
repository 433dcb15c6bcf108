"""Domains added after training, each from its own examples alone and each removable without a trace.

A gate is one linear function of the embedding, fitted to sums over its own examples and to the artifact's statistics,
never to another added domain, as in PHATGOOSE (arXiv:2402.05859). Exact: adding and removing touches no other gate,
the order of gates changes no bit, the base domains keep their order. Approximate: what a gate takes of other domains
and catches of its own. Measured on a fine-tuned MiniLM, each of 9 domains left out in turn (the encoder had seen them
all, so new ones may fare worse): asked for 1 %, a gate cost the other domains 0.9 % recall on average and its worst
neighbour 3 %, and caught 87 % of its own with 20 examples. What is unlike everything trained on can lie beyond a gate.
"""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router.errors import ArtifactError
from router.scores import FloatArray
from router.statistics import Array, Statistics

MAX_SCALE: Final = 6.0
"""Steepest gate, in log-odds per standard deviation; embeddings have heavier tails than the Gaussian model."""

MAX_DESCRIPTIONS: Final = 20
_SMALLEST_SHARE: Final = 1e-20
"""Least share of the base, so that float32 still tells its domains apart."""


@dataclass(frozen=True, slots=True)
class GateOptions:
    """How careful a gate is.

    Attributes:
        false_takeover: share of each stored class that the Gaussian model may predict to fall to the gate.
        guarded_confidence: the bound holds for prompts whose best base probability is at least this.
        prior_examples: weight of caution, in examples: with n of its own, prior / (n + prior) of the covariance is the
            identity's, and the gate is that much less steep.
        tail: how many times wider than Gaussian the upper tail of a class is taken to be, 1 or more.
    """

    false_takeover: float = 0.01
    guarded_confidence: float = 0.5
    prior_examples: float = 10.0
    # Fine-tuned embeddings are skewed: asked for 1 %, classes lost 1.8 % on average at 1 and 0.9 % at 1.5.
    tail: float = 1.5

    def __post_init__(self) -> None:
        shares_fit = 0 < self.false_takeover < 0.5 and 0 < self.guarded_confidence <= 1
        if not (shares_fit and 0 <= self.prior_examples < math.inf and 1 <= self.tail < math.inf):
            raise ValueError(f"a gate option is out of range: {self}")


FROM_EXAMPLES: Final = GateOptions()
FROM_DESCRIPTIONS: Final = GateOptions(false_takeover=0.05, prior_examples=20.0)


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """One added domain.

    Attributes:
        name: the domain; no label of the base.
        weight: float64 (D,), scaled so that the base's classes have a standard deviation of 1 along it.
        bias: added to the projection, in those standard deviations.
        scale: log-odds per standard deviation.
        statistics: sums over the domain's own examples, under its name.
        description: for people.
        recall: estimated share of its own examples beyond the gate, each left out of the weight in turn: their average
            place is exact, their spread Gaussian; measured 2 to 5 points too high. None where nothing is known.
        options: what it was fitted with; updates keep them.
        background: fingerprint of the statistics it was fitted against; other embeddings make it meaningless.
    """

    name: str
    weight: Array
    bias: float
    scale: float
    statistics: Statistics
    description: str = ""
    recall: float | None = None
    options: GateOptions = FROM_EXAMPLES
    background: str = ""

    @property
    def examples(self) -> int:
        """Return how many examples the gate was fitted to."""
        return round(self.statistics.total)

    def logits(self, embeddings: ArrayLike) -> Array:
        """Return the log-odds (n,) of this domain against the base; a row has the same bits alone and in a batch."""
        projections: Array = (np.asarray(embeddings, dtype=np.float64) * self.weight).sum(axis=1)
        return self.scale * (projections + self.bias)


def fit_gate(
    name: str,
    embeddings: ArrayLike,
    background: Statistics,
    *,
    description: str = "",
    options: GateOptions = FROM_EXAMPLES,
) -> Gate:
    """Fit a domain's gate to its own examples.

    Args:
        name: a new domain.
        embeddings: (n, D) of its examples, n of 1 or more; about 20 are enough.
        background: the artifact's statistics, every label with rows.
        description: for people.
        options: how careful the gate is.

    Raises:
        ValueError: the base already has a domain of this name (then it needs training, not a gate), or no examples.

    Source: linear discriminant with a ridge, Friedman 1989, doi:10.1080/01621459.1989.10478752.
    """
    return _fit(name, _own(name, embeddings), background, description, options)


def fit_gate_from_description(name: str, embeddings_of_descriptions: ArrayLike, background: Statistics) -> Gate:
    """Fit a gate to 1 to 20 sentences that describe the domain, when there are no examples yet.

    Sentences about a domain are not its prompts, so this is a start until examples come: three sentences each caught
    53, 33 and 34 % of prompts on cooking, travel and pets and took 1 to 2 % of others (measured on the corpus in
    English). ValueError as for `fit_gate`, or with more sentences.
    """
    own = _own(name, embeddings_of_descriptions)
    if own.total > MAX_DESCRIPTIONS:
        raise ValueError(f"more than {MAX_DESCRIPTIONS} descriptions; fit examples with fit_gate")
    return _fit(name, own, background, "", FROM_DESCRIPTIONS)


def update_gate(gate: Gate, more_embeddings: ArrayLike, background: Statistics) -> Gate:
    """Add examples (n, D); bit-identical to fitting all of them at once with the gate's options.

    Descriptions of a zero-shot gate keep counting as examples; it becomes an ordinary gate.
    """
    options = FROM_EXAMPLES if gate.options == FROM_DESCRIPTIONS else gate.options
    own = gate.statistics.merge(_own(gate.name, more_embeddings))
    return _fit(gate.name, own, background, gate.description, options)


def gate_logits(gates: Sequence[Gate], embeddings: ArrayLike) -> Array:
    """Return the log-odds (n, m) of each row (n, D) under each gate."""
    rows = np.asarray(embeddings, dtype=np.float64)
    return np.stack([gate.logits(rows) for gate in gates], axis=1) if gates else np.empty((len(rows), 0))


def combine(p_base: FloatArray, logits: ArrayLike) -> FloatArray:
    """Share probability between the base, whose logit is 0, and the added domains.

    A row's numbers do not depend on other rows, and those of a column not on the order of the gates. The best base
    domain stays the best of the base, exactly; without gates, or with all below -20, the base's numbers stay.

    Args:
        p_base: float32 (n, k), rows sum to 1.
        logits: (n, m) from `gate_logits`.

    Returns float32 (n, k + m), rows sum to 1; the added domains follow the base's.
    """
    gates = np.asarray(logits, dtype=np.float64)
    if not gates.shape[1]:
        return p_base
    # Sorted, because a floating-point sum depends on the order of its terms.
    ordered = np.sort(np.concatenate([gates, np.zeros((len(gates), 1))], axis=1), axis=1)
    highest = ordered[:, -1:]
    total = np.exp(ordered - highest).sum(axis=1, keepdims=True)
    share = np.maximum(np.exp(-highest) / total, _SMALLEST_SHARE)
    base = _with_best_kept(p_base, (p_base * share).astype(np.float32))
    return np.concatenate([base, (np.exp(gates - highest) / total).astype(np.float32)], axis=1)


def save_gate(gate: Gate, path: Path) -> None:
    """Write one domain as an npz, whole or not at all; the same gate gives the same bytes."""
    fields: dict[str, NDArray[np.generic]] = {
        "name": np.array(gate.name),
        "description": np.array(gate.description),
        "background": np.array(gate.background),
        "weight": gate.weight,
        "numbers": np.array([gate.bias, gate.scale, math.nan if gate.recall is None else gate.recall]),
        "options": np.array(list(asdict(gate.options).values())),
        **gate.statistics.as_arrays("statistics_"),
    }
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as stream:
            np.savez(stream, **fields)  # type: ignore[arg-type]  # the stub takes them for `allow_pickle`
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def load_gate(path: Path) -> Gate:
    """Read what `save_gate` wrote, to the bit; `ArtifactError` when it is something else."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        bias, scale, recall = (float(number) for number in arrays["numbers"])
        gate = Gate(
            name=str(arrays["name"]),
            weight=np.asarray(arrays["weight"], dtype=np.float64),
            bias=bias,
            scale=scale,
            statistics=Statistics.from_arrays(arrays, "statistics_"),
            description=str(arrays["description"]),
            recall=None if math.isnan(recall) else recall,
            options=GateOptions(*(float(number) for number in arrays["options"])),
            background=str(arrays["background"]),
        )
    except (OSError, EOFError, KeyError, TypeError, ValueError, IndexError, zipfile.BadZipFile, zlib.error) as error:
        raise ArtifactError(path, f"not a gate: {error}") from error
    numbers = [*gate.weight.ravel(), bias, scale]
    if gate.weight.shape != gate.statistics.sums[0].shape or not np.isfinite(numbers).all():
        raise ArtifactError(path, "not a gate: the numbers do not fit")
    return gate


def _own(name: str, embeddings: ArrayLike) -> Statistics:
    rows = np.atleast_2d(np.asarray(embeddings, dtype=np.float64))
    if not rows.size:
        raise ValueError(f"no examples of {name!r}")
    return Statistics.of((name,), rows, np.zeros(len(rows), dtype=np.int64))


def _fit(name: str, own: Statistics, background: Statistics, description: str, options: GateOptions) -> Gate:
    if name in background.labels:
        raise ValueError(f"{name!r} is a domain of the base already; a gate adds a new one")
    if len(own.gram) != len(background.gram):
        raise ValueError(f"embeddings of {len(own.gram)} entries, background of {len(background.gram)}")
    caution = options.prior_examples / (own.total + options.prior_examples)
    inverse, within = _metric(background, caution)
    centres, centre = background.means(), background.means().mean(axis=0)
    weight = inverse @ (own.means()[0] - centre)
    deviation = max(math.sqrt(max(float(weight @ within @ weight), 0.0)), 1e-12)
    weight = weight / deviation
    # A stored mean is itself known only to a spread of 1/sqrt(count).
    quantile = options.tail * NormalDist().inv_cdf(1 - options.false_takeover)
    spreads = quantile * np.sqrt(1 + 1 / background.counts)
    located = _left_out_mean(own, inverse, centre) / deviation
    separation = located - float((centres @ weight).max())
    scale = min(max((1 - caution) * separation, 1.0), MAX_SCALE)
    bias = math.log(options.guarded_confidence) / scale - float((centres @ weight + spreads).max())
    known = own.total > 1 and options != FROM_DESCRIPTIONS
    return Gate(
        name,
        weight,
        bias,
        scale,
        own,
        description,
        NormalDist().cdf((located + bias) / _own_deviation(own, weight, options)) if known else None,
        options,
        background.fingerprint(),
    )


def _metric(background: Statistics, caution: float) -> tuple[Array, Array]:
    """Return the inverse covariance of the background as one mixture, class means included, and that within classes."""
    within = background.within_covariance()
    centres = background.means() - background.means().mean(axis=0)
    mixture = within + centres.T @ centres / len(centres)
    size = len(mixture)
    level = float(np.trace(mixture)) / size
    if level <= 0:
        raise ValueError("the background has no spread")
    ridge = max(caution, 1e-6)
    return np.linalg.inv((1 - ridge) * mixture + ridge * level * np.eye(size)), within


def _left_out_mean(own: Statistics, inverse: Array, centre: Array) -> float:
    """Return the mean of (mean of the others - centre)ᵀ A z over the examples z: exact, from count, sum and gram."""
    total, mean = own.total, own.means()[0]
    if total <= 1:
        return float((mean - centre) @ inverse @ mean)
    pairs = float(total**2 * (mean @ inverse @ mean) - (inverse * own.gram).sum())
    return pairs / (total * (total - 1)) - float(centre @ inverse @ mean)


def _own_deviation(own: Statistics, weight: Array, options: GateOptions) -> float:
    """Return the standard deviation of the examples along the gate, drawn towards the background's, which is 1."""
    scatter = float(weight @ own.gram @ weight) - own.total * float(own.means()[0] @ weight) ** 2
    variance = (max(scatter, 0.0) + options.prior_examples) / max(own.total - 1 + options.prior_examples, 1.0)
    return max(math.sqrt(variance), 1e-6)


def _with_best_kept(before: FloatArray, after: FloatArray) -> FloatArray:
    """Lift the best domain by one float32 step where rounding made another its equal."""
    rows, best = np.arange(len(before)), before.argmax(axis=1)
    tied = after.argmax(axis=1) != best
    after[rows[tied], best[tied]] = np.nextafter(after[tied].max(axis=1), np.float32(1))
    return after
