"""Templates around an ask: the ask is found, the material is kept apart, ordinary prompts stay whole."""

from __future__ import annotations

import time

import pytest

from router import extract, extract_text
from router.ask import SCANNED_CHARS, split_ask
from router.features import CONTEXT_LABEL


@pytest.mark.parametrize(
    ("text", "ask"),
    [
        ("Context:\n[1] Fares rise in May.\n\nQuestion: why do leaves turn red?\nAnswer:", "why do leaves turn red?"),
        ("### Retrieved\nrates of reaction\n**User question:** is my contract void", "is my contract void"),
        ("User: hi\nBot: hello\nUser: what is the boiling point of water", "what is the boiling point of water"),
        ("参考资料：\n【1】年假规定。\n\n用户：帮我把这句话改得客气一点", "帮我把这句话改得客气一点"),
        (
            "Dokumente: Mietspiegel 2024\nFrage: Wie viele Primzahlen gibt es bis 100?",
            "Wie viele Primzahlen gibt es bis 100?",
        ),
        ("Use Thought/Action.\nQuestion: trailing zeros of 250!\nThought: I should", "trailing zeros of 250!"),
        ("notes from the call\n## Query\nrefactor this loop please", "refactor this loop please"),
    ],
)
def test_split_ask_finds_the_last_marked_ask(text: str, ask: str) -> None:
    found, material = split_ask(text)
    assert found == ask
    assert material
    assert ask not in material


@pytest.mark.parametrize(
    "text",
    [
        "What is the question: to be or not to be?",
        "Write an answer: yes",
        "Question: no",
        "a plain prompt without any frame",
        "",
        "my user: table has a bug",
    ],
)
def test_split_ask_leaves_ordinary_prompts_whole(text: str) -> None:
    assert split_ask(text) == (text, "")


def test_extract_puts_the_ask_first_and_keeps_a_little_material() -> None:
    prompt = "Documents:\nClause 4: the tenant pays for repairs.\n\nQuestion: what does clause 4 mean?"
    text = extract_text(prompt).text
    assert text.startswith("what does clause 4 mean?")
    assert f"{CONTEXT_LABEL}Documents:" in text


def test_extract_ignores_memory_and_profile_blocks() -> None:
    content = (
        "[long_term_memory]\nuser is diabetic, works as bus driver\n[/long_term_memory]\n"
        "[message]\nhow do I prove that the square root of 2 is irrational\n[/message]"
    )
    text = extract([{"role": "user", "content": content}]).text
    assert text == "how do I prove that the square root of 2 is irrational"


def test_split_ask_is_quick_on_hostile_text() -> None:
    hostile = ("Question: " * 1200)[:SCANNED_CHARS]
    started = time.perf_counter()
    split_ask(hostile)
    split_ask("#" * SCANNED_CHARS)
    split_ask("user\n" * (SCANNED_CHARS // 5))
    assert time.perf_counter() - started < 0.5
