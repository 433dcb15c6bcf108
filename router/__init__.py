"""Prompt in, calibrated domain probabilities out. No HTTP, no asyncio, and no heavy import until it is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.abstention import Abstention, Thresholds, abstain
from router.artifact import load_scorer
from router.domain_info import AddedDomain, DomainError, DomainInfo
from router.errors import ArtifactError, DataError, MissingExtraError, QualityError, RouterError, ScorerError
from router.explanation import Explanation
from router.features import Features, extract, extract_text
from router.outcomes import OutcomeTable, read_outcomes
from router.outcomes import from_scores as outcomes_from_scores
from router.outcomes import join as join_outcomes
from router.quality import QualityTable, Winner, fit_quality, winners
from router.recipe import Recipe
from router.replay import Family, Noisy, Recorded, Replay, Terms
from router.scores import DomainScores, ScoreBatch, Scorer
from router.text import strip_harness

if TYPE_CHECKING:
    from router.data import Building
    from router.evaluation import Evaluation, Options
    from router.training.left_out import LeftOut
    from router.training.run import Training

__all__ = [
    "Abstention",
    "AddedDomain",
    "ArtifactError",
    "DataError",
    "DomainError",
    "DomainInfo",
    "DomainScores",
    "Explanation",
    "Family",
    "Features",
    "MissingExtraError",
    "Noisy",
    "OutcomeTable",
    "QualityError",
    "QualityTable",
    "Recipe",
    "Recorded",
    "Replay",
    "RouterError",
    "ScoreBatch",
    "Scorer",
    "ScorerError",
    "Terms",
    "Thresholds",
    "Winner",
    "abstain",
    "add_domain",
    "artifact_card",
    "build_data",
    "compare_choices",
    "evaluate",
    "explain",
    "extract",
    "extract_text",
    "fit_quality",
    "join_outcomes",
    "leave_one_source_out",
    "list_domains",
    "load_scorer",
    "outcomes_from_scores",
    "read_outcomes",
    "remove_domain",
    "strip_harness",
    "train",
    "winners",
]


def explain(scorer: Scorer, text: str, *, words: int = 12) -> Explanation:
    """Explain the scores of one prompt by its words, and by training topics where the scorer has them.

    Topics need a `router.embedding.EmbeddingScorer`. See `router.explanation.explain`.

    Args:
        scorer: any scorer.
        text: a prompt or its routing text.
        words: most words reported.

    Raises:
        ScorerError: the model could not run.
    """
    from router.embedding import EmbeddingScorer
    from router.explanation import explain as run

    if not isinstance(scorer, EmbeddingScorer) or scorer.topics is None:
        return run(scorer, text, words=words)
    embedding = scorer.embed([extract_text(text).text])[0]
    return run(scorer, text, words=words, topics=scorer.topics, embedding=embedding)


def add_domain(
    artifact: str | Path,
    name: str,
    *,
    examples: Sequence[Path] = (),
    texts: Sequence[str] = (),
    description: str | Sequence[str] = (),
    output: Path | None = None,
) -> AddedDomain:
    """Add a domain to an artifact without training it again; see `router.domains.add_domain`."""
    from router.domains import add_domain as run

    return run(artifact, name, examples=examples, texts=texts, description=description, output=output)


def remove_domain(artifact: str | Path, name: str) -> str:
    """Remove an added domain and return the version of what is left; see `router.domains.remove_domain`."""
    from router.domains import remove_domain as run

    return run(artifact, name)


def artifact_card(artifact: str | Path = "default") -> dict[str, Any]:
    """Return an artifact's whole card as it stands in the folder; see `router.artifact.read_card_json`."""
    from router.artifact import artifact_folder, read_card_json

    return read_card_json(artifact_folder(artifact))


def list_domains(artifact: str | Path = "default") -> list[DomainInfo]:
    """Return an artifact's domains, the added ones last; see `router.domains.list_domains`."""
    from router.domains import list_domains as run

    return run(artifact)


def build_data(
    folders: Sequence[Path],
    output: Path,
    *,
    use_corpus: bool = True,
    progress: Callable[[str], None] = lambda line: None,
) -> Building:
    """Make one training set of labelled prompts, with or without the package's own; see `router.data.build_data`."""
    from router.data import CORPUS
    from router.data import build_data as run

    return run(folders, output, corpus=CORPUS if use_corpus else None, progress=progress)


def train(
    folders: Sequence[Path],
    output: Path,
    *,
    focus: Sequence[Path] = (),
    validation: Sequence[Path] = (),
    recipe: Recipe | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Training:
    """Train a classifier on labelled prompts and write an artifact; see `router.training.run.train`."""
    from router.training.run import train as run

    return run(folders, output, focus=focus, validation=validation, recipe=recipe or Recipe(), progress=progress)


def evaluate(
    folders: Sequence[Path],
    *,
    artifact: str | Path = "default",
    threads: int = 1,
    options: Options | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Measure an artifact on labelled prompts it has not seen; see `router.evaluation.evaluate`."""
    from router.evaluation import evaluate as run

    return run(folders, artifact=artifact, threads=threads, options=options, progress=progress)


def leave_one_source_out(
    folders: Sequence[Path],
    *,
    artifact: str | Path = "default",
    progress: Callable[[str], None] = lambda line: None,
) -> list[LeftOut]:
    """Measure each source with a head that never saw it; see `router.training.left_out.leave_one_source_out`.

    Raises:
        MissingExtraError: the training libraries are not installed.
    """
    from router.training.run import require_training_libraries

    require_training_libraries()
    from router.training.left_out import leave_one_source_out as run

    return run(folders, artifact=artifact, progress=progress)


def compare_choices(recorded: Recorded, families: Sequence[Family], terms: Terms) -> Replay:
    """Compare ways to choose an expert on recorded outcomes; see `router.replay.compare.compare`."""
    from router.replay.compare import compare as run

    return run(recorded, families, terms)
