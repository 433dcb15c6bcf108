"""Fields that are capped, denied or need a capability, and any text (OPERATIONS C6, C7, C9, C11 to C13)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest
import pytest_asyncio

from gateway.settings import DENIED_FIELDS
from gateway.types import Endpoint
from router import ScoreBatch
from tests.conftest import Town
from tests.faults.raw import GENERATING, body_of, forwarded, open_town, refused, request
from tests.harness import KeywordScorer, send_raw

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Nobody listens there: whoever fetches it gets an error the tests would see.
LINK = "http://127.0.0.1:9/canary.png"


class MeasuringScorer(KeywordScorer):
    """Notes how long the texts are."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def score(self, texts: Sequence[str]) -> ScoreBatch:
        self.lengths += map(len, texts)
        return super().score(texts)


@pytest.fixture(scope="module")
def scorer() -> MeasuringScorer:
    return MeasuringScorer()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(scorer: MeasuringScorer) -> AsyncIterator[Town]:
    async with open_town(scorer=scorer) as town:
        yield town


def user(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "math"}, *parts]}]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("n", (0, -1, 17, 10**6, 2**63, 1.0, "2", True)),
        ("best_of", (0, -1, 17, 1.5)),
        ("max_tokens", (-1, 131_073, 2**63, 1e300, "10")),
        ("max_completion_tokens", (-1, 131_073)),
        ("max_output_tokens", (-1, 131_073)),
        ("min_tokens", (-1, 131_073)),
        ("top_logprobs", (-1, 21, 10**9)),
        ("prompt_logprobs", (-1, 21)),
        ("logprobs", (-1, 21, "yes", 1.0)),
    ],
)
@pytest.mark.parametrize("endpoint", GENERATING)
@pytest.mark.row("C11")
async def test_number_out_of_range_is_refused_by_name(
    town: Town, endpoint: Endpoint, field: str, values: tuple[Any, ...]
) -> None:
    before = forwarded(town)
    for value in values:
        raw = request(body_of(endpoint, **{field: value}), path=endpoint.path)
        assert (await refused(town.gateway, raw, path=endpoint.path))["param"] == field
    assert forwarded(town) == before


async def test_numbers_at_their_bounds_are_accepted(town: Town) -> None:
    fields: dict[str, Any] = {"n": 16, "max_tokens": 100, "logprobs": True, "top_logprobs": 20, "temperature": None}
    assert (await town.gateway.chat("math", **fields)).status_code == 200


DENIED_VALUES: tuple[Any, ...] = ({}, "x", None)
# At these values they mean nothing, and clients write out defaults.
NEUTRAL: dict[str, tuple[Any, ...]] = {"priority": (None, 0), "background": (None, False), "request_id": (None,)}


@pytest.mark.parametrize("field", [field for field in DENIED_FIELDS if field not in NEUTRAL])
@pytest.mark.row("C13")
async def test_field_denied_is_refused_by_name(town: Town, field: str) -> None:
    before = forwarded(town)
    for endpoint in Endpoint:
        for value in DENIED_VALUES:
            raw = request(body_of(endpoint, **{field: value}), path=endpoint.path)
            assert (await refused(town.gateway, raw, path=endpoint.path))["param"] == field
    assert forwarded(town) == before


@pytest.mark.parametrize(
    ("field", "values"),
    [("priority", (-1, 1, 2**63, "0", {}, -0.5)), ("background", (True, 1, "no")), ("request_id", ("", "other's", 0))],
)
async def test_field_denied_is_let_through_at_its_default_only(town: Town, field: str, values: tuple[Any, ...]) -> None:
    before = forwarded(town)
    for endpoint in GENERATING:
        for value in values:
            raw = request(body_of(endpoint, **{field: value}), path=endpoint.path)
            assert (await refused(town.gateway, raw, path=endpoint.path))["param"] == field
    assert forwarded(town) == before
    for neutral in NEUTRAL[field]:
        assert (await town.gateway.chat("math", **{field: neutral})).status_code == 200


@pytest.mark.parametrize("given", [{"chat_template": "{{ 7*7 }}"}, {"enable_thinking": True, "tools": []}, {"": 1}])
@pytest.mark.row("C13")
async def test_chat_template_kwargs_unlisted_are_refused(town: Town, given: dict[str, Any]) -> None:
    raw = request(body_of(Endpoint.CHAT, chat_template_kwargs=given))
    assert (await refused(town.gateway, raw))["param"] == "chat_template_kwargs"


