"""What another configuration would have decided for stored requests, and what that costs. Applies nothing.

Both configurations, the one in use and the draft, decide anew with the scores that are stored (the best three domains;
what is left is spread over the others) and with the tokens that were used. Differences between the two are the
draft's doing; `agreeing` says how often deciding anew gives what was decided then, so how far to trust it. Requests
that no policy decided (named experts, conversations that stay, a classifier that failed) keep their expert.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from gateway.admin.stored_scores import Row, draw_of, excluded_of, scores_of
from gateway.costs import tokens_cost
from gateway.estimates import Estimator
from gateway.generation import Plan
from gateway.pace import Pace
from gateway.policies import Policy
from gateway.thresholds import thresholds_of
from gateway.types import Expert, Reason, RoutingInput
from gateway.variants import policies_of
from router import Features

MOST_ROWS = 5_000
MOST_EXAMPLES = 5
DECIDED_BY_POLICY = frozenset(
    {
        *(Reason.CONFIDENT, Reason.UNCOVERED_DOMAIN, Reason.LOW_CONFIDENCE, Reason.SMALL_MARGIN),
        *(Reason.OUT_OF_DOMAIN, Reason.DISAGREEMENT, Reason.EXPECTED_QUALITY, Reason.QUALITY_FLOOR),
        *(Reason.FIXED, Reason.SPLIT),
    }
)


@dataclass(frozen=True, slots=True)
class Move:
    """Requests that the draft sends elsewhere.

    Attributes:
        before, after: experts.
        reason: the draft's.
        requests: how many.
        examples: some of them: id, and microseconds since the epoch.
    """

    before: str
    after: str
    reason: str
    requests: int
    examples: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class DraftReport:
    """What a draft would have changed.

    Attributes:
        looked_at: requests with a decision.
        decided_anew: those that a policy decided and that can be decided anew.
        kept: those that no policy decided.
        undecidable: those of a policy, without stored scores to decide with.
        lost: kept ones whose expert the draft does not have: clients would get an error.
        agreeing: share of `decided_anew` where the configuration in use decides as it was decided then.
        moved: of `decided_anew`, those that the draft sends elsewhere.
        to_generalist, to_specialist: of those.
        priced: requests whose cost is known under both.
        cost_before, cost_after: what those cost, at the prices of the configuration in use and of the draft.
        experts_before, experts_after: requests by expert.
        moves: the most frequent first.
        same_classifier: whether stored scores mean the same to the draft; False: nothing was decided anew.
    """

    looked_at: int
    decided_anew: int
    kept: int
    undecidable: int
    lost: int
    agreeing: float | None
    moved: int
    to_generalist: int
    to_specialist: int
    priced: int
    cost_before: float
    cost_after: float
    experts_before: dict[str, int]
    experts_after: dict[str, int]
    moves: tuple[Move, ...]
    same_classifier: bool

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)


class Decider:
    """Decides stored requests with one configuration, every expert being up.

    Args:
        plan: the checked configuration.
        labels: the domains that stored scores are of.
    """

    def __init__(self, plan: Plan, labels: tuple[str, ...]) -> None:
        settings, scorer = plan.settings, plan.scorer.scorer
        self.catalog = plan.catalog
        self._labels = labels
        self._default: Policy = settings.policy.load()
        self._policies = policies_of(settings, settings.policy)
        self._thresholds = thresholds_of(settings.router, scorer.labels, scorer.thresholds)
        # No pace: what was learned of lengths is not known to have been so then.
        self._estimator = Estimator(plan.catalog, labels, plan.table, Pace(), settings.policy.completion_tokens)
        self.needs_scores = plan.table is not None

    def decide(self, row: Row, named: str | None) -> tuple[Expert, Reason]:
        """Return expert and reason for one request.

        Args:
            row: as `stored_scores.rows_of` gives it.
            named: the policy that a key or a request asked for; None: the configured one.
        """
        scores, tokens = scores_of(row, self._labels), int(row["prompt_token_estimate"] or row["input_tokens"] or 0)
        everybody = self._estimator.estimate(scores, tokens, None, 1, stream=bool(row["stream"]))
        excluded = {name: Reason(why) for name, why in excluded_of(row).items() if name in self.catalog.experts}
        able = tuple(each for each in everybody if each.expert.name not in excluded) or everybody
        routing = RoutingInput(
            features=Features(token_estimate=tokens),
            scores=scores,
            catalog=self.catalog,
            thresholds=self._thresholds,
            candidates=able,
            reference=self._estimator.reference(everybody),
            excluded=excluded,
            draw=draw_of(str(row["id"])),
        )
        decision = self._policies.get(named or "", self._default).choose(routing)
        return decision.expert, decision.reason

    def cost(self, row: Row, name: str) -> float | None:
        """Return what the request's tokens cost at an expert, a strategy's extra included; None: not known."""
        expert, inputs = self.catalog.experts.get(name), row["input_tokens"]
        if expert is None or expert.price is None or inputs is None or row["cached"]:
            return None
        tokens = (float(inputs), float(row["output_tokens"] or 0), float(row["cached_tokens"] or 0))
        return tokens_cost(expert.price, *tokens) + float(row["extra_cost"] or 0)


def try_draft(rows: Iterable[Row], using: Plan, draft: Plan) -> DraftReport:
    """Decide stored requests with both configurations.

    Args:
        rows: stored requests, as `stored_scores.rows_of` gives them.
        using: the configuration in use.
        draft: the other one.
    """
    labels = using.scorer.scorer.labels
    same = draft.scorer.key == using.scorer.key
    trial = _Trial(Decider(using, labels), Decider(draft, labels) if same else None, using.settings.policy.name)
    for row in rows:
        if row["decided"] is not None:
            trial.add(row)
    return trial.report(same_classifier=same)


class _Trial:
    def __init__(self, using: Decider, draft: Decider | None, policy: str) -> None:
        self._using = using
        self._draft = draft
        self._policy = policy
        self._counts: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._after: Counter[str] = Counter()
        self._moves: dict[tuple[str, str, str], list[tuple[str, int]]] = {}
        self._cost_before = self._cost_after = 0.0

    def add(self, row: Row) -> None:
        self._counts["looked_at"] += 1
        before = after = str(row["decided"])
        if row["reason"] not in DECIDED_BY_POLICY:
            self._counts["kept"] += 1
            self._counts["lost"] += self._draft is not None and after not in self._draft.catalog.experts
        elif self._draft is None or not self._is_decidable(row):
            self._counts["undecidable"] += 1
        else:
            before, after = self._both(row, self._draft)
        self._before[before] += 1
        self._after[after] += 1
        if self._draft is not None:
            self._price(row, before, after, self._draft)

    def _is_decidable(self, row: Row) -> bool:
        if row["domain"] is None or row["confidence"] is None:
            return False
        needs_all = self._using.needs_scores or (self._draft is not None and self._draft.needs_scores)
        return not needs_all or bool(row.get("scores"))

    def _both(self, row: Row, draft: Decider) -> tuple[str, str]:
        # A policy that a key or a request asked for stays; the configured one is what the draft may change.
        named = None if row["policy"] == self._policy else row["policy"]
        now, _ = self._using.decide(row, named)
        then, reason = draft.decide(row, named)
        self._counts["decided_anew"] += 1
        self._counts["agreeing"] += now.name == row["decided"]
        if now.name != then.name:
            self._counts["moved"] += 1
            self._counts["to_generalist" if then is draft.catalog.generalist else "to_specialist"] += 1
            self._moves.setdefault((now.name, then.name, reason.value), []).append((str(row["id"]), int(row["at_us"])))
        return now.name, then.name

    def _price(self, row: Row, before: str, after: str, draft: Decider) -> None:
        old, new = self._using.cost(row, before), draft.cost(row, after)
        if old is None or new is None:
            return
        self._counts["priced"] += 1
        self._cost_before += old
        self._cost_after += new

    def report(self, *, same_classifier: bool) -> DraftReport:
        counts, anew = self._counts, self._counts["decided_anew"]
        names = ("looked_at", "decided_anew", "kept", "undecidable", "lost", "moved", "to_generalist", "to_specialist")
        moves = [
            Move(*key, len(ids), tuple(ids[:MOST_EXAMPLES]))
            for key, ids in sorted(self._moves.items(), key=lambda item: (-len(item[1]), item[0]))
        ]
        return DraftReport(
            **{name: counts[name] for name in names},
            agreeing=counts["agreeing"] / anew if anew else None,
            priced=counts["priced"],
            cost_before=round(self._cost_before, 12),
            cost_after=round(self._cost_after, 12),
            experts_before=dict(self._before.most_common()),
            experts_after=dict(self._after.most_common()),
            moves=tuple(moves),
            same_classifier=same_classifier,
        )
