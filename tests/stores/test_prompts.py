"""Kept prompts and labels, in SQLite and PostgreSQL: what goes in comes out, and what is too old or too much goes."""

from __future__ import annotations

import sqlite3
import stat
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.stores.prompts.contract import Agreement, Database, Label, Limits, Sample, Why
from gateway.stores.prompts.labels import Labels
from gateway.stores.prompts.samples import Samples
from gateway.stores.prompts.sqlite import SqlitePrompts
from gateway.stores.records import RecordsUnavailable
from tests.stores.servers import Postgres

DAY_US = 86_400_000_000
FOREVER = Limits(10**6, 10**6, 10**9, 10**6, 10**9)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty place of each kind."""
    if request.param == "sqlite":
        yield SqlitePrompts(str(tmp_path / "records.db.prompts"))
        return
    from gateway.stores.prompts.postgres import PostgresPrompts

    server: Postgres = request.getfixturevalue("postgres")
    yield PostgresPrompts(server.create(f"prompts_{uuid.uuid4().hex}"))


def sample(number: int, *why: Why, **changes: object) -> Sample:
    plain = Sample(
        at_us=number * 1_000,
        id=f"r-{number}",
        text=f"prompt {number}",
        predicted="math",
        confidence=0.5,
        margin=0.1,
        out_of_domain=0.2,
        chosen="generalist",
        reason="small_margin",
        why=why or (Why.RANDOM,),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def label(number: int, name: str = "math", who: str = "ada", at_us: int | None = None, **changes: object) -> Label:
    labelled_us = number * 1_000 if at_us is None else at_us
    plain = Label(number * 1_000, f"r-{number}", "math", 0.5, name, True, who, labelled_us)
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_prompts_come_back_as_they_went_in_and_gather_reasons(database: Database) -> None:
    samples = Samples(database)
    first = sample(1, Why.LOW_MARGIN)
    samples.put([first, sample(2)])
    assert samples.find(*first.key) == first
    samples.put([replace(first, why=(Why.THUMBS_DOWN,), text="another text")])
    again = samples.find(*first.key)
    assert again is not None
    assert again.why == (Why.LOW_MARGIN, Why.THUMBS_DOWN)
    assert again.text == "prompt 1"
    assert samples.find(1, "r-1") is None


def test_waiting_ones_are_newest_first_page_by_page_and_without_the_labelled(database: Database) -> None:
    samples, labels = Samples(database), Labels(database)
    samples.put(
        [sample(n, Why.LOW_MARGIN if n % 2 else Why.RANDOM, predicted="law" if n == 4 else "math") for n in range(6)]
    )
    labels.put(label(5))
    first = samples.waiting(2)
    assert [one.id for one in first] == ["r-4", "r-3"]
    assert [one.id for one in samples.waiting(9, before=first[-1].key)] == ["r-2", "r-1", "r-0"]
    assert [one.id for one in samples.waiting(9, why=Why.LOW_MARGIN)] == ["r-3", "r-1"]
    assert [one.id for one in samples.waiting(9, domain="law")] == ["r-4"]
    counts = samples.counts()
    assert (counts.total, counts.waiting, counts.oldest_us) == (6, 5, 0)
    assert counts.waiting_by == {Why.RANDOM: 3, Why.LOW_MARGIN: 2, Why.OUT_OF_DOMAIN: 0, Why.THUMBS_DOWN: 0}
    assert counts.size == 6 * len("prompt 0")


def test_labels_replace_each_other_and_only_ones_own_last_is_taken_back(database: Database) -> None:
    labels = Labels(database)
    labels.put(label(1, "law"))
    labels.put(label(1, "math", at_us=5_000))
    labels.put(label(2, "law", at_us=6_000))
    labels.put(label(3, "law", who="bob", at_us=7_000))
    assert [one.id for one in labels.last(2)] == ["r-3", "r-2"]
    assert labels.undo("ada") == label(2, "law", at_us=6_000)
    assert labels.undo("ada") == label(1, "math", at_us=5_000)
    assert labels.undo("ada") is None
    assert [one.who for one in labels.newest()] == ["bob"]
    assert labels.find(3_000, "r-3") == label(3, "law", who="bob", at_us=7_000)


def test_agreement_keeps_chance_apart_and_leaves_out_what_was_not_scored(database: Database) -> None:
    labels = Labels(database)
    for number, one in enumerate(
        (label(1), label(2, "law"), label(3, random=False), label(4, predicted=None), label(5, "law", predicted="law"))
    ):
        labels.put(replace(one, id=f"l-{number}"))
    assert labels.agreement() == [
        Agreement("law", True, 1, 1),
        Agreement("math", False, 1, 1),
        Agreement("math", True, 2, 1),
    ]
    assert [one.id for one in labels.newest(since_us=2_000, until_us=4_000)] == ["l-2", "l-1"]


def test_old_prompts_go_labelled_ones_later_and_labels_last(database: Database) -> None:
    samples, labels = Samples(database), Labels(database)
    days = [sample(0, at_us=day * DAY_US, id=f"d-{day}") for day in range(10)]
    samples.put(days)
    labels.put(Label(0, "d-0", "math", 0.5, "math", False, "ada", 0))
    labels.put(Label(5 * DAY_US, "d-5", "math", 0.5, "law", False, "ada", 5 * DAY_US))
    limits = replace(FOREVER, prompts_s=3 * 86_400, labelled_s=6 * 86_400, labels_s=20 * 86_400)
    while samples.retain(limits, 10 * DAY_US):
        pass
    assert [one.id for one in samples.waiting(99)] == ["d-9", "d-8", "d-7"]
    assert [(one.id, text) for one, text in labels.with_text()] == [("d-5", "prompt 0")]
    assert len(labels.newest()) == 2
    samples.retain(replace(limits, labels_s=86_400), 10 * DAY_US)
    assert labels.newest() == []


@pytest.mark.parametrize(("rows", "size"), [(4, 10**9), (10**6, 4 * len("prompt 0"))])
def test_too_many_prompts_go_oldest_first_but_never_labelled_ones(database: Database, rows: int, size: int) -> None:
    samples = Samples(database)
    samples.put([sample(number) for number in range(10)])
    Labels(database).put(label(0))
    assert samples.retain(replace(FOREVER, rows=rows, size=size, prompts_s=10**9, labelled_s=10**9), DAY_US) == 6
    assert [one.id for one in samples.waiting(99)] == ["r-9", "r-8", "r-7"]
    assert samples.find(0, "r-0") is not None


def test_clearing_leaves_no_prompt_and_keeps_labels(database: Database) -> None:
    samples, labels = Samples(database), Labels(database)
    samples.put([sample(1), sample(2)])
    labels.put(label(1))
    assert samples.clear() == 2
    assert samples.counts().total == 0
    assert len(labels.newest()) == 1
    assert labels.with_text() == []


def test_file_is_the_owners_and_what_was_deleted_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "records.db.prompts"
    samples = Samples(SqlitePrompts(str(path)))
    samples.put([sample(1, text="a secret that must go " * 40)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    samples.clear()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"a secret that must go" not in path.read_bytes()


def test_file_that_is_none_is_told_without_its_content(tmp_path: Path) -> None:
    path = tmp_path / "records.db.prompts"
    path.write_text("not a database, but long enough to be looked at as one " * 20)
    with pytest.raises(RecordsUnavailable) as error:
        Samples(SqlitePrompts(str(path))).counts()
    assert "not a database, but" not in str(error.value)
    assert str(tmp_path) not in str(error.value)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200)
SHARE = st.none() | st.floats(0, 1)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.builds(
            Sample,
            st.integers(0, 5),
            st.sampled_from("abc"),
            TEXT,
            st.none() | TEXT,
            SHARE,
            SHARE,
            SHARE,
            st.none(),
            st.none(),
            st.lists(st.sampled_from(Why), min_size=1, unique=True).map(tuple),
        ),
        max_size=12,
    )
)
def test_any_samples_are_stored_once_each_with_all_their_reasons(
    tmp_path_factory: pytest.TempPathFactory, given_samples: list[Sample]
) -> None:
    samples = Samples(SqlitePrompts(str(tmp_path_factory.mktemp("any") / "p")))
    samples.put(given_samples)
    expected: dict[tuple[int, str], set[Why]] = {}
    for one in given_samples:
        expected.setdefault(one.key, set()).update(one.why)
    stored = samples.waiting(99)
    assert {one.key: set(one.why) for one in stored} == expected
    assert [one.key for one in stored] == sorted(expected, reverse=True)
    first_texts = {one.key: one.text for one in reversed(given_samples)}
    assert {one.key: one.text for one in stored} == first_texts