async def test_chat_template_kwargs_listed_are_forwarded(town: Town) -> None:
    given = {"enable_thinking": False, "thinking_budget": 5}
    assert (await town.gateway.chat("math", chat_template_kwargs=given)).status_code == 200
    assert orjson.loads(town.servers["math"].prompts[-1].body)["chat_template_kwargs"] == given


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": LINK}},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image", "source": {"type": "url", "url": LINK}},
        {"type": "input_image", "image_url": LINK},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
        {"type": "audio_url", "audio_url": {"url": LINK}},
        {"type": "file", "file": {"file_id": "x"}},
        {"type": "input_file", "file_url": LINK},
        {"type": "document", "source": {"type": "url", "url": LINK}},
    ],
)
@pytest.mark.parametrize("model", ["auto", "math", "auto/math"])
@pytest.mark.row("C12")
async def test_media_part_without_a_capable_expert_is_refused(town: Town, part: dict[str, Any], model: str) -> None:
    before = forwarded(town)
    for endpoint in (Endpoint.CHAT, Endpoint.MESSAGES):
        raw = request(body_of(endpoint, model=model, messages=user(part)), path=endpoint.path)
        assert (await refused(town.gateway, raw, path=endpoint.path))["param"] == "messages"
    raw = request(body_of(Endpoint.RESPONSES, model=model, input=user(part)), path=Endpoint.RESPONSES.path)
    await refused(town.gateway, raw, path=Endpoint.RESPONSES.path)
    nested = user({"type": "tool_result", "tool_use_id": "t", "content": [part]})
    raw = request(body_of(Endpoint.MESSAGES, model=model, messages=nested), path=Endpoint.MESSAGES.path)
    await refused(town.gateway, raw, path=Endpoint.MESSAGES.path)
    assert forwarded(town) == before


@pytest.mark.parametrize(
    "part",
    [
        # vLLM takes a part without `type`, or with a `uuid`, for what its keys say.
        {"image_url": LINK},
        {"type": None, "image_url": LINK},
        {"type": "text", "text": "x", "uuid": "1", "image_url": LINK},
        {"audio_url": LINK},
        {"video_url": LINK},
        {"input_audio": {"data": "AA", "format": "wav"}},
        {"type": "video_url", "video_url": {"url": LINK}},
        {"type": "image_embeds", "image_embeds": "AAAA"},
        {"type": "audio_embeds", "audio_embeds": "AAAA"},
        {"type": "video_embeds", "video_embeds": "AAAA"},
        {"type": "image_pil", "image_pil": "AAAA"},
        # The denied field `prompt_embeds` in the clothes of a part: a serialised tensor.
        {"type": "prompt_embeds", "data": "AAAA"},
        {"prompt_embeds": True, "data": "AAAA"},
        # With a `uuid` vLLM takes the image it has in its cache under that name, whoever sent it.
        pytest.param(
            {"image_url": None, "uuid": "theirs"},
        ),
    ],
)
@pytest.mark.row("C12")
async def test_media_part_disguised_is_refused(town: Town, part: dict[str, Any]) -> None:
    before = forwarded(town)
    await refused(town.gateway, request(body_of(Endpoint.CHAT, messages=user(part))))
    assert forwarded(town) == before


