"""Playground: what would be done with a prompt, and why; nothing is sent but on request. Decides nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from gateway import policies
from gateway.admin.errors import NotThere, QueryTooSlowError, StoreDown
from gateway.admin.labelling import prompt_of
from gateway.admin.playground import KEY, MOST_TOKENS, Changes, Messages, Trial, messages_of, try_prompt
from gateway.admin.routes.labels import ID
from gateway.dashboard.login import read_form
from gateway.dashboard.navigation import Nav
from gateway.dashboard.view import AdminPage, View
from gateway.errors import InvalidRequest, PointsmanError
from gateway.generation import Generation
from gateway.keyring import Role
from gateway.settings_file import MAXIMUM_BYTES
from gateway.stores.prompts.labels import LATEST_US
from gateway.types import GENERALIST

NAV = Nav("Playground", "playground", "Improve", 10, Role.ADMIN)
api = APIRouter()

# Sent by a form, a character may take three bytes; half of it is for the draft of a configuration.
FORM_BYTES = 6 * MAXIMUM_BYTES
LEVELS = 4
SHOWN_WORDS = 12
LIMITS = {
    "minimum_confidence": "Minimum confidence",
    "minimum_margin": "Minimum margin",
    "maximum_out_of_domain": "Maximum out of domain",
    "maximum_disagreement": "Maximum disagreement",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One rule that a prompt passes or fails.

    Attributes:
        name: what is measured.
        value: how much it is here, 0 to 1.
        limit: what it is held against.
        at_least: whether it must be at least so much, else at most.
    """

    name: str
    value: float
    limit: float
    at_least: bool

    @property
    def passed(self) -> bool:
        """Tell whether the rule lets the specialist answer."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the text with what it does to the best domain: level -4 to 4, 0: nothing to speak of."""

    text: str
    level: int = 0
    influence: float = 0.0


@dataclass(frozen=True, slots=True)
class Shown:
    """A trial, as the page shows it.

    Attributes:
        trial: what was found.
        checks: of each decision.
        pieces: the classified text in pieces.
        messages: what would be sent.
        asked: the two experts that a real send begins with.
        domains: each with its probability, the smallest one that is acted on, and its expert, the best first.
    """

    trial: Trial
    checks: dict[str, list[Check]]
    pieces: list[Piece]
    messages: Messages
    asked: tuple[str, str]
    domains: list[tuple[str, float, float, str]]

    @property
    def live(self) -> dict[str, Any]:
        """Return the live decision."""
        return self.trial.decisions["live"]


@dataclass(frozen=True, slots=True)
class Form:
    """What the page is filled with."""

    fields: dict[str, str] = field(default_factory=dict)
    shown: Shown | None = None
    error: PointsmanError | None = None
    missing: str = ""

    @property
    def is_changed(self) -> bool:
        """Tell whether it asks for something else than what is in use."""
        return any(self.fields.get(name) for name in ("policy", "draft", *LIMITS))


@api.get("/playground")
async def page(
    view: AdminPage,
    id: Annotated[str | None, Query(pattern=ID)] = None,
    at_us: Annotated[int | None, Query(ge=0, le=LATEST_US)] = None,
) -> Response:
    """Show the form, filled with a kept prompt where one is asked for."""
    if id is None or at_us is None:
        return _page(view, Form())
    try:
        found = await prompt_of(view.plane, view.principal, at_us, id)
    except (NotThere, StoreDown, QueryTooSlowError) as error:
        return _page(view, Form(missing=str(error)))
    if found is None:
        return _page(
            view, Form(missing="This prompt is not kept, so it cannot be tried again. Paste it if you have it.")
        )
    return _page(view, Form({"prompt": found.text}))


