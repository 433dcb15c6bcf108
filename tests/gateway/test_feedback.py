"""`POST /v1/feedback` through the running gateway, over real sockets: who may rate what, and what is stored of it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from gateway.stores.feedback import read_scores
from tests.conftest import Town

StartTown = Callable[..., Awaitable[Town]]
KEYS = {"alice": "canary-alice", "bob": "canary-bob"}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "feedback.db"


@pytest.fixture
async def open_town(start_town: StartTown, database: Path) -> Town:
    return await start_town(feedback={"database": str(database), "per_minute": 10_000})


@pytest.fixture
async def keyed_town(start_town: StartTown, database: Path, monkeypatch: pytest.MonkeyPatch) -> Town:
    for name, key in KEYS.items():
        monkeypatch.setenv(f"KEY_{name.upper()}", key)
    keys = {name: {"key_env": f"KEY_{name.upper()}"} for name in KEYS}
    return await start_town(keys=keys, feedback={"database": str(database)})


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[name]}"}


async def ask(town: Town, text: str = "some math", key: str | None = None, request_id: str | None = None) -> str:
    """Get an answer and return its id."""
    headers = ({} if key is None else bearer(key)) | ({} if request_id is None else {"x-request-id": request_id})
    body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
    answer = await town.gateway.http.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200
    return answer.headers["x-request-id"]


async def rate(town: Town, key: str | None = None, **body: Any) -> httpx2.Response:
    return await town.gateway.http.post("/v1/feedback", json=body, headers={} if key is None else bearer(key))


def error_of(answer: httpx2.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["code"], error["param"]


def rows_of(database: Path, columns: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(f"SELECT {columns} FROM feedback ORDER BY number").fetchall()


async def test_rating_is_stored_with_the_decision_it_rates(open_town: Town, database: Path) -> None:
    request_id = await ask(open_town, "some math sure=0.9")
    answer = await rate(open_town, id=request_id, score=0.25, comment="wrong sign")
    assert answer.status_code == 201
    assert answer.json() == {
        "object": "feedback", "id": request_id, "score": 0.25, "domain": None, "replaced": False
    }  # fmt: skip
    assert rows_of(database, "record_id, key, score, comment, expert, domain, policy, reason, variant, strategy") == [
        (request_id, "", 0.25, "wrong sign", "math", "math", "modem", "confident", "live", None)
    ]
    ((confidence, finished, first),) = rows_of(database, "confidence, finished_at, first_at")
    assert confidence == pytest.approx(0.9)
    assert finished <= first


@pytest.mark.parametrize(("rating", "score"), [("up", 1.0), ("down", 0.0)])
async def test_thumb_is_a_score(open_town: Town, database: Path, rating: str, score: float) -> None:
    answer = await rate(open_town, id=await ask(open_town), rating=rating)
    assert (answer.status_code, answer.json()["score"]) == (201, score)
    name = f'pointsman_feedback_total{{domain="math",expert="math",rating="{rating}"}}'
    assert await open_town.gateway.metric("pointsman_feedback_total") == {name: 1}


async def test_second_rating_replaces_the_first(open_town: Town, database: Path) -> None:
    request_id = await ask(open_town)
    await rate(open_town, id=request_id, rating="up", comment="good")
    answer = await rate(open_town, id=request_id, score=0, domain="coding")
    assert (answer.status_code, answer.json()["replaced"]) == (201, True)
    ((score, right, comment, first, last),) = rows_of(database, "score, right_domain, comment, first_at, last_at")
    assert (score, right, comment) == (0.0, "coding", None)
    assert first < last


async def test_streamed_answer_can_be_rated(open_town: Town) -> None:
    answer = await open_town.gateway.chat("some coding", stream=True)
    rated = await rate(open_town, id=answer.headers["x-request-id"], rating="up")
    assert rated.status_code == 201


@pytest.mark.parametrize("text", ["", "some math"])
async def test_pinned_and_unscored_answers_can_be_rated(open_town: Town, database: Path, text: str) -> None:
    answer = await open_town.gateway.chat(text, model="coding" if text else "auto")
    assert (await rate(open_town, id=answer.headers["x-request-id"], rating="up")).status_code == 201
    assert rows_of(database, "expert, domain") == [("coding" if text else "generalist", None)]
    assert read_scores(str(database)) == []
    name = f'pointsman_feedback_total{{domain="none",expert="{"coding" if text else "generalist"}",rating="up"}}'
    assert await open_town.gateway.metric("pointsman_feedback_total") == {name: 1}


async def test_other_keys_answer_is_not_found_as_if_it_were_not_there(keyed_town: Town, database: Path) -> None:
    request_id = await ask(keyed_town, key="alice")
    stolen = await rate(keyed_town, "bob", id=request_id, rating="down")
    invented = await rate(keyed_town, "bob", id="f" * 32, rating="down")
    assert error_of(stolen) == error_of(invented) == (404, "record_not_found", "id")
    assert stolen.json() == invented.json()
    assert rows_of(database, "key") == []
    assert (await rate(keyed_town, "alice", id=request_id, rating="up")).status_code == 201
    assert rows_of(database, "key") == [("alice",)]


async def test_same_id_of_two_keys_belongs_to_each(keyed_town: Town, database: Path) -> None:
    await ask(keyed_town, "some math", key="alice", request_id="same")
    await ask(keyed_town, "some coding", key="bob", request_id="same")
    assert (await rate(keyed_town, "alice", id="same", rating="up")).status_code == 201
    assert (await rate(keyed_town, "bob", id="same", rating="down")).status_code == 201
    assert rows_of(database, "key, expert, score") == [("alice", "math", 1.0), ("bob", "coding", 0.0)]


async def test_repeated_id_is_the_keys_last_answer(open_town: Town, database: Path) -> None:
    await ask(open_town, "some math", request_id="again")
    await ask(open_town, "some coding", request_id="again")
    await rate(open_town, id="again", rating="up")
    assert rows_of(database, "expert") == [("coding",)]


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer nope"}])
async def test_caller_without_key_is_refused(keyed_town: Town, headers: dict[str, str]) -> None:
    request_id = await ask(keyed_town, key="alice")
    answer = await keyed_town.gateway.http.post("/v1/feedback", json={"id": request_id, "score": 1}, headers=headers)
    assert error_of(answer) == (401, "invalid_api_key", None)


@pytest.mark.slow
async def test_one_key_cannot_flood_and_does_not_slow_another(keyed_town: Town, database: Path) -> None:
    mine = [await ask(keyed_town, key="alice") for _ in range(2)]
    request_id = await ask(keyed_town, key="bob")
    answers = [await rate(keyed_town, "alice", id=mine[n % 2], rating="down") for n in range(40)]
    assert [answer.status_code for answer in answers[:30]] == [201] * 30
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) >= 8
    assert {error_of(answer) for answer in refused} == {(429, "rate_limited", None)}
    assert all(1 <= int(answer.headers["retry-after"]) <= 2 for answer in refused)
    assert (await rate(keyed_town, "bob", id=request_id, rating="up")).status_code == 201
    assert len(rows_of(database, "key")) == 3


async def test_guessed_ids_count_against_the_limit(keyed_town: Town) -> None:
    codes = [(await rate(keyed_town, "bob", id=f"guess-{n}", rating="up")).status_code for n in range(40)]
    assert codes.count(404) <= 31
    assert codes[-1] == 429


@pytest.mark.slow
async def test_hundreds_of_ratings_change_no_decision(open_town: Town, database: Path) -> None:
    question = {"model": "auto", "messages": [{"role": "user", "content": "some math"}]}
    before = (await open_town.gateway.http.post("/v1/route", json=question)).json()
    request_id = await ask(open_town)
    for _ in range(20):
        await asyncio.gather(*(rate(open_town, id=request_id, rating="down", domain="coding") for _ in range(25)))
    after = (await open_town.gateway.http.post("/v1/route", json=question)).json()
    assert before["expert"] == "math"
    assert [before[name] for name in ("expert", "scores", "reason")] == [
        after[name] for name in ("expert", "scores", "reason")
    ]
    assert rows_of(database, "right_domain") == [("coding",)]


@pytest.mark.slow
async def test_two_hundred_at_once_are_all_stored(open_town: Town, database: Path) -> None:
    ids = await asyncio.gather(*(ask(open_town) for _ in range(200)))
    started = time.perf_counter()
    answers = await asyncio.gather(*(rate(open_town, id=request_id, score=0.5) for request_id in ids))
    assert {answer.status_code for answer in answers} == {201}
    assert time.perf_counter() - started < 10
    assert {row[0] for row in rows_of(database, "record_id")} == set(ids)


@pytest.mark.slow
async def test_full_queue_is_busy_and_requests_go_on(open_town: Town, database: Path) -> None:
    body = {"id": await ask(open_town), "score": 1}
    many = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=open_town.gateway.url, timeout=20, limits=many) as http:
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # somebody else holds the file
            posted = {asyncio.create_task(http.post("/v1/feedback", json=body)) for _ in range(340)}
            refused, waiting = await asyncio.wait(posted, timeout=3)
            await ask(open_town)
            other.execute("ROLLBACK")
        answers = [await task for task in waiting]
    # One batch is with the thread, 256 more may wait.
    assert 340 - 256 - 64 <= len(refused) <= 340 - 256 - 1
    assert {error_of(task.result()) for task in refused} == {(503, "feedback_busy", None)}
    assert {task.result().headers["retry-after"] for task in refused} == {"5"}
    assert {answer.status_code for answer in answers} == {201}


async def test_feedback_off_says_how_to_switch_it_on(town: Town) -> None:
    request_id = await ask(town)
    answer = await rate(town, id=request_id, rating="up")
    assert error_of(answer) == (404, "feedback_disabled", None)
    assert "feedback.database" in answer.json()["error"]["message"]


async def test_forgotten_answer_cannot_be_rated(start_town: StartTown, database: Path) -> None:
    town = await start_town(feedback={"database": str(database), "remember": 2})
    ids = [await ask(town) for _ in range(3)]
    codes = [(await rate(town, id=request_id, rating="up")).status_code for request_id in ids]
    assert codes == [404, 201, 201]


async def test_comments_off_are_dropped(start_town: StartTown, database: Path) -> None:
    town = await start_town(feedback={"database": str(database), "comments": False})
    assert (await rate(town, id=await ask(town), rating="up", comment="secret")).status_code == 201
    assert rows_of(database, "comment") == [(None,)]
    assert b"secret" not in b"".join(file.read_bytes() for file in database.parent.iterdir())


async def test_restart_keeps_what_was_confirmed(start_town: StartTown, database: Path) -> None:
    towns = []
    for _ in range(2):
        towns.append(await start_town(feedback={"database": str(database)}))
        assert (await rate(towns[-1], id=await ask(towns[-1]), rating="up")).status_code == 201
    assert len(rows_of(database, "record_id")) == 2
    (old, *_) = rows_of(database, "record_id")[0]
    assert (await rate(towns[1], id=old, rating="up")).status_code == 404  # memory of requests is a process's own


async def test_only_data_plane_answers_can_be_rated(open_town: Town) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "some math"}]}
    decided = await open_town.gateway.http.post("/v1/route", json=body)
    refused = await open_town.gateway.chat("x", model="nobody")
    assert refused.status_code == 404
    for answer in (decided, refused):
        rated = await rate(open_town, id=answer.headers["x-request-id"], rating="up")
        assert error_of(rated) == (404, "record_not_found", "id")


async def test_documentation_describes_the_body(open_town: Town) -> None:
    operation = (await open_town.gateway.http.get("/openapi.json")).json()["paths"]["/v1/feedback"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == {"id", "score", "rating", "domain", "comment"}
    assert "201" in operation["responses"]


async def test_log_line_has_no_comment_and_no_key(keyed_town: Town, capfd: pytest.CaptureFixture[str]) -> None:
    request_id = await ask(keyed_town, key="alice")
    await rate(keyed_town, "alice", id=request_id, rating="up", comment="canary words")
    said = "".join(capfd.readouterr())
    assert request_id in said
    assert "canary" not in said


async def test_body_is_written_as_the_client_meant_it(open_town: Town, database: Path) -> None:
    request_id = await ask(open_town)
    comment = "\x1b[31mred\x00 \u202eevil\u2069\ttab\nline\x7f "
    raw = orjson.dumps({"id": request_id, "score": 1, "comment": comment})
    answer = await open_town.gateway.http.post(
        "/v1/feedback", content=raw, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 201
    assert rows_of(database, "comment, score") == [("[31mred evil\ttab\nline", 1.0)]