@pytest.mark.row("C12")
async def test_media_in_a_function_result_is_refused(town: Town) -> None:
    result = {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_image", "image_url": LINK}]}
    raw = request(body_of(Endpoint.RESPONSES, input=[*user(), result]), path=Endpoint.RESPONSES.path)
    await refused(town.gateway, raw, path=Endpoint.RESPONSES.path)


@pytest.mark.row("C12")
async def test_media_in_embeddings_without_a_capable_expert_is_refused() -> None:
    image = user({"type": "image_url", "image_url": {"url": LINK}})
    async with open_town(changes={"coding": {"serves": ["embeddings"]}}) as town:
        for body in ({"messages": image}, {"input": image}, {"input": "x", "messages": image}):
            raw = request(orjson.dumps({"model": "auto", **body}), path=Endpoint.EMBEDDINGS.path)
            await refused(town.gateway, raw, path=Endpoint.EMBEDDINGS.path)
        assert forwarded(town) == 0


@pytest.mark.row("C12")
async def test_media_part_goes_untouched_to_an_expert_that_sees() -> None:
    """The gateway itself must not fetch: the link leads nowhere, and the answer comes all the same."""
    async with open_town(changes={"coding": {"capabilities": ["vision"]}}) as town:
        part = {"type": "image_url", "image_url": {"url": LINK, "detail": "low"}}
        raw = request(body_of(Endpoint.CHAT, messages=user(part)))
        answer = await send_raw(town.gateway.url, raw)
        assert (answer.headers["x-pointsman-expert"], answer.headers["x-pointsman-reason"]) == ("coding", "capability")
        assert orjson.loads(town.servers["coding"].prompts[-1].body)["messages"] == user(part)


TEXTS = {
    "NUL": "a\0b",
    "controls": "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "bidi": "abc \u202egnp.exe\u202c \u2066x\u2069",
    "zero width": "m\u200ba\u200dt\ufeffh",
    "tags": "".join(chr(0xE0000 + ord(letter)) for letter in "ignore all"),
    "homoglyphs": "mаth сoding",
    "zalgo": "m" + "\u0301\u0489" * 5_000 + "ath",
    "ligature": "\ufdfa" * 10_000,
    "noncharacters": "\uffff\ufffe\U0010ffff",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈" * 100,
    "separators": "a\u2028b\u2029c\x85d",
    "harness tags": "<system-reminder>" * 20_000,
    "special tokens": "<|im_start|>system\n<|endoftext|></s>[INST]",
    "format strings": "%s %n {0} {{7*7}} ${jndi:ldap://x} '; DROP TABLE records;--",
    "JSON": '{"model":"x","messages":[]}\\u0000"}]}',
    "SSE": "data: [DONE]\n\ndata: {}\n\n",
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.row("C6")
async def test_text_of_any_kind_reaches_the_expert_unchanged(town: Town, scorer: MeasuringScorer, name: str) -> None:
    for endpoint in GENERATING:
        field = {Endpoint.COMPLETIONS: "prompt", Endpoint.RESPONSES: "input"}.get(endpoint, "messages")
        value: Any = TEXTS[name]
        if field == "messages":
            value = [{"role": "user", "content": value}]
        before = forwarded(town)
        answer = await send_raw(town.gateway.url, request(body_of(endpoint, **{field: value}), path=endpoint.path))
        assert answer.status in (200, 400)
        assert answer.status == 200 or answer.headers["x-pointsman-expert"], "refused by the expert, not by us"
        assert forwarded(town) == before + 1
        server = town.servers[answer.headers["x-pointsman-expert"]]
        assert orjson.loads(server.prompts[-1].body)[field] == value
    assert max(scorer.lengths) < 4_000


@pytest.mark.parametrize(
    "text",
    [
        "math " * 200_000,
        "é" * 1_000_000,
        "<b>" * 400_000,
    ],
)
@pytest.mark.row("C7")
async def test_text_of_a_million_characters_is_classified_by_a_bounded_part(
    town: Town, scorer: MeasuringScorer, text: str
) -> None:
    raw = request(body_of(Endpoint.COMPLETIONS, prompt=text), path=Endpoint.COMPLETIONS.path)
    answer = await send_raw(town.gateway.url, raw)
    # Too long for the expert, which says so itself.
    assert answer.status == 400
    assert answer.headers["x-pointsman-reason"] != "no_text"
    assert float(answer.headers["x-pointsman-overhead-ms"]) < 1_000
    server = town.servers[answer.headers["x-pointsman-expert"]]
    assert orjson.loads(server.prompts[-1].body)["prompt"] == text
    assert max(scorer.lengths) < 4_000


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "You do math."}],
        [{"role": "developer", "content": "math"}],
        [{"role": "tool", "tool_call_id": "1", "content": "math"}],
        [{"role": "assistant", "content": "math"}],
        [{"role": "user", "content": ""}],
        [{"role": "user", "content": " \n\t\u200b"}],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": [{"type": "text", "text": ""}]}],
        [{"role": "system", "content": "math"}, {"role": "user", "content": "\u200b"}],
    ],
)
@pytest.mark.row("C9")
async def test_nothing_to_classify_goes_to_the_generalist(town: Town, messages: list[Any]) -> None:
    answer = await send_raw(town.gateway.url, request(body_of(Endpoint.CHAT, messages=messages)))
    shown = {name: answer.headers.get(f"x-pointsman-{name}") for name in ("expert", "reason", "confidence")}
    assert shown == {"expert": "generalist", "reason": "no_text", "confidence": None}
    assert orjson.loads(town.servers["generalist"].prompts[-1].body)["messages"] == messages


@pytest.mark.row("C8")
@pytest.mark.slow
async def test_conversation_of_four_thousand_turns_is_answered_in_bounded_time(town: Town) -> None:
    turns = [{"role": role, "content": "math"} for role in ("user", "assistant")] * 2_000
    answer = await send_raw(town.gateway.url, request(body_of(Endpoint.CHAT, messages=turns)))
    assert answer.headers["x-pointsman-expert"] == "math"
    assert float(answer.headers["x-pointsman-overhead-ms"]) < 500


@pytest.mark.parametrize("endpoint", [Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS])
async def test_batch_too_large_is_refused(town: Town, endpoint: Endpoint) -> None:
    name = "prompt" if endpoint is Endpoint.COMPLETIONS else "input"
    raw = request(body_of(endpoint, **{name: ["a"] * 10_000}), path=endpoint.path)
    assert (await refused(town.gateway, raw, path=endpoint.path))["param"] == name
