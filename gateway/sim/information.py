"""The endpoints beside generation: models, tokenize, LoRA loading, version. They generate and count nothing."""

from __future__ import annotations

import secrets
from typing import Any

from gateway.sim.bodies import CountTokensBody, LoraBody, LoraName, TokenizeBody, validate
from gateway.sim.errors import DetailError, SimError
from gateway.sim.experts import Roster
from gateway.sim.messages import count_message_tokens
from gateway.sim.plans import VLLM_VERSION, find_served, now_s
from gateway.sim.prompts import TOKENS_PER_MESSAGE, content_text
from gateway.sim.replies import BARE_HEADERS, Reply, json_reply
from gateway.sim.tokens import token_id, tokenise

TEXT_HEADERS = {**BARE_HEADERS, "content-type": "text/plain; charset=utf-8"}
PERMISSIONS = {
    "allow_create_engine": False,
    "allow_sampling": True,
    "allow_logprobs": True,
    "allow_search_indices": False,
    "allow_view": True,
    "allow_fine_tuning": False,
    "organization": "*",
    "group": None,
    "is_blocking": False,
}


def models(roster: Roster) -> Reply:
    """`GET /v1/models`: served names first, then adapters with their parent."""
    cards = [
        _card(name, expert.model, None, expert.max_model_len)
        for expert in roster.experts
        for name in (expert.model, *expert.aliases)
    ]
    cards += [_card(name, roster.adapter_paths[name], expert.model, None) for name, expert in roster.loaded.items()]
    return json_reply({"object": "list", "data": cards})


def _card(name: str, root: str, parent: str | None, max_model_len: int | None) -> dict[str, Any]:
    created = now_s()
    permission = {"id": f"modelperm-{secrets.token_hex(8)}", "object": "model_permission", "created": created}
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "vllm",
        "root": root,
        "parent": parent,
        "max_model_len": max_model_len,
        "permission": [{**permission, **PERMISSIONS}],
    }


def version() -> Reply:
    """`GET /version`."""
    return json_reply({"version": VLLM_VERSION})


def tokenize(body: TokenizeBody, roster: Roster) -> Reply:
    """`POST /tokenize`, for a prompt or messages.

    Raises:
        SimError: unknown model.
    """
    expert = find_served(roster, body.model, None).expert
    if body.messages is None:
        tokens = tokenise(body.prompt or "")
    else:
        frame = ["<sim>"] * TOKENS_PER_MESSAGE
        tokens = [
            token for message in body.messages for token in (*frame, *tokenise(content_text(message.get("content"))))
        ]
    return json_reply(
        {
            "count": len(tokens),
            "max_model_len": expert.max_model_len,
            "tokens": [token_id(token) for token in tokens],
            "token_strs": tokens if body.return_token_strs else None,
        }
    )


def count_tokens(value: Any, roster: Roster) -> Reply:
    """`POST /v1/messages/count_tokens`.

    Raises:
        SimError: unknown model or a bad body.
    """
    body = validate(CountTokensBody, value)
    count = count_message_tokens(body, find_served(roster, body.model, "messages"))
    return json_reply({"input_tokens": count, "context_management": {"original_input_tokens": count}})


def load_adapter(body: LoraBody, roster: Roster) -> Reply:
    """`POST /v1/load_lora_adapter`: adds the name to the first expert.

    Raises:
        SimError: the name is taken, or the path ends in `missing`.
        DetailError: nothing may be loaded.
    """
    _check_allowed(roster)
    if body.lora_name in roster.loaded and not body.load_inplace:
        remedy = "If you want to load the adapter in place, set 'load_inplace' to True."
        text = f"The lora adapter '{body.lora_name}' has already been loaded. {remedy}"
        raise SimError(400, text, "InvalidUserInput")
    if body.lora_path.endswith("missing"):
        text = f"Loading lora {body.lora_name} failed: No adapter found for {body.lora_path}"
        raise SimError(404, text, "NotFoundError")
    roster.loaded[body.lora_name] = roster.experts[0]
    roster.adapter_paths[body.lora_name] = body.lora_path
    return Reply(f"Success: LoRA adapter '{body.lora_name}' added successfully.".encode(), headers=TEXT_HEADERS)


def unload_adapter(body: LoraName, roster: Roster) -> Reply:
    """`POST /v1/unload_lora_adapter`.

    Raises:
        SimError: no adapter has that name.
        DetailError: nothing may be unloaded.
    """
    _check_allowed(roster)
    if roster.loaded.pop(body.lora_name, None) is None:
        raise SimError(404, f"The lora adapter '{body.lora_name}' cannot be found.", "NotFoundError")
    return Reply(f"Success: LoRA adapter '{body.lora_name}' removed successfully.".encode(), headers=TEXT_HEADERS)


def _check_allowed(roster: Roster) -> None:
    if not roster.runtime_adapters:
        raise DetailError(404, "Not Found")
