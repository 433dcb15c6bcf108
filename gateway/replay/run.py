"""One replay from outcomes to report: fit on one half, decide on the other, compare. Computes no figure itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import router
from gateway.replay.deciding import Decider, Indices, Setting, expected_costs
from gateway.replay.experts import Prices, best_single, configured, priced, prices_of, unconfigured
from gateway.replay.halves import HALF, Split, splits
from gateway.replay.prompts import Prompts, RememberingScorer, read_prompts
from gateway.replay.sweeps import Sweep
from gateway.replay.truth import groups_of, noisy_of
from gateway.settings import PolicySettings, Settings
from gateway.thresholds import thresholds_of
from gateway.types import Catalog
from router import DataError, Family, OutcomeTable, QualityTable, Recorded, Replay, Scorer, Terms

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How outcomes are replayed.

    Attributes:
        sweeps: the policies, at least one; the first point of the first is the one whose break-even is worked out.
        settings: a configuration: experts, prices, thresholds, declared domains; None takes the outcomes' experts.
        prices: per million input and output tokens by expert, instead of recorded costs; None for none.
        generalist: name, where no configuration says it; None takes the best single expert, see `experts.best_single`.
        quality_table: file to decide with; None fits tables on other prompts than are replayed.
        split: part of the prompts that is fitted on.
        seed: seeds split, draws of policies and bootstrap.
        draws: bootstrap draws.
        title: heading of the report.
    """

    sweeps: tuple[Sweep, ...]
    settings: Settings | None = None
    prices: Prices | None = None
    generalist: str | None = None
    quality_table: Path | None = None
    split: float = HALF
    seed: int = 7
    draws: int = 1000
    title: str = "outcomes"

    @property
    def completion_tokens(self) -> float:
        """Length of an answer where nothing is known of it."""
        return (self.settings.policy if self.settings else PolicySettings()).completion_tokens


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What is replayed.

    Attributes:
        outcomes: n prompts, with costs where they are known.
        catalog: the experts.
        learns_costs: whether decisions expect costs as recorded on other prompts, rather than by prices.
        scorer: the classifier.
        prompts: the same n prompts, scored.
        notes: what a reader must know, so far.
    """

    outcomes: OutcomeTable
    catalog: Catalog
    learns_costs: bool
    scorer: Scorer
    prompts: Prompts
    notes: tuple[str, ...]


def replay(outcomes: OutcomeTable, scorer: Scorer, plan: Plan, *, progress: Progress = lambda line: None) -> Replay:
    """Replay policies on outcomes.

    Raises:
        DataError: outcomes, names or prices do not fit.
        router.QualityError: a quality table cannot be fitted or read.
        router.ScorerError: the model could not run.
        gateway.settings.MissingSecret: an environment variable that the settings name is not set.
        gateway.thresholds.UnknownDomain: a threshold is set for a domain that the scorer does not have.
    """
    material = _material(outcomes, scorer, plan, progress)
    if material.outcomes.cost is None:
        plan = replace(plan, sweeps=tuple(sweep.collapsed() for sweep in plan.sweeps))
    parts, how = _splits(material, plan)
    families, by_domain = _play(material, parts, plan, progress)
    rows = np.sort(np.concatenate([part.replayed for part in parts]))
    judged = material.outcomes.rows(rows)
    groups, labels = groups_of(judged)
    scores = [material.prompts.scores[row] for row in rows.tolist()]
    terms = Terms(
        generalist=material.catalog.generalist.name,
        groups=groups,
        labels=labels,
        noisy=noisy_of(plan.sweeps[0].first, judged, scores, material.prompts.labels, by_domain[rows]),
        title=plan.title,
        currency=plan.settings.currency if plan.settings else "USD",
        notes=(*material.notes, how),
        draws=plan.draws,
        seed=plan.seed,
    )
    played = [replace(family, choices=family.choices[:, rows]) for family in families]
    return router.compare_choices(Recorded.of(judged.experts, judged.scores, judged.cost), played, terms)


def _material(outcomes: OutcomeTable, scorer: Scorer, plan: Plan, progress: Progress) -> Material:
    notes = [f"Classifier {scorer.version}."]
    outcomes, catalog = _experts(outcomes, plan, notes)
    _check_names(plan.sweeps, catalog)
    outcomes = _placed(outcomes, scorer.labels, notes)
    if plan.prices is not None:
        catalog = priced(catalog, plan.prices, outcomes.experts)
        outcomes = replace(outcomes, cost=None)
    recorded = outcomes.cost is not None
    prices = None if recorded else prices_of(catalog, outcomes.experts)
    if prices is not None:
        if outcomes.output_tokens is None:
            tokens = plan.completion_tokens
            notes.append(f"Lengths of answers were not recorded: {tokens:g} tokens are assumed for each.")
        outcomes = outcomes.priced(prices, completion_tokens=plan.completion_tokens)
    elif not recorded:
        notes.append("Neither costs nor prices are known: every call counts as 1, and nothing is said of money.")
    if any(sweep.policy == "modem" for sweep in plan.sweeps) and not catalog.by_domain:
        notes.append("Nobody declares domains: modem gives each to the expert that the quality table puts first.")
    remembering = RememberingScorer(scorer)
    prompts = read_prompts(outcomes, remembering, progress)
    return Material(outcomes, catalog, recorded, remembering, prompts, tuple(notes))


def _experts(outcomes: OutcomeTable, plan: Plan, notes: list[str]) -> tuple[OutcomeTable, Catalog]:
    if plan.settings is not None:
        return configured(outcomes, plan.settings, notes)
    generalist = plan.generalist
    if generalist is None:
        # A table that is given was fitted on other prompts, of which nothing is known here.
        parts = [] if plan.quality_table else splits(outcomes.prompts, plan.split, plan.seed)
        generalist = best_single(outcomes, [part.fitted for part in parts], notes)
    return outcomes, unconfigured(outcomes, generalist)


def _placed(outcomes: OutcomeTable, labels: Sequence[str], notes: list[str]) -> OutcomeTable:
    """Return the outcomes without given domains where these are not the classifier's: then they are groups."""
    foreign = {domain for domain in outcomes.domains if domain is not None} - set(labels)
    if not foreign:
        return outcomes
    notes.append(
        f"Given domains that the classifier does not have ({', '.join(sorted(foreign)[:5])}): taken as groups."
    )
    groups = tuple(domain or group for domain, group in zip(outcomes.domains, outcomes.groups, strict=True))
    return replace(outcomes, domains=(None,) * len(outcomes), groups=groups)


