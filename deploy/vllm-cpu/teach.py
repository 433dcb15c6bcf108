"""Overfits the tiny chat model to the conversations of `lessons.json`. Runs in vLLM's environment only.

A random model never ends its text and calls no tools; this one, at temperature 0, says the taught sentences,
stops by itself and makes real Hermes tool calls.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch

MAX_STEPS = 240
GOOD_LOSS = 4e-3
IGNORED_LABEL = -100

log = logging.getLogger("teach")


def _message(index: int, role: str, content: Any) -> dict[str, Any]:
    """Return one chat message as the template takes it."""
    if role == "calls":
        return _calls(content)
    message = {"role": role, "content": content}
    return message | {"tool_call_id": f"call_{index}"} if role == "tool" else message


def _calls(calls: list[tuple[str, dict[str, str]]]) -> dict[str, Any]:
    """Return the assistant message that makes tool calls."""
    functions = [{"name": name, "arguments": arguments} for name, arguments in calls]
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"type": "function", "function": function} for function in functions],
    }


def _pairs(tokenizer: Any, path: Path) -> list[tuple[list[int], list[int]]]:
    """Read the lessons as pairs of token lists: the prompt, and the answer with its end mark."""
    book = json.loads(path.read_text())
    pairs = []
    for lesson in book["lessons"].values():
        prompt = [_message(index, role, content) for index, (role, content) in enumerate(lesson["ask"])]
        calls = lesson.get("calls")
        answer = _calls(calls) if calls else {"role": "assistant", "content": lesson["answer"]}
        tools = [book["tools"][name] for name in lesson.get("tools", ())] or None
        asked = tokenizer.apply_chat_template(prompt, tools=tools, add_generation_prompt=True, tokenize=False)
        whole = tokenizer.apply_chat_template([*prompt, answer], tools=tools, tokenize=False)
        if not whole.startswith(asked):
            raise ValueError(f"the chat template does not continue the prompt: {asked!r}")
        said = whole[len(asked) :].rstrip("\n")  # ends with the end-of-turn mark
        pairs.append((tokenizer(asked)["input_ids"], tokenizer(said)["input_ids"]))
    return pairs


def _batch(pairs: list[tuple[list[int], list[int]]]) -> dict[str, Any]:
    """Pad all lessons into one batch whose loss counts answers only."""
    width = max(len(prompt) + len(answer) for prompt, answer in pairs)
    ids = torch.zeros(len(pairs), width, dtype=torch.long)
    labels = torch.full_like(ids, IGNORED_LABEL)
    mask = torch.zeros_like(ids)
    for row, (prompt, answer) in enumerate(pairs):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        labels[row, len(prompt) : end] = torch.tensor(answer)
        mask[row, :end] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def _train(model: Any, batch: dict[str, Any]) -> None:
    """Run full-batch steps until the loss is near zero."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=MAX_STEPS)
    for step in range(MAX_STEPS):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            log.info("teaching: step %d of at most %d, loss %.4f", step, MAX_STEPS, loss.item())
        if loss.item() < GOOD_LOSS:
            return


def teach(model: Any, tokenizer: Any, lessons: Path) -> Any:
    """Train the model in place and return it in bfloat16.

    Args:
        model: a freshly initialised causal language model in float32.
        tokenizer: its tokenizer, with the chat template.
        lessons: path of `lessons.json`.

    Raises:
        RuntimeError: a lesson was not learnt word for word; the tests rely on each.
    """
    pairs = _pairs(tokenizer, lessons)
    _train(model, _batch(pairs))
    model = model.to(torch.bfloat16).eval()
    for prompt, answer in pairs:
        said = model.generate(torch.tensor([prompt]), max_new_tokens=len(answer) + 8, do_sample=False)
        if (got := said[0][len(prompt) :].tolist()) != answer:
            raise RuntimeError(f"not learnt: {tokenizer.decode(answer)!r}, it says {tokenizer.decode(got)!r}")
    log.info("teaching: all %d lessons are learnt word for word", len(pairs))
    return model
