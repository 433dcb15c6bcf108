"""Says in words why a stored request went where it went, and which rules let it pass. Asks no store.

Only what was stored with the request is used: the configuration may be another one by now. Rows written before a
field was kept have none; a rule that cannot be checked says so instead of guessing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.types import GENERALIST, LAST_RESORT, NEVER_NEXT, Reason

Row = Mapping[str, Any]

_EXCLUDING = frozenset({reason.value for group in LAST_RESORT for reason in group} | {r.value for r in NEVER_NEXT})
_NOT_ALLOWED = {
    Reason.CAPABILITY: "it lacks something that the request needs",
    Reason.FORBIDDEN: "the caller's key may not use it",
    Reason.PRICE_CAP: "it was expected to cost more than the request may",
    Reason.BUDGET: "it was expected to cost more than is left of the budget",
    Reason.LATENCY: "it was expected to answer later than the objective",
    Reason.LANGUAGE: "it does not speak the prompt's language",
    Reason.CONTEXT_LENGTH: "prompt and answer would not fit its context",
    Reason.SATURATED: "all its servers were busy",
    Reason.ADAPTER_MISSING: "no server of it had its model loaded",
    Reason.UNHEALTHY: "no server of it was up",
}


@dataclass(frozen=True, slots=True)
class Check:
    """A rule with what it compared.

    Attributes:
        reason: the reason code of requests that fail it.
        name: what is checked.
        value: what the request had.
        must: `at least`, or `at most`.
        limit: what it was held against.
        passed: whether it passed; None: nothing to compare, or the limit was not stored.
        decided: this rule is the one that decided.
    """

    reason: str
    name: str
    value: float | None
    must: str
    limit: float | None
    passed: bool | None
    decided: bool


@dataclass(frozen=True, slots=True)
class Expected:
    """An expert as it looked when the decision was made.

    Attributes:
        name: who.
        quality: expected quality, 0 to 1; None without a quality table.
        cost: expected money.
        excluded: why it could not be chosen, a reason code; None: it could.
        decided: it was decided for.
        answered: it answered.
    """

    name: str
    quality: float | None
    cost: float | None
    excluded: str | None
    decided: bool
    answered: bool


def checks(row: Row) -> list[Check]:
    """Return the classifier's rules in the order in which they are looked at; none when nothing was scored."""
    if row.get("confidence") is None or row.get("threshold") is None:
        return []
    rules = (
        (Reason.LOW_CONFIDENCE, f"Probability of {row['domain']}", "confidence", "at least", "threshold"),
        (Reason.SMALL_MARGIN, "Lead over the second domain", "margin", "at least", "minimum_margin"),
        (Reason.OUT_OF_DOMAIN, "Out-of-domain score", "out_of_domain", "at most", "maximum_out_of_domain"),
        (
            Reason.DISAGREEMENT,
            "Disagreement (change without its first words)",
            "disagreement",
            "at most",
            "maximum_disagreement",
        ),
    )
    return [_check(row, *rule) for rule in rules]


def _check(row: Row, reason: Reason, name: str, field: str, must: str, limit_field: str) -> Check:
    value, limit, decided = row.get(field), row.get(limit_field), row.get("reason") == reason.value
    passed = None
    if value is not None and limit is not None:
        passed = value >= limit if must == "at least" else value <= limit
    # Stored figures are rounded: what the rule itself said counts.
    return Check(reason.value, name, value, must, limit, False if decided else passed, decided)


def experts(row: Row) -> list[Expected]:
    """Return the experts that are known to have been looked at, the best expected quality first."""
    estimates, excluded = row.get("estimates") or {}, row.get("excluded") or {}
    known = [row.get("decided"), row.get("chosen")]
    names = dict.fromkeys([*estimates, *excluded, *(name for name in known if name)])
    found = [_expected(row, name, estimates.get(name), excluded.get(name)) for name in names]
    return sorted(found, key=lambda one: (one.excluded is not None, -(one.quality or 0.0)))


def _expected(row: Row, name: str, estimate: Sequence[Any] | None, excluded: str | None) -> Expected:
    quality, cost = (*estimate, None, None)[:2] if estimate else (None, None)
    decided = name == row.get("decided")
    if decided and estimate is None:
        quality, cost = row.get("expected_quality"), row.get("expected_cost")
    return Expected(name, quality, cost, excluded, decided, name == row.get("chosen"))


def sentence(row: Row, tries: Sequence[Row] = ()) -> str:
    """Return in one or two sentences who answered and why."""
    reason, decided, chosen = row.get("reason"), row.get("decided"), row.get("chosen")
    if reason is None or decided is None:
        return f"Refused before anything was decided: {_words(row.get('error')) or 'no reason was stored'}."
    why = f"{_who(decided).capitalize()} was chosen: {_because(row)}."
    if row.get("cache") == "hit":
        return f"{why} The answer came from the cache, so no expert worked for it."
    if chosen is None:
        return f"{why} No expert answered ({_words(row.get('error')) or 'no error was stored'}){_failures(tries)}."
    if chosen != decided:
        strategy = row.get("strategy")
        if strategy and not str(row.get("strategy_outcome")).startswith("skipped:"):
            return f"{why} The strategy {strategy} then took the answer of {_who(chosen)}."
        return f"{why} It failed{_failures(tries)}, so {_who(chosen)} answered."
    if row.get("error"):
        return f"{why} It ended with an error: {_words(row['error'])}."
    return why


