"""`GET /v1/models`: everything the `model` field may say."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from gateway.endpoints.dependencies import CurrentGateway
from gateway.errors import ModelNotFound
from gateway.generation import Generation
from gateway.types import Expert
from gateway.wanted import AUTO

api = APIRouter(tags=["models"])


@api.get("/v1/models")
async def list_models(gateway: CurrentGateway) -> dict[str, Any]:
    """List `auto`, the domain aliases and the experts, with context lengths where they are known."""
    return {"object": "list", "data": list(_cards(gateway.current).values())}


@api.get("/v1/models/{model:path}")
async def get_model(model: str, gateway: CurrentGateway) -> dict[str, Any]:
    """Return one entry of the list, also by an expert's served model name."""
    generation = gateway.current
    expert = generation.catalog.named(model)
    cards = _cards(generation)
    card = cards.get(model) or (cards.get(expert.name) if expert else None)
    if card is None:
        raise ModelNotFound(f"The model `{model}` does not exist.", param="model")
    return card


def _cards(generation: Generation) -> dict[str, dict[str, Any]]:
    catalog = generation.catalog
    cards = {AUTO: _card(AUTO, None)}
    for expert in catalog.experts.values():
        length = generation.fleet.context_length(expert)
        cards[expert.name] = _card(expert.name, length, expert)
    for domain, expert in catalog.by_domain.items():
        alias = f"{AUTO}/{domain}"
        cards[alias] = _card(alias, generation.fleet.context_length(expert), expert)
    return cards


def _card(name: str, max_model_len: int | None, expert: Expert | None = None) -> dict[str, Any]:
    """Write one entry in vLLM's form; `created` is 0 because a name has no birthday."""
    card: dict[str, Any] = {"id": name, "object": "model", "created": 0, "owned_by": "pointsman"}
    if expert is not None:
        card |= {"root": expert.model, "parent": None}
    if max_model_len is not None:
        card["max_model_len"] = max_model_len
    return card
