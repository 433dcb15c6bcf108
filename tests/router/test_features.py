"""What the classifier reads out of a conversation, ordinary and hostile."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router import Features, extract, extract_text
from router.features import MAX_TEXT_CHARS

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)
_PART = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "input_text", "image_url", "tool_result", "thinking", "file", 3, None]),
        "text": st.text(max_size=40) | _JSON,
        "content": _JSON,
        "arguments": _JSON,
        "output": _JSON,
    },
)
_MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system", "tool", "developer", 7, None, "User"]),
        "content": st.text(max_size=60) | st.lists(_PART, max_size=4) | _JSON,
        "tool_calls": st.lists(_JSON, max_size=2) | _JSON,
    },
)


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def assistant(content: object) -> dict[str, object]:
    return {"role": "assistant", "content": content}


@given(messages=st.lists(_MESSAGE | _JSON, max_size=6), tools=st.booleans())
@settings(max_examples=80, deadline=None)
def test_extract_any_json_never_raises_and_stays_bounded(messages: list[object], tools: bool) -> None:
    features = extract(messages, tools=tools)
    assert len(features.text) <= MAX_TEXT_CHARS
    assert features.token_estimate >= 0
    assert 0 <= features.turns <= len(messages)
    assert features.has_tools or not tools


@given(text=st.text(max_size=3000))
@settings(max_examples=200, deadline=None)
def test_extract_text_any_unicode_is_encodable_and_repeatable(text: str) -> None:
    features = extract_text(text)
    features.text.encode("utf-8")
    assert extract_text(text) == features


@pytest.mark.parametrize("messages", [None, "hello", 3, {}, {"role": "user"}, [None], [[]], [{"role": ["user"]}]])
def test_extract_malformed_messages_has_no_text(messages: object) -> None:
    features = extract(messages)  # type: ignore[arg-type]  # the point of the test
    assert (features.text, features.turns) == ("", 0)


def test_extract_single_question_is_the_text() -> None:
    features = extract([user("What is the capital of Peru?")])
    assert (features.text, features.turns) == ("What is the capital of Peru?", 1)
    assert features == Features(text=features.text, turns=1, token_estimate=features.token_estimate)


def test_extract_follow_up_puts_last_turn_first_and_adds_context() -> None:
    text = extract([user("How many ways to seat 4 guests?"), assistant("24."), user("and 5?")]).text
    assert text.startswith("and 5?\n")
    assert text.index("24.") < text.index("How many ways to seat 4 guests?")


def test_extract_self_contained_turn_stands_alone() -> None:
    long_ask = "Please explain how a lease differs from a licence. " * 8
    text = extract([user("how do I boil an egg"), assistant("Eight minutes."), user(long_ask)]).text
    assert "egg" not in text
    assert "Eight" not in text


def test_extract_longer_turn_leaves_out_the_reply() -> None:
    ask = "Now write the same thing as a shell loop that walks over every log file in the folder and counts lines"
    text = extract([user("count the lines of a log"), assistant("Use wc -l."), user(ask)]).text
    assert "wc -l" not in text
    assert "count the lines of a log" in text


def test_extract_system_prompt_is_not_the_ask() -> None:
    assert extract([{"role": "system", "content": "You are a tax lawyer."}]).text == ""
    assert "lawyer" not in extract([{"role": "developer", "content": "You are a lawyer."}, user("hi")]).text


@pytest.mark.parametrize(
    "content",
    [
        "<system-reminder>run npm test</system-reminder>Why is the sky blue?",
        "Why is the sky blue?\n<environment_details>\n# VSCode files\nmain.py\n</environment_details>",
        "<command-name>/ask</command-name><command-args>Why is the sky blue?</command-args>",
        "<user_info os='linux'>zsh</user_info>\n<user_query>Why is the sky blue?</user_query>",
        "<system-reminder>a</system-reminder>Why is the sky blue?<system-reminder>b</system-reminder>",
        "<environment_details>" + "x" * 300_000 + "</environment_details>Why is the sky blue?",
    ],
)
def test_extract_harness_blocks_are_stripped(content: str) -> None:
    assert extract([user(content)]).text == "Why is the sky blue?"


def test_extract_unclosed_harness_tag_keeps_the_words() -> None:
    assert "tides" in extract_text("<system-reminder> explain tides").text


def test_extract_tag_with_longer_name_is_kept() -> None:
    assert extract_text("<environments>x</environments>").text == "<environments>x</environments>"


def test_extract_turn_of_only_harness_falls_back_to_the_turn_before() -> None:
    messages = [user("Fix the failing login test"), user("<system-reminder>todo list is empty</system-reminder>")]
    assert extract(messages).text == "Fix the failing login test"


def test_extract_tool_traffic_is_not_text_but_sets_has_tools_and_counts() -> None:
    messages = [
        user("find the port"),
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "grep", "arguments": "{}" * 50}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "port: 8080 " * 100},
    ]
    features = extract(messages)
    assert features.text == "find the port"
    assert features.has_tools
    assert features.token_estimate > 300


def test_extract_anthropic_tool_result_turn_is_not_a_human_turn() -> None:
    messages = [
        user([{"type": "text", "text": "Sum the column"}]),
        assistant(
            [{"type": "thinking", "thinking": "hm"}, {"type": "tool_use", "id": "a", "name": "sum", "input": {}}]
        ),
        user([{"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "heart rate 88"}]}]),
    ]
    features = extract(messages)
    assert (features.text, features.turns, features.has_tools) == ("Sum the column", 1, True)


@pytest.mark.parametrize(
    ("part", "flag"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}, "has_images"),
        ({"type": "input_image", "image_url": "x"}, "has_images"),
        ({"type": "image", "source": {}}, "has_images"),
        ({"type": "input_audio", "input_audio": {}}, "has_audio"),
        ({"type": "audio_url", "audio_url": {}}, "has_audio"),
        ({"type": "file", "file": {}}, "has_files"),
        ({"type": "input_file", "file_id": "f"}, "has_files"),
    ],
)
def test_extract_attachment_sets_one_flag_and_counts_tokens(part: dict[str, object], flag: str) -> None:
    features = extract([user([{"type": "text", "text": "describe"}, part])])
    flags = {name for name in ("has_tools", "has_images", "has_audio", "has_files") if getattr(features, name)}
    assert flags == {flag}
    assert features.text == "describe"
    assert features.token_estimate >= 1000


@pytest.mark.parametrize("kind", ["text", "input_text", "output_text"])
def test_extract_text_parts_are_joined(kind: str) -> None:
    assert extract([user([{"type": kind, "text": "one"}, {"type": kind, "text": "two"}])]).text == "one\ntwo"


def test_extract_text_unicode_tricks_are_undone() -> None:
    assert extract_text("so\u200blve \uff52oot\u202e \u2460 \x07now\ufeff").text == "solve root 1 now"


def test_extract_text_combining_flood_is_capped() -> None:
    assert len(extract_text("e" + "\u0301\u0316" * 5000 + " help").text) < 16


def test_extract_text_scripts_with_marks_survive() -> None:
    for prompt in ("नमस्ते, यह क्या है?", "ภาษาไทยยากไหม", "ما هو التكامل؟", "Một câu hỏi"):
        assert len(extract_text(prompt).text) >= len(prompt) - 2


def test_extract_text_long_prompt_keeps_head_and_tail() -> None:
    text = extract_text("Summarise this contract. " + "lorem ipsum " * 50_000 + " Is clause nine valid?").text
    assert text.startswith("Summarise this contract.")
    assert text.endswith("Is clause nine valid?")
    assert len(text) <= MAX_TEXT_CHARS


def test_extract_token_estimate_counts_the_whole_conversation() -> None:
    features = extract([{"role": "system", "content": "s" * 4000}, user("u" * 4000), assistant("a" * 4000), user("b")])
    assert 3000 <= features.token_estimate <= 3100


def test_extract_deep_nesting_is_no_text() -> None:
    nested: object = "deep"
    for _ in range(5000):
        nested = [{"type": "tool_result", "content": nested}]
    assert extract([user(nested)]).text == ""


@pytest.mark.parametrize(
    "prompt",
    [
        "a" * 1_000_000,
        "<div> " + "the cat " * 125_000,
        "<system-reminder>" * 60_000,
        "<system-reminder>x</system-reminder>" * 28_000,
        "e" + "\u0345\u0301" * 500_000,
        "\ufdfa" * 1_000_000,
        "数" * 1_000_000,
        "\ud800" * 1_000_000,
    ],
    ids=["plain", "tag", "open", "blocks", "marks", "ligature", "cjk", "surrogates"],
)
def test_extract_text_million_characters_is_bounded_in_text_and_time(prompt: str) -> None:
    started = time.process_time()
    features = extract_text(prompt)
    # Typically 1 to 20 ms; quadratic work on any of these would take minutes.
    assert time.process_time() - started < 0.5
    assert len(features.text) <= MAX_TEXT_CHARS
    assert features.token_estimate >= 250_000


def test_features_default_is_empty() -> None:
    assert extract([]) == Features()
