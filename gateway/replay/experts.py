"""Brings the experts of outcomes and those of a configuration together, and prices. Decides nothing."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from gateway import catalog as catalogs
from gateway.settings import Settings
from gateway.types import TEXT_CAPABILITIES, Catalog, Endpoint, Expert, Price, Timeouts
from router import DataError, OutcomeTable, Recorded

Floats = NDArray[np.float64]
Prices = Mapping[str, tuple[float, float]]
COLUMNS = ("expert", "input", "output")


def read_prices(file: Path) -> dict[str, tuple[float, float]]:
    """Read prices per million tokens from a CSV with columns expert, input, output.

    Raises:
        DataError: the file cannot be read, or a line is malformed; the message names it.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            if not set(COLUMNS) <= {name.strip() for name in reader.fieldnames or ()}:
                raise DataError(f"{file}:1: needs the columns {', '.join(COLUMNS)}")
            rows = [{(key or "").strip(): value for key, value in row.items()} for row in reader]
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: not a CSV file in UTF-8") from error
    prices: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows, start=2):
        name = (row["expert"] or "").strip()
        if not name or name in prices:
            raise DataError(f"{file}:{number}: no expert, or one that was priced before")
        prices[name] = _price(f"{file}:{number}", row["input"]), _price(f"{file}:{number}", row["output"])
    return prices


def _price(place: str, cell: str | None) -> float:
    try:
        value = float(cell or "")
    except ValueError:
        value = -1.0
    if not (isfinite(value) and value >= 0):
        raise DataError(f"{place}: a price is not a number of 0 or more")
    return value


def configured(outcomes: OutcomeTable, settings: Settings, notes: list[str]) -> tuple[OutcomeTable, Catalog]:
    """Return the outcomes of configured experts under their configured names, and the catalog.

    An outcome's expert is found by its name or by its served model name; others are left out, with a note.

    Raises:
        DataError: the generalist has no outcomes, or two columns belong to one expert.
        gateway.settings.MissingSecret: an environment variable that the settings name is not set.
    """
    catalog = catalogs.build(settings)
    found = {name: catalog.named(name) for name in outcomes.experts}
    known = {name: expert.name for name, expert in found.items() if expert is not None}
    if catalog.generalist.name not in known.values():
        raise DataError(
            f"the outcomes have nothing of the generalist ({catalog.generalist.model}); "
            f"they have: {', '.join(outcomes.experts)}"
        )
    unknown = [name for name in outcomes.experts if name not in known]
    missing = [name for name in catalog.experts if name not in known.values()]
    if unknown:
        notes.append(f"Not configured and left out: {', '.join(unknown)}.")
    if missing:
        notes.append(f"Configured but without outcomes, so never chosen: {', '.join(missing)}.")
    return _columns(outcomes, known).renamed(known), catalog


def best_single(outcomes: OutcomeTable, fitted: Sequence[NDArray[np.intp]], notes: list[str]) -> str:
    """Return who is taken for the generalist where none is named: the best of the prompts that tables are fitted on.

    Where two halves swap roles and disagree, and where nothing is fitted, it is the best of all prompts: known only in
    hindsight, and the notes say so.

    Args:
        outcomes: n prompts.
        fitted: rows of each fitted part.
        notes: takes how it was found.

    Raises:
        DataError: nothing is scored, or a number is out of range.
    """
    overall = _best_of(outcomes)
    found = {_best_of(outcomes.rows(rows)) for rows in fitted}
    if len(found) == 1:
        (name,) = found
        notes.append(
            f"No generalist was named: {name}, the best single expert where tables are fitted, is taken for it."
        )
        return name
    notes.append(
        f"No generalist was named: {overall}, the best single expert of all prompts, is taken for it in hindsight, so "
        "that always asking it looks better than anybody could have known."
    )
    return overall


def unconfigured(outcomes: OutcomeTable, generalist: str) -> Catalog:
    """Return a catalog of the outcomes' experts, the generalist first; nobody declares a domain or has a price.

    Raises:
        DataError: the outcomes have no such generalist.
    """
    if generalist not in outcomes.experts:
        raise DataError(f"no expert {generalist!r} in the outcomes; they have: {', '.join(outcomes.experts)}")
    names = [generalist, *(name for name in outcomes.experts if name != generalist)]
    experts = {name: _expert(name) for name in names}
    return Catalog(MappingProxyType(experts), experts[generalist], MappingProxyType({}), "replay")


def priced(catalog: Catalog, prices: Prices, wanted: Sequence[str]) -> Catalog:
    """Return the catalog with other prices, by name or served model; DataError when one of `wanted` has none."""
    found = {name: catalog.named(name) for name in prices}
    prices = {expert.name: prices[name] for name, expert in found.items() if expert is not None}
    unpriced = [name for name in wanted if name not in prices]
    if unpriced:
        raise DataError(f"no price of: {', '.join(unpriced)}")
    experts = {
        name: replace(expert, price=Price(*prices[name])) if name in prices else expert
        for name, expert in catalog.experts.items()
    }
    owners = {domain: experts[expert.name] for domain, expert in catalog.by_domain.items()}
    generalist = experts[catalog.generalist.name]
    return replace(
        catalog, experts=MappingProxyType(experts), generalist=generalist, by_domain=MappingProxyType(owners)
    )


def prices_of(catalog: Catalog, wanted: Sequence[str]) -> Prices | None:
    """Return the prices in a catalog; None unless it has those of all the experts `wanted`."""
    known = {name: expert.price for name, expert in catalog.experts.items()}
    prices = {name: (price.input, price.output) for name, price in known.items() if price is not None}
    return prices if all(name in prices for name in wanted) else None


def _best_of(outcomes: OutcomeTable) -> str:
    recorded = Recorded.of(outcomes.experts, outcomes.scores, outcomes.cost)
    return outcomes.experts[recorded.best_single()]


def _expert(name: str) -> Expert:
    return Expert(
        name=name,
        model=name,
        upstreams=(),
        domains=(),
        serves=frozenset(Endpoint),
        capabilities=TEXT_CAPABILITIES,
        timeouts=Timeouts(1, 1, 1, 1),
    )


def _columns(outcomes: OutcomeTable, names: Mapping[str, str]) -> OutcomeTable:
    keep = [column for column, name in enumerate(outcomes.experts) if name in names]

    def kept(values: Floats | None) -> Floats | None:
        return None if values is None else values[:, keep]

    return replace(
        outcomes,
        experts=tuple(outcomes.experts[column] for column in keep),
        scores=outcomes.scores[:, keep],
        cost=kept(outcomes.cost),
        input_tokens=kept(outcomes.input_tokens),
        output_tokens=kept(outcomes.output_tokens),
    )
