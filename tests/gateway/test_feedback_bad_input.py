"""Bodies that `POST /v1/feedback` refuses: each with its status and the field at fault, and nothing stored."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Town
from tests.faults.raw import open_town
from tests.harness import LABELS

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    database = tmp_path_factory.mktemp("feedback") / "feedback.db"
    async with open_town(feedback={"database": str(database), "per_minute": 100_000}) as town:
        answer = await town.gateway.http.post(
            "/v1/chat/completions",
            json={"model": "auto", "messages": [{"role": "user", "content": "some math"}]},
            headers={"x-request-id": "known"},
        )
        assert answer.status_code == 200
        yield town
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("SELECT count(*) FROM feedback WHERE expert != 'math'").fetchone() == (0,)


async def send(town: Town, raw: bytes, headers: dict[str, str] = JSON) -> httpx2.Response:
    return await town.gateway.http.post("/v1/feedback", content=raw, headers=headers)


def stored(town: Town) -> list[tuple[Any, ...]]:
    path = Path(town.gateway.app.state.gateway.settings.feedback.database)
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT * FROM feedback").fetchall()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "id"),
        ({"score": 1}, "id"),
        ({"id": "", "score": 1}, "id"),
        ({"id": "x" * 129, "score": 1}, "id"),
        ({"id": "known\n", "score": 1}, "id"),
        ({"id": "kno wn", "score": 1}, "id"),
        ({"id": "knówn", "score": 1}, "id"),
        ({"id": 7, "score": 1}, "id"),
        ({"id": ["known"], "score": 1}, "id"),
        ({"id": None, "score": 1}, "id"),
        ({"id": "known"}, "score"),
        ({"id": "known", "score": None}, "score"),
        ({"id": "known", "score": 0.5, "rating": "up"}, "score"),
        ({"id": "known", "score": True}, "score"),
        ({"id": "known", "score": "0.5"}, "score"),
        ({"id": "known", "score": -0.0001}, "score"),
        ({"id": "known", "score": 1.0001}, "score"),
        ({"id": "known", "score": 2**63}, "score"),
        ({"id": "known", "score": [1]}, "score"),
        ({"id": "known", "rating": "UP"}, "rating"),
        ({"id": "known", "rating": 1}, "rating"),
        ({"id": "known", "rating": "up\0"}, "rating"),
        ({"id": "known", "score": 1, "domain": "astrology"}, "domain"),
        ({"id": "known", "score": 1, "domain": ""}, "domain"),
        ({"id": "known", "score": 1, "domain": "Math"}, "domain"),
        ({"id": "known", "score": 1, "domain": 3}, "domain"),
        ({"id": "known", "score": 1, "comment": "x" * 1_001}, "comment"),
        ({"id": "known", "score": 1, "comment": {"text": "x"}}, "comment"),
        ({"id": "known", "score": 1, "expert": "math"}, "expert"),
        ({"id": "known", "score": 1, "__class__": "x"}, "__class__"),
        ({"id": "known", "score": 1, "y" * 5_000: 1}, "y" * 64),
    ],
)
async def test_bad_field_is_named(town: Town, body: dict[str, Any], param: str) -> None:
    before = stored(town)
    answer = await send(town, orjson.dumps(body))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_request", param)
    assert error["type"] == "invalid_request_error"
    assert len(error["message"]) < 300
    assert stored(town) == before


async def test_unknown_domain_lists_those_there_are(town: Town) -> None:
    answer = await send(town, orjson.dumps({"id": "known", "score": 1, "domain": "astrology"}))
    message = answer.json()["error"]["message"]
    assert all(label in message for label in LABELS)
    assert "astrology" not in message


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"known"',
        b"\xff\xfe",
        b'{"id": "known", "score": NaN}',
        b'{"id": "known", "score": Infinity}',
        b'{"id": "known", "score": 1e999}',
        b'{"id": "known", "score": 1, "comment": "\\ud800"}',
        b"[" * 10_000,
        b'{"id":' * 2_000,
    ],
)
async def test_body_that_is_no_json_object_is_refused(town: Town, raw: bytes) -> None:
    answer = await send(town, raw)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


async def test_body_too_large_is_refused_however_it_comes(town: Town) -> None:
    raw = orjson.dumps({"id": "known", "score": 1, "comment": "x" * 20_000})
    answer = await send(town, raw)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(raw), 1_000):
            yield raw[start : start + 1_000]

    answer = await town.gateway.http.post("/v1/feedback", content=in_pieces(), headers=JSON)
    assert answer.status_code == 413


async def test_longest_comment_fits_however_it_is_escaped(town: Town) -> None:
    escaped = b'{"id": "known", "score": 1, "comment": "' + b"\\ud83d\\ude00" * 1_000 + b'"}'
    assert (await send(town, escaped)).status_code == 201
    assert ("\U0001f600" * 1_000) in stored(town)[0]


@pytest.mark.parametrize("comment", ["", "  \n", "\x00\x1b\x07", "\u202e"])
async def test_empty_comment_is_none(town: Town, comment: str) -> None:
    assert (await send(town, orjson.dumps({"id": "known", "score": 1, "comment": comment}))).status_code == 201
    assert stored(town)[0][5] is None


@pytest.mark.parametrize(("score", "kept"), [(0, 0.0), (1, 1.0), (-0.0, 0.0), (1e-320, 1e-320), (0.1, 0.1)])
async def test_score_at_the_edges_is_taken(town: Town, score: float, kept: float) -> None:
    answer = await send(town, orjson.dumps({"id": "known", "score": score}))
    assert (answer.status_code, str(answer.json()["score"])) == (201, str(kept))


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"content-type": "text/plain"}, 415), ({**JSON, "content-encoding": "gzip"}, 415), ({}, 415)],
)
async def test_other_media_is_refused(town: Town, headers: dict[str, str], status: int) -> None:
    assert (await send(town, b"{}", headers)).status_code == status


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_other_methods_are_refused(town: Town, method: str) -> None:
    answer = await town.gateway.http.request(method, "/v1/feedback")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, width=32)
    | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.dictionaries(
        st.sampled_from(["id", "score", "rating", "domain", "comment", "other"]),
        st.sampled_from(["known", "up", "math", 0.5]) | JSON_VALUES,
    )
)
async def test_any_json_is_stored_or_explained(town: Town, body: dict[str, Any]) -> None:
    answer = await send(town, orjson.dumps(body))
    assert answer.status_code in (201, 400, 404)
    if answer.status_code != 201:
        assert answer.json()["error"]["param"] in {*body, "id", "score"}
