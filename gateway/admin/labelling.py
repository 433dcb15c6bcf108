"""People's labels and the prompts they look at: finds, checks, stores, and writes down who did. Serves no route."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeVar

import orjson

from gateway.admin.access import note
from gateway.admin.errors import NotThere, explained
from gateway.admin.plane import Plane
from gateway.errors import InvalidRequest
from gateway.keyring import Principal, Role
from gateway.prompt_keeping import PromptKeeping
from gateway.stores.prompts.contract import Label, Sample, Why
from gateway.stores.records.contract import microseconds
from gateway.stores.records.queries import RecordFilter

EXPORTED = 10_000
SOURCE = "review"

Found = TypeVar("Found")


def keeping(plane: Plane) -> PromptKeeping:
    """Return what keeps prompts and labels.

    Raises:
        NotThere: no records are kept, so neither are labels.
    """
    found = plane.gateway.prompts
    if found is None:
        raise NotThere("No records are kept: set records.database or records.postgres_env.", code="records_disabled")
    return found


async def ask(plane: Plane, work: Callable[[PromptKeeping], Found]) -> Found:
    """Ask the stores of prompts and labels, in a thread.

    Raises:
        NotThere: as `keeping`.
        StoreDown, QueryTooSlowError: not now.
    """
    kept = keeping(plane)

    def run() -> Found:
        with explained():
            return work(kept)

    return await plane.threads.query(run)


async def label_request(plane: Plane, principal: Principal, at_us: int, id: str, label: str) -> Label:
    """Store what somebody says a request's domain was.

    Raises:
        InvalidRequest: the classifier has no such domain.
        NotThere: there is neither a kept prompt nor a record of this request.
    """
    principal.require(Role.ADMIN)
    if label not in plane.gateway.current.scorer.labels:
        raise InvalidRequest("The classifier has no such domain.", param="label")

    def store(kept: PromptKeeping) -> Label:
        predicted, confidence, by_chance = _subject(plane, kept, at_us, id)
        made = Label(
            at_us, id, predicted, confidence, label, by_chance, principal.name, microseconds(datetime.now(UTC))
        )
        kept.labels.put(made)
        return made

    made = await ask(plane, store)
    note(plane, principal, "label", request_id=id, label=label, predicted=made.predicted)
    return made


async def undo_label(plane: Plane, principal: Principal) -> Label | None:
    """Take back the last label that somebody gave; None: there is none."""
    principal.require(Role.ADMIN)
    undone = await ask(plane, lambda kept: kept.labels.undo(principal.name))
    if undone is not None:
        note(plane, principal, "label_undone", request_id=undone.id, label=undone.label)
    return undone


async def prompt_of(plane: Plane, principal: Principal, at_us: int, id: str) -> Sample | None:
    """Return a kept prompt; None: it is not kept. Every look is written down."""
    principal.require(Role.ADMIN)
    found = await ask(plane, lambda kept: kept.samples.find(at_us, id))
    if found is not None:
        note(plane, principal, "prompt_seen", request_id=id)
    return found


async def waiting_prompts(plane: Plane, principal: Principal, limit: int, **wanted: Any) -> list[Sample]:
    """Return kept prompts that nobody labelled, see `Samples.waiting`. Every look is written down."""
    principal.require(Role.ADMIN)
    found = await ask(plane, lambda kept: kept.samples.waiting(limit, **wanted))
    if found:
        first = {"request_id": found[0].id} if len(found) == 1 else {"count": len(found)}
        note(plane, principal, "prompt_seen", **first)
    return found


async def exported(plane: Plane, principal: Principal, limit: int = EXPORTED) -> bytes:
    """Return labelled prompts as JSONL that `pointsman train` reads, the last label first. Written down as well."""
    principal.require(Role.ADMIN)

    def run(kept: PromptKeeping) -> tuple[int, bytes]:
        rows = kept.labels.with_text(limit)
        return len(rows), b"".join(orjson.dumps(_row(label, text)) + b"\n" for label, text in rows)

    count, lines = await ask(plane, run)
    note(plane, principal, "labels_exported", count=count)
    return lines


async def delete_prompts(plane: Plane, principal: Principal) -> int:
    """Delete all kept prompts; labels stay. Returns how many there were."""
    principal.require(Role.ADMIN)
    count = await ask(plane, lambda kept: kept.forget())
    note(plane, principal, "prompts_deleted", count=count)
    return count


def _row(label: Label, text: str) -> dict[str, object]:
    return {
        "text": text,
        "label": label.label,
        "source": SOURCE,
        "kind": Why.RANDOM.value if label.random else "picked",
        # Equal prompts stay on one side of a split, as `router.data` has it for rows that bring no key.
        "h": sha256(text.encode("utf-8", "ignore")).hexdigest()[:16],
    }


def _subject(plane: Plane, kept: PromptKeeping, at_us: int, id: str) -> tuple[str | None, float | None, bool]:
    """Return prediction, confidence and whether chance picked a request; blocks.

    Raises:
        NotThere: nothing is known of it.
    """
    sample = kept.samples.find(at_us, id)
    if sample is not None:
        return sample.predicted, sample.confidence, Why.RANDOM in sample.why
    page = plane.queries.page(RecordFilter(since_us=at_us, until_us=at_us + 1, ids=(id,)), None, 1)
    if not page.rows:
        raise NotThere("No stored request has this id and time.", code="record_not_found")
    row = page.rows[0]
    scores = row.get("scores") or {}
    best = next(iter(scores.items()), (row["domain"], row["confidence"]))
    return best[0], best[1], False