def _because(row: Row) -> str:
    reason = str(row["reason"])
    if reason in _EXCLUDING:
        return _not_allowed(row, reason)
    known = _SCORED.get(reason)
    return known(row) if known is not None else _PLAIN.get(reason, _words(reason))


def _not_allowed(row: Row, reason: str) -> str:
    names = [name for name, why in (row.get("excluded") or {}).items() if why == reason]
    why = _NOT_ALLOWED[Reason(reason)]
    domain = f"the prompt is about {row['domain']}" if row.get("domain") else "another expert was wanted"
    if len(names) == 1:
        return f"{domain}, but {_who(names[0])} could not take it, because {why}"
    return f"{domain}, but the wanted expert could not take it, because {why}"


def _low_confidence(row: Row) -> str:
    return (
        f"the classifier was not sure enough. Its best domain, {row['domain']}, had a probability of "
        f"{_figure(row.get('confidence'))}, and {_figure(row.get('threshold'))} is needed"
    )


def _small_margin(row: Row) -> str:
    names = list(row.get("scores") or {})
    two = f"{names[0]} and {names[1]}" if len(names) > 1 else f"{row['domain']} and the next one"
    limit = _figure(row.get("minimum_margin"))
    return f"the two best domains, {two}, were only {_figure(row.get('margin'))} apart, and {limit} is needed"


def _out_of_domain(row: Row) -> str:
    return (
        "the prompt is unlike what the classifier was trained on. Its out-of-domain score was "
        f"{_figure(row.get('out_of_domain'))}, and at most {_figure(row.get('maximum_out_of_domain'))} is allowed"
    )


def _disagreement(row: Row) -> str:
    return (
        f"the scores hung on the prompt's first words. They moved by {_figure(row.get('disagreement'))} without them, "
        f"and at most {_figure(row.get('maximum_disagreement'))} is allowed"
    )


def _confident(row: Row) -> str:
    return (
        f"the classifier was sure that the prompt is about {row['domain']} (probability "
        f"{_figure(row.get('confidence'))}, at least {_figure(row.get('threshold'))} is needed), "
        f"and {'it has that domain' if row['decided'] == GENERALIST else 'this is the expert for it'}"
    )


def _expected_quality(row: Row) -> str:
    open_to = [one for one in experts(row) if one.excluded is None and one.quality is not None]
    mine = next((one for one in open_to if one.decided), None)
    rival = next((one for one in open_to if not one.decided), None)
    if mine is None or rival is None:
        return "it had the best expected quality, less the cost where the policy weighs it"
    text = f"policy {row.get('policy')} expected the most of it: quality {_figure(mine.quality)} against "
    text += f"{_figure(rival.quality)} of {_who(rival.name)}"
    if mine.quality is not None and rival.quality is not None and mine.quality < rival.quality:
        text += ", which would have cost more than that is worth to the policy"
    return text


def _uncovered(row: Row) -> str:
    return f"the prompt is about {row['domain']}, and no expert has that domain"


def _session(row: Row) -> str:
    return f"the conversation stayed with {_who(str(row.get('session') or row['decided']))}, which answered before"


_SCORED = {
    Reason.LOW_CONFIDENCE.value: _low_confidence,
    Reason.SMALL_MARGIN.value: _small_margin,
    Reason.OUT_OF_DOMAIN.value: _out_of_domain,
    Reason.DISAGREEMENT.value: _disagreement,
    Reason.CONFIDENT.value: _confident,
    Reason.EXPECTED_QUALITY.value: _expected_quality,
    Reason.UNCOVERED_DOMAIN.value: _uncovered,
    Reason.SESSION.value: _session,
}
_PLAIN = {
    Reason.PINNED.value: "the client named it",
    Reason.REQUESTED_DOMAIN.value: "the client named its domain",
    Reason.QUALITY_FLOOR.value: "it was the cheapest expert that reaches the policy's quality floor",
    Reason.FIXED.value: "the policy always takes it",
    Reason.SPLIT.value: "the policy splits traffic, and this request fell to it",
    Reason.TOOL_LOCK.value: "a tool loop was open, and who called the tool reads its result",
    Reason.NO_TEXT.value: "there was no text to classify",
    Reason.SCORER_ERROR.value: "the classifier failed",
    Reason.SCORER_TIMEOUT.value: "the classifier missed its deadline, or its queue was full",
}


def _failures(tries: Sequence[Row]) -> str:
    failed = list(dict.fromkeys(_words(one["outcome"]) for one in tries if one["outcome"] not in ("ok", "passed")))
    return f": {', '.join(failed[:3])}" if failed else ""


def _who(name: str) -> str:
    return "the generalist" if name == GENERALIST else f"the expert {name}"


def _words(code: object) -> str:
    return str(code or "").replace("_", " ")


def _figure(value: float | None) -> str:
    return "(not stored)" if value is None else f"{value:.2f}" if round(value, 2) == round(value, 4) else f"{value:.4g}"
