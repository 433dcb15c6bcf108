"""Which requests belong to one conversation, and when a tool loop is open; in the forms of all three APIs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation import MOST_EARLIER, Conversation, read_conversation
from gateway.openai import ApiRequest
from gateway.types import Endpoint

REMINDER = "<system-reminder>Your todo list is empty. It is 12:04:31.</system-reminder>"
words = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=12)


def read(
    messages: Any, *, endpoint: Endpoint = Endpoint.CHAT, scope: str = "key", session_id: str | None = None, **more: Any
) -> Conversation:
    field = {Endpoint.RESPONSES: "input", Endpoint.COMPLETIONS: "prompt"}.get(endpoint, "messages")
    body = {"model": "auto", field: messages, **more}
    return read_conversation(ApiRequest(endpoint, body, "auto", False, False), scope, session_id)


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def system(content: str) -> dict[str, Any]:
    return {"role": "system", "content": content}


def called(*names: str) -> list[dict[str, Any]]:
    return [
        {"id": f"c{i}", "type": "function", "function": {"name": name, "arguments": "{}"}}
        for i, name in enumerate(names)
    ]


def result(text: str = "42", call: str = "c0") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call, "content": text}


def continues(later: Conversation, before: Conversation) -> bool:
    return bool(before.own) and before.own in later.earlier


TALK = [user("add 1 and 2"), assistant("3"), user("and 4?"), assistant("7"), user("times two")]


def test_every_turn_continues_all_turns_before_it_the_last_one_first() -> None:
    turns = [read(TALK[:length]) for length in (1, 3, 5)]
    assert turns[0].earlier == ()
    assert turns[1].earlier == (turns[0].own,)
    assert turns[2].earlier == (turns[1].own, turns[0].own)
    assert len({turn.own for turn in turns}) == 3
    assert len({turn.draw for turn in turns}) == 1


def test_edited_turn_branches_off_before_the_edit() -> None:
    first, second = read(TALK[:1]), read(TALK[:3])
    branch = read([*TALK[:2], user("no, 5")])
    assert branch.earlier == (first.own,)
    assert branch.own != second.own
    elsewhere = read([user("add 1 and 3"), *TALK[1:3]])
    assert not continues(elsewhere, first)


def test_regenerated_answer_does_not_matter() -> None:
    first = read(TALK[:1])
    assert continues(read([TALK[0], assistant("Three."), user("and 4?")]), first)


@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.MESSAGES, Endpoint.RESPONSES])
def test_keys_keep_conversations_apart(endpoint: Endpoint) -> None:
    ours, theirs = read(TALK[:1], endpoint=endpoint, scope="a"), read(TALK[:3], endpoint=endpoint, scope="b")
    assert not continues(theirs, ours)
    assert ours.draw != theirs.draw


@given(scope=words, identity=words, other=words)
def test_session_id_is_the_conversation_whatever_is_said(scope: str, identity: str, other: str) -> None:
    one = read([user(other)], scope=scope, session_id=identity)
    two = read(TALK, scope=scope, session_id=identity)
    assert one.own == two.own == one.earlier[0] == two.earlier[0]
    assert one.draw == two.draw
    assert read(TALK, scope=scope + "x", session_id=identity).own != one.own
    # Names of key and conversation must not run into each other.
    assert read(TALK, scope=scope + identity[:1], session_id=identity[1:] or "y").own != one.own


def test_completions_have_no_conversation_without_an_id() -> None:
    alone = read("def f(", endpoint=Endpoint.COMPLETIONS)
    assert (alone.own, alone.earlier, alone.tool_loop) == (b"", (), False)
    assert alone.draw == read("def f(", endpoint=Endpoint.COMPLETIONS).draw
    assert alone.draw != read("def g(", endpoint=Endpoint.COMPLETIONS).draw
    assert read([1, 2, 3], endpoint=Endpoint.COMPLETIONS).draw != read([1, 2, 4], endpoint=Endpoint.COMPLETIONS).draw
    named = read("def f(", endpoint=Endpoint.COMPLETIONS, session_id="s")
    assert named.earlier == (named.own,)


def test_responses_string_and_message_are_the_same_first_turn() -> None:
    text = read("add 1 and 2", endpoint=Endpoint.RESPONSES)
    items = [{"type": "message", **user([{"type": "input_text", "text": "add 1 and 2"}])}]
    assert read(items, endpoint=Endpoint.RESPONSES).own == text.own
    answered = [*items, {"type": "reasoning", "summary": []}, assistant([{"type": "output_text", "text": "3"}])]
    assert continues(read([*answered, user("and 4?")], endpoint=Endpoint.RESPONSES), text)


# What harnesses and SDKs change between two requests, and what they must not get away with.


@pytest.mark.parametrize(
    ("sent", "sent_again"),
    [
        ([user("hi")], [user([{"type": "text", "text": "hi"}])]),
        ([user("hi")], [user(" hi\n")]),
        ([user("hi")], [user([{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}])]),
        ([user("hi")], [user("hi", name=None)]),
        ([system("It is 12:04."), user("hi")], [system("It is 12:09."), user("hi")]),
        ([user("hi")], [{"role": "developer", "content": "new rules"}, user("hi"), system("late rules")]),
        ([user(f"hi {REMINDER}")], [user("hi")]),
        ([user([{"type": "text", "text": "hi"}, {"type": "text", "text": REMINDER}])], [user("hi")]),
        ([user("hi"), user(REMINDER)], [user("hi")]),
        ([user("hi"), user([{"type": "text", "text": REMINDER}])], [user("hi")]),
        ([user("hi"), user("")], [user("hi")]),
        ([user("word " * 9_000 + REMINDER)], [user("word " * 9_000 + REMINDER.replace("12:04", "12:05 o'clock"))]),
    ],
    ids=[
        *("parts", "blanks", "cache mark", "null field", "clock", "instructions", "reminder", "reminder part"),
        *("reminder message", "reminder part alone", "empty message", "reminder after a long text"),
    ],
)
def test_what_a_harness_changes_does_not_split_the_conversation(sent: list[Any], sent_again: list[Any]) -> None:
    assert continues(read([*sent_again, assistant("hello"), user("how are you?")]), read(sent))
    assert read(sent).draw == read(sent_again).draw


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (assistant(None, tool_calls=called("add")), assistant("", tool_calls=called("add"))),
        (
            assistant(None, tool_calls=called("add")),
            {"role": "assistant", "tool_calls": [{**called("add")[0], "id": "abcdefghi"}]},
        ),
        (assistant("<think>hm</think>\n\n3"), assistant("3")),
        (assistant("hm</think>3", reasoning_content="hm"), assistant("3", reasoning=None)),
        (
            assistant([{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "3"}]),
            assistant("3"),
        ),
    ],
    ids=["no content", "other ids", "reasoning in text", "reasoning field", "thinking part"],
)
def test_echo_of_an_answer_in_another_form_is_the_same_answer(before: Any, after: Any) -> None:
    messages = [user("add"), before, result(), assistant("done"), user("again")]
    assert read(messages).own == read([messages[0], after, *messages[2:]]).own


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([user("ab"), user("c")], [user("a"), user("bc")]),
        ([user("a"), user("b")], [user("a\nb")]),
        ([user("a"), assistant("b"), user("c")], [user("a"), user("b"), user("c")]),
        ([user("a" * 9_000)], [user("a" * 9_001)]),
        ([user("a"), assistant(None, tool_calls=called("x")), result()], [user("a"), assistant("x"), result()]),
        ([user("a"), assistant("b"), result("1")], [user("a"), assistant("b"), user("1")]),
        (
            [user([{"type": "image_url", "image_url": {"url": "http://h/1.png"}}])],
            [user([{"type": "image_url", "image_url": {"url": "http://h/2.png"}}])],
        ),
        ([user([{"type": "tool_result", "content": "a"}])], [user([{"type": "tool_result", "content": "b"}])]),
    ],
)
def test_different_conversations_have_different_keys(one: list[Any], other: list[Any]) -> None:
    assert read(one).own != read(other).own


def test_long_conversation_is_known_although_its_middle_was_cleared() -> None:
    # Harnesses replace old tool results by a word when the context gets full.
    steps = [m for i in range(40) for m in (assistant(None, tool_calls=called("read")), result(f"file {i}"))]
    before = read([user("fix it"), *steps])
    cleared = [result("[cleared]") if m["role"] == "tool" and 8 < i < 60 else m for i, m in enumerate(steps)]
    later = [user("fix it"), *cleared, assistant(None, tool_calls=called("read")), result("file 40")]
    assert continues(read(later), before)
    assert len(read(later).earlier) == MOST_EARLIER


def test_half_an_answer_to_be_continued_belongs_to_the_answer() -> None:
    whole = read(TALK[:3])
    halved = read([*TALK[:3], assistant("the ans")])
    assert halved.own == whole.own == halved.earlier[0]
    assert continues(read(TALK), halved)


# Tool loops.

CALL_PART = {"type": "tool_use", "id": "t1", "name": "add", "input": {}}
RESULT_PART = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "42"}]}
CALL_ITEM = {"type": "function_call", "call_id": "f1", "name": "add", "arguments": "{}"}
OUTPUT_ITEM = {"type": "function_call_output", "call_id": "f1", "output": "42"}
CALLED = [user("add"), assistant(None, tool_calls=called("add", "add"))]


@pytest.mark.parametrize(
    ("endpoint", "messages", "is_open"),
    [
        (Endpoint.CHAT, [*CALLED, result()], True),
        (Endpoint.CHAT, [*CALLED, result(), result("43", "c1")], True),
        (Endpoint.CHAT, [*CALLED, {"role": "function", "name": "add", "content": "42"}], True),
        (Endpoint.CHAT, [*CALLED, result(), user(REMINDER)], True),
        (Endpoint.CHAT, [*CALLED, result(), user([{"type": "image_url", "image_url": {"url": "http://h/a"}}])], True),
        (Endpoint.CHAT, [*CALLED, result(), system("be brief")], True),
        (Endpoint.CHAT, [*CALLED, result(), user("stop, do something else")], False),
        (Endpoint.CHAT, [*CALLED, result(), assistant("42"), user("thanks")], False),
        (Endpoint.CHAT, CALLED, False),
        (Endpoint.CHAT, [user("add")], False),
        (Endpoint.MESSAGES, [user("add"), assistant([CALL_PART]), user([RESULT_PART])], True),
        (Endpoint.MESSAGES, [user("add"), assistant([CALL_PART] * 2), user([RESULT_PART] * 2)], True),
        (
            Endpoint.MESSAGES,
            [user("add"), assistant([CALL_PART]), user([RESULT_PART, {"type": "text", "text": REMINDER}])],
            True,
        ),
        (
            Endpoint.MESSAGES,
            [user("add"), assistant([CALL_PART]), user([RESULT_PART, {"type": "text", "text": "now multiply"}])],
            False,
        ),
        (Endpoint.RESPONSES, [user("add"), CALL_ITEM, OUTPUT_ITEM], True),
        (
            Endpoint.RESPONSES,
            [user("add"), {"type": "reasoning"}, CALL_ITEM, CALL_ITEM, OUTPUT_ITEM, OUTPUT_ITEM],
            True,
        ),
        (Endpoint.RESPONSES, [OUTPUT_ITEM], True),
        (Endpoint.RESPONSES, [user("add"), CALL_ITEM, OUTPUT_ITEM, user("and now law")], False),
        (Endpoint.COMPLETIONS, "add", False),
    ],
)
def test_tool_loop_is_open_from_the_result_until_a_human_speaks(
    endpoint: Endpoint, messages: Any, is_open: bool
) -> None:
    assert read(messages, endpoint=endpoint).tool_loop is is_open
    assert read(messages, endpoint=endpoint, session_id="s").tool_loop is is_open


@pytest.mark.parametrize(
    ("endpoint", "first", "later"),
    [
        (Endpoint.CHAT, [user("add")], [*CALLED, result(), result("43", "c1")]),
        (Endpoint.MESSAGES, [user("add")], [user("add"), assistant([CALL_PART]), user([RESULT_PART])]),
        (Endpoint.RESPONSES, "add", [user("add"), {"type": "reasoning"}, CALL_ITEM, CALL_ITEM, OUTPUT_ITEM]),
    ],
)
def test_tool_result_continues_the_turn_that_called(endpoint: Endpoint, first: Any, later: Any) -> None:
    assert read(later, endpoint=endpoint).earlier == (read(first, endpoint=endpoint).own,)
