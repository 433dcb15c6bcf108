"""The playground's page: what it says of a prompt is what is decided, whatever is written into its form."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dashboard.pages.playground import checks_of, pieces_of
from tests.dashboard.conftest import Site, StartSite, text_of
from tests.harness import FittedScorer

pytestmark = pytest.mark.slow


async def tried(site: Site, **fields: str) -> str:
    answer = await site.post("playground", None, **fields)
    assert answer.status_code == 200, text_of(answer.text)
    return answer.text


async def test_form_decides_and_shows_scores_rules_experts_and_words(start_site: StartSite) -> None:
    site = await start_site(scorer=FittedScorer())
    page = await tried(site, prompt="solve this math sure=0.85")
    text = text_of(page)
    assert "To math , domain math." in text
    assert "Confidence 85.0 % ≥ 80.0 %" in text
    assert "Margin to the next domain 80.0 % ≥ 10.0 %" in text
    assert "math 85.0 %" in text
    assert re.search(r'<mark data-level="4"[^>]*>math</mark>', page)
    assert "modem in use math confident" in text
    assert "The artifact brings no topics" in text
    assert site.admin.town.gateway.recorder.records == []
    failed = text_of(await tried(site, prompt="solve this math sure=0.7"))
    assert "Confidence 70.0 % < 80.0 %" in failed
    assert "To generalist , domain math." in failed


async def test_thresholds_are_tried_beside_those_in_use(site: Site) -> None:
    text = text_of(await tried(site, prompt="math sure=0.7", minimum_confidence="0,9"))
    assert "In use now With your thresholds Expert math generalist" in text
    assert "Confidence 70.0 % ≥ 55.0 % 70.0 % < 90.0 %" in text, text
    text = text_of(await tried(site, prompt="math sure=0.7", policy="fixed"))
    assert "To generalist" in text


async def test_conversation_and_system_prompt_are_taken(site: Site) -> None:
    history = [{"role": "user", "content": "math please"}, {"role": "assistant", "content": "yes?"}]
    page = await tried(site, prompt="and now?", system="be kind", conversation=orjson.dumps(history).decode())
    assert "2 turns" in text_of(page)
    messages = re.search(r'id="messages">(.*?)</script>', page)
    assert messages is not None
    assert [one["role"] for one in orjson.loads(messages[1])] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ""},
        {"prompt": "  "},
        {"prompt": "x", "conversation": "{"},
        {"prompt": "x", "conversation": '[{"role": "king", "content": "x"}]'},
        {"prompt": "x", "minimum_margin": "1.5"},
        {"prompt": "x", "minimum_margin": "nan"},
        {"prompt": "x", "minimum_margin": "a lot"},
        {"prompt": "x", "policy": "none such"},
    ],
)
async def test_wrong_forms_are_told_and_keep_what_was_written(site: Site, fields: dict[str, str]) -> None:
    answer = await site.post("playground", None, **fields)
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text
    for value in fields.values():
        if value.strip() and value != "none such":
            assert value in text_of(answer.text).replace("\u201c", '"') or f'value="{value}"' in answer.text


async def test_draft_that_cannot_be_used_is_told_with_its_line_and_kept(site: Site) -> None:
    answer = await site.post("playground", None, prompt="math", draft="generalist: {model: g}\nnonsense: <b>1</b>")
    assert answer.status_code == 422
    assert "The configuration cannot be used. line" in text_of(answer.text)
    assert "nonsense: &lt;b&gt;1&lt;/b&gt;</textarea>" in answer.text


async def test_nobody_who_can_answer_is_told(start_site: StartSite) -> None:
    site = await start_site(policy={"price_cap": 1e-12})
    answer = await site.post("playground", prompt="math")
    assert answer.status_code >= 400
    assert 'role="alert"' in answer.text


async def test_text_is_inert(site: Site) -> None:
    page = await tried(site, prompt="math </script><script>alert(1)</script> <b>")
    assert "<script>alert(1)" not in page
    assert "<b>" not in page


def word(text: str, influence: float, *spans: list[int]) -> dict[str, Any]:
    return {"word": text, "influence": influence, "spans": list(spans)}


def test_pieces_are_the_text_again_with_the_strongest_marked() -> None:
    pieces = pieces_of(
        "a math b math", [word("math", 2.0, [2, 6], [9, 13]), word("b", -1.0, [7, 8]), word("a", 0.1, [0, 1])]
    )
    assert "".join(piece.text for piece in pieces) == "a math b math"
    assert [(piece.text, piece.level) for piece in pieces if piece.level] == [("math", 4), ("b", -2), ("math", 4)]
    assert pieces_of("nothing", [word("nothing", 0.0, [0, 7])])[0].level == 0
    assert pieces_of("", []) == []


SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5), st.floats(-9, 9)), max_size=8)


@given(st.text(max_size=40), SPANS)
def test_pieces_never_lose_or_repeat_text(text: str, given_spans: list[tuple[int, int, float]]) -> None:
    words = [
        word("w", influence, [start, min(start + length, len(text))])
        for start, length, influence in given_spans
        if start < len(text)
    ]
    pieces = pieces_of(text, words)
    assert "".join(piece.text for piece in pieces) == text
    assert all(-4 <= piece.level <= 4 for piece in pieces)


def test_unscored_requests_have_no_rules() -> None:
    assert checks_of({"limits": None, "scores": None}) == []