def _check_names(sweeps: Sequence[Sweep], catalog: Catalog) -> None:
    for sweep in sweeps:
        for _, policy in sweep.points:
            unknown = set(policy.named_experts()) - set(catalog.experts)
            if unknown:
                known = ", ".join(catalog.experts)
                raise DataError(f"policy {sweep.policy}: no expert {min(unknown)!r}; there are: {known}")


def _splits(material: Material, plan: Plan) -> tuple[list[Split], str]:
    """Return what is fitted and replayed, and how in words."""
    outcomes = material.outcomes
    if plan.quality_table is not None:
        how = "The quality table was given; these figures say nothing if it was fitted on these prompts."
        return [Split(np.arange(0), np.arange(len(outcomes)))], how
    how = "Quality tables and expected costs are fitted on one half of the prompts and used on the other."
    if plan.split != HALF:
        how = f"The quality table and expected costs are fitted on another {plan.split:.0%} of the prompts."
    return splits(outcomes.prompts, plan.split, plan.seed), how


def _play(material: Material, parts: list[Split], plan: Plan, progress: Progress) -> tuple[list[Family], Indices]:
    """Return every sweep's choices, and the first policy's for every domain (n, k); 0 where nothing is replayed."""
    count = len(material.outcomes)
    setting = _setting(material, plan)
    chosen = [np.zeros((len(sweep.points), count), dtype=np.intp) for sweep in plan.sweeps]
    by_domain = np.zeros((count, len(material.prompts.labels)), dtype=np.intp)
    for part in parts:
        decider = _decider(material, part, setting, plan)
        progress(f"deciding for {len(part.replayed)} prompts")
        inputs = decider.inputs(part.replayed.tolist())
        for sweep, choices in zip(plan.sweeps, chosen, strict=True):
            for point, (_, policy) in enumerate(sweep.points):
                choices[point, part.replayed] = decider.choose(policy, inputs)
        by_domain[part.replayed] = decider.by_domain(plan.sweeps[0].points[0][1], part.replayed.tolist())
    families = [
        Family(sweep.policy, sweep.parameter, tuple(value for value, _ in sweep.points), choices)
        for sweep, choices in zip(plan.sweeps, chosen, strict=True)
    ]
    return families, by_domain


def _setting(material: Material, plan: Plan) -> Setting:
    thresholds = material.scorer.thresholds
    if plan.settings is not None:
        thresholds = thresholds_of(plan.settings.router, material.scorer.labels, thresholds)
    columns = {name: column for column, name in enumerate(material.outcomes.experts)}
    draws = np.random.default_rng(plan.seed).random(len(material.outcomes))
    return Setting(material.catalog, columns, thresholds, plan.completion_tokens, draws)


def _decider(material: Material, part: Split, setting: Setting, plan: Plan) -> Decider:
    generalist, top = material.catalog.generalist.name, material.prompts.top()
    if plan.quality_table is not None:
        learnt = material.outcomes
        table = _given_table(plan.quality_table, material, plan)
    else:
        learnt = material.outcomes.rows(part.fitted)
        top = [top[row] for row in part.fitted.tolist()]
        table = router.fit_quality(learnt, scorer=material.scorer, generalist=generalist)
    learns = material.learns_costs and learnt.cost is not None
    costs = (
        expected_costs(learnt.cost, top, len(material.prompts.labels)) if learns and learnt.cost is not None else None
    )
    return Decider(setting, material.prompts, table, costs)


def _given_table(path: Path, material: Material, plan: Plan) -> QualityTable:
    """Read the table; one that a configuration goes with may name no other experts than it does."""
    table = QualityTable.load(
        path,
        experts=tuple(material.catalog.experts) if plan.settings else None,
        generalist=material.catalog.generalist.name,
        scorer=material.scorer,
    )
    unknown = [name for name in material.outcomes.experts if name not in table.experts]
    if unknown:
        raise DataError(f"{path}: nothing of: {', '.join(unknown)}")
    return table
