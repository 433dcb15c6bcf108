"""What is stored to explain a request: its fields, filters on them, its neighbours, and files of an older version."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.admin.record_rows import as_row, fits
from gateway.context import Attempt
from gateway.stores.records import Batch
from gateway.stores.records.details import neighbours, tries_of, with_id
from gateway.stores.records.partitions import Partitions
from gateway.stores.records.postgres_connection import connect, migrate
from gateway.stores.records.queries import RecordFilter
from gateway.stores.records.tables import NAME, POSTGRES_STEPS, SQLITE_STEPS, row_of
from gateway.stores.sqlite import open_file
from tests.stores.conftest import Place
from tests.stores.samples import START_S, record, row

EXPLAINED: dict[str, Any] = {
    "scores": {"math": 0.91, "coding": 0.05},
    "estimates": {"math": (0.8, 0.0001), "generalist": (0.7, None)},
    "minimum_margin": 0.1,
    "maximum_out_of_domain": 0.95,
    "maximum_disagreement": 1.0,
    "receive_s": 0.001,
    "queue_s": 0.0,
    "connect_s": 0.002,
    "finish": "stop",
    "conversation": "64b1f",
    "classifier": "keywords-1",
}


def test_what_explains_a_request_comes_back(place: Place) -> None:
    tries = [Attempt("math", "http://a:1", "ok", 200, sent=True, began_s=0.003, took_s=float("nan"))]
    place.store.write(Batch([row_of(record(1, **EXPLAINED), tries)]))
    (found,) = place.queries.page(RecordFilter(finish="stop", conversation="64b1f")).rows
    expected = {**EXPLAINED, "estimates": {"math": [0.8, 0.0001], "generalist": [0.7, None]}}
    assert {name: found[name] for name in EXPLAINED} == expected
    (attempt,) = tries_of(place.queries.run, found)
    assert (attempt["began_s"], attempt["took_s"]) == (0.003, None)
    plain = place.queries.find("r-1")
    assert plain is not None
    assert plain["tries"][0]["began_s"] == 0.003


OLD_ROW = "INSERT INTO {0}record (at_us, id, domain, finish) VALUES ({1}, 'old', 'math', NULL)"
OLD_TRY = "INSERT INTO {0}attempt VALUES ({1}, 'old', 1, 'math', 'http://a:1', 'ok', 200)"


def first_version(place: Place) -> int:
    """Make the tables as the first version had them, with a request; returns its time."""
    if place.kind == "sqlite":
        with closing(open_file(place.address, NAME, SQLITE_STEPS[:1])) as old:
            old.execute(OLD_ROW.format("", 1))
            old.execute(OLD_TRY.format("", 1))
        return 1
    at_us = START_S * 1_000_000
    with closing(connect(place.address, statement_s=10)) as connection:
        migrate(connection, NAME, POSTGRES_STEPS[:1])
        Partitions().provide(connection, {at_us})
        connection.execute(OLD_ROW.format("pointsman.", at_us).encode())
        connection.execute(OLD_TRY.format("pointsman.", at_us).encode())
    return at_us


def test_store_of_the_version_before_gets_the_new_columns_and_keeps_its_rows(place: Place) -> None:
    at_us = first_version(place)
    with closing(place.another()) as store:
        store.write(Batch([row(1, **EXPLAINED)]))
    old = place.queries.find("old")
    assert old is not None
    assert (old["at_us"], old["domain"], old["scores"], old["estimates"]) == (at_us, "math", {}, {})
    assert all(old[name] is None for name in EXPLAINED if name not in ("scores", "estimates"))
    tried = {"n": 1, "expert": "math", "upstream": "http://a:1", "outcome": "ok", "status": 200}
    assert old["tries"] == [{**tried, "began_s": None, "took_s": None}]
    new = place.queries.find("r-1")
    assert new is not None
    assert new["classifier"] == "keywords-1"


def test_requests_of_one_id_are_all_found_the_newest_first(place: Place) -> None:
    place.store.write(Batch([row(number, request_id="same") for number in range(25)]))
    found = with_id(place.queries.run, "same")
    assert len(found) == 20
    assert [one["at_us"] for one in found] == sorted((one["at_us"] for one in found), reverse=True)
    assert with_id(place.queries.run, "other") == []


def test_neighbours_are_of_the_same_conversation_and_key(place: Place) -> None:
    mine, other = {"conversation": "c1"}, {"conversation": "c2"}
    rows = [row(number, **(mine if number % 2 else other)) for number in range(30)]
    rows.append(row(31, conversation="c1", key="somebody-else"))
    place.store.write(Batch(rows))
    me = place.queries.find("r-15")
    assert me is not None
    found = [one["id"] for one in neighbours(place.queries.run, me)]
    assert found == [f"r-{number}" for number in range(1, 30, 2) if number != 15]
    assert neighbours(place.queries.run, {**me, "conversation": None}) == []


def test_filter_by_tries_finds_servers_and_experts_that_failed(place: Place) -> None:
    failed = [Attempt("math", "http://a:1", "upstream_reset"), Attempt("generalist", "http://b:2", "ok", 200)]
    place.store.write(Batch([row_of(record(1, attempts=2, chosen="generalist"), failed), row(2), row(3)]))

    def ids(**wanted: Any) -> list[str]:
        return [one["id"] for one in place.queries.page(RecordFilter(**wanted)).rows]

    assert ids(upstream="http://a:1") == ["r-1"]
    assert ids(expert_tried="math") == ["r-3", "r-2", "r-1"]
    assert ids(expert_tried="math", chosen="generalist", failed_over=True) == ["r-1"]
    assert ids(failed_over=False) == ["r-3", "r-2"]
    assert ids(ids=("r-2", "r-9")) == ["r-2"]
    assert ids(ids=()) == []
    assert ids(upstream="' OR 1=1 --") == []


TEXT = st.sampled_from(["math", "law", "-", None])
SHARE = st.one_of(st.none(), st.sampled_from([0.0, 0.3, 0.5, 1.0]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.builds(
        RecordFilter,
        domain=TEXT,
        chosen=TEXT,
        status_class=st.sampled_from([None, 2, 5]),
        stream=st.sampled_from([None, True, False]),
        failed_over=st.sampled_from([None, True, False]),
        not_chosen=TEXT,
        confidence_from=SHARE,
        confidence_below=SHARE,
        input_tokens_from=st.sampled_from([None, 50, 200]),
    )
)
def test_store_and_live_rows_agree_on_what_a_filter_means(place: Place, wanted: RecordFilter) -> None:
    records = [
        record(
            number,
            domain=("math", "law", None)[number % 3],
            chosen=("math", None, "law")[number % 3],
            status=200 if number % 4 else 503,
            stream=number % 2 == 0,
            attempts=1 + number % 2,
            confidence=(0.2, None, 0.3, 0.5, 0.9)[number % 5],
            input_tokens=(None, 10, 100, 1_000)[number % 4],
        )
        for number in range(60)
    ]
    place.store.write(Batch([row_of(one) for one in records]))
    expected = [one.request_id for one in reversed(records) if fits(wanted, as_row(one))]
    assert [one["id"] for one in place.queries.page(wanted, limit=100).rows] == expected


def test_live_row_has_the_names_of_a_stored_one(place: Place) -> None:
    one = record(1, **EXPLAINED)
    place.store.write(Batch([row_of(one)]))
    (stored,) = place.queries.page(RecordFilter(since_us=START_S * 1_000_000)).rows
    live = as_row(one)
    assert set(live) <= set(stored)
    assert {name for name in asdict(one)} - set(live) == {"request_id", "timestamp"}
    assert all(stored[name] == live[name] for name in live if name != "estimates")


@pytest.mark.parametrize("name", ["scores", "estimates", "excluded"])
def test_json_that_was_cut_is_read_as_nothing(place: Place, name: str) -> None:
    long = {f"expert-{number:04d}": (0.5, 0.001) if name == "estimates" else "x" * 20 for number in range(400)}
    place.store.write(Batch([row(1, **{name: long})]))
    (found,) = place.queries.page(RecordFilter()).rows
    assert found[name] == {}