@api.post("/playground")
async def decide(view: AdminPage) -> Response:
    """Decide for what the form holds, and show why."""
    fields = await read_form(view.request, view.plane, FORM_BYTES)
    try:
        messages = messages_of(fields.get("prompt", ""), fields.get("system", ""), fields.get("conversation", ""))
        policy = fields.get("policy") or None
        trial = await try_prompt(
            view.plane, messages, policy=policy, changes=_changes(fields), draft=fields.get("draft", "")
        )
    except PointsmanError as error:
        return _page(view, Form(fields, error=error))
    checks = {name: checks_of(one) for name, one in trial.decisions.items()}
    asked = _two(trial.decisions["live"], tuple(view.plane.gateway.catalog.experts))
    pieces = pieces_of(trial.text, trial.words or ())
    domains = _domains(trial.decisions["live"], view.plane.gateway.current)
    return _page(view, Form(fields, Shown(trial, checks, pieces, messages, asked, domains)))


def checks_of(explained: dict[str, Any]) -> list[Check]:
    """Return the rules that the scores were held against; none when nothing was scored.

    Args:
        explained: a decision as `explain` has it.
    """
    limits, scores = explained["limits"], explained["scores"]
    if limits is None or not scores:
        return []
    return [
        Check("Confidence", max(scores.values()), explained["threshold"], at_least=True),
        Check("Margin to the next domain", explained["margin"], limits["margin"], at_least=True),
        Check("Out of domain", explained["out_of_domain"], limits["out_of_domain"], at_least=False),
        Check(
            "Disagreement without the first words", explained["disagreement"], limits["disagreement"], at_least=False
        ),
    ]


def pieces_of(text: str, words: Sequence[dict[str, Any]]) -> list[Piece]:
    """Cut a text at the words that matter.

    Args:
        text: what was classified.
        words: as `router.explain` has them; spans do not overlap.
    """
    strongest = max((abs(word["influence"]) for word in words), default=0.0)
    spans = sorted((*span, word["influence"]) for word in words for span in word["spans"])
    pieces, position = [], 0
    for start, end, influence in spans:
        level = round(LEVELS * influence / strongest) if strongest > 0.01 else 0
        if level == 0 or start < position:
            continue
        pieces += [Piece(text[position:start]), Piece(text[start:end], level, influence)]
        position = end
    return [piece for piece in (*pieces, Piece(text[position:])) if piece.text]


def _domains(live: dict[str, Any], generation: Generation) -> list[tuple[str, float, float, str]]:
    owners, thresholds = generation.catalog.by_domain, generation.pipeline.thresholds
    found = [
        (name, probability, thresholds.of(name), owners[name].name if name in owners else "")
        for name, probability in (live["scores"] or {}).items()
    ]
    return sorted(found, key=lambda row: -row[1])


def _changes(fields: dict[str, str]) -> Changes:
    """Read the thresholds to try.

    Raises:
        InvalidRequest: one is no share.
    """
    return Changes(*(_share(fields, name) for name in LIMITS))


def _share(fields: dict[str, str], name: str) -> float | None:
    given = fields.get(name, "").strip().replace(",", ".")
    if not given:
        return None
    try:
        value = float(given)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InvalidRequest(f"{LIMITS[name]} must be a number from 0 to 1.", param=name)
    return value


def _two(live: dict[str, Any], names: Sequence[str]) -> tuple[str, str]:
    """Return the expert that was decided for and one to compare it with."""
    first = live["expert"]
    others = [*live["fallbacks"], GENERALIST, *names]
    return first, next((name for name in others if name != first), first)


def _page(view: View, form: Form) -> Response:
    gateway = view.plane.gateway
    shown = form.shown
    return view.page(
        "playground.html",
        NAV.path,
        status=200 if form.error is None else form.error.status,
        form=form,
        shown=shown,
        limits=LIMITS,
        policies=policies.names(),
        configured=gateway.settings.policy.name,
        experts=list(gateway.catalog.experts),
        levels=LEVELS,
        shown_words=SHOWN_WORDS,
        most_tokens=MOST_TOKENS,
        key=KEY,
        from_file=view.plane.config is not None,
    )
