"""The file for ratings: what a commit has confirmed is there, everything else is a clear error. On real files."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import FeedbackBusy, FeedbackUnavailable
from gateway.stores.feedback import BATCH_SIZE, FeedbackStore, check, read_scores
from gateway.stores.feedback_table import STEPS, FeedbackRow, FeedbackScore
from gateway.stores.sqlite import StoreError, open_file

ROW = FeedbackRow(
    record_id="r-1",
    key="a",
    score=0.75,
    right_domain=None,
    comment=None,
    expert="math",
    domain="math",
    confidence=0.9,
    policy="modem",
    reason="confident",
    variant="live",
    strategy=None,
    finished_at=100.0,
    rated_at=200.0,
)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "feedback.db")


def rows_of(path: str, columns: str = "record_id, score, first_at, last_at") -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT {columns} FROM feedback ORDER BY number").fetchall()


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the file's write lock, as a backup tool or another program may."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_rating_is_in_the_file_when_add_returns(path: str) -> None:
    async with FeedbackStore(path, keep=10) as store:
        assert await store.add(ROW) is False
        assert rows_of(path) == [("r-1", 0.75, 200.0, 200.0)]


async def test_second_rating_replaces_the_first_and_keeps_both_times(path: str) -> None:
    async with FeedbackStore(path, keep=10) as store:
        await store.add(replace(ROW, comment="good", right_domain="coding"))
        assert await store.add(replace(ROW, score=0.0, expert="coding", strategy="vote", rated_at=300.0)) is True
    assert rows_of(path) == [("r-1", 0.0, 200.0, 300.0)]
    assert rows_of(path, "expert, comment, right_domain, strategy") == [("coding", None, None, "vote")]


async def test_same_id_of_two_keys_is_two_rows(path: str) -> None:
    async with FeedbackStore(path, keep=10) as store:
        await asyncio.gather(store.add(ROW), store.add(replace(ROW, key="b", score=0.1)))
    assert {row[0] for row in rows_of(path, "key")} == {"a", "b"}


async def test_same_answer_rated_twice_in_one_batch_is_one_row(path: str) -> None:
    async with FeedbackStore(path, keep=10) as store:
        replaced = await asyncio.gather(*(store.add(replace(ROW, score=i / 10, rated_at=200.0 + i)) for i in range(5)))
    assert replaced == [False, True, True, True, True]
    assert rows_of(path) == [("r-1", 0.4, 200.0, 204.0)]


@pytest.mark.parametrize("hostile", ["'; DROP TABLE feedback; --", "\0", "\U0001f600" * 1000, "", "\ud7ff\ufffe"])
async def test_text_is_stored_as_it_is(path: str, hostile: str) -> None:
    async with FeedbackStore(path, keep=10) as store:
        await store.add(replace(ROW, comment=hostile, record_id=hostile, key=hostile))
    assert rows_of(path, "comment, record_id, key") == [(hostile, hostile, hostile)]


async def test_more_than_keep_lets_the_first_rated_go(path: str) -> None:
    async with FeedbackStore(path, keep=3) as store:
        for number in range(8):
            await store.add(replace(ROW, record_id=f"r-{number}"))
            if number == 2:  # being rated again does not make it newer
                await store.add(replace(ROW, record_id="r-0", score=0.2))
    assert [row[0] for row in rows_of(path)] == ["r-5", "r-6", "r-7"]


async def test_lowered_keep_is_reached_in_steps(path: str) -> None:
    with closing(open_file(path, "feedback", STEPS)) as connection:
        connection.executemany(
            "INSERT INTO feedback VALUES (NULL, ?, 'a', 1, NULL, NULL, 'm', 'd', 1, '', NULL, 'live', NULL, 1, 1, 1)",
            ((f"old-{number}",) for number in range(2_500)),
        )
    async with FeedbackStore(path, keep=10) as store:
        lengths = []
        for number in range(4):
            await store.add(replace(ROW, record_id=f"new-{number}"))
            lengths.append(len(rows_of(path)))
    assert lengths == [1_501, 502, 10, 10]
    assert rows_of(path)[-1][0] == "new-3"


async def test_many_at_once_are_few_commits_and_all_there(path: str) -> None:
    async with FeedbackStore(path, keep=1_000) as store:
        await asyncio.gather(*(store.add(replace(ROW, record_id=f"r-{number}")) for number in range(200)))
        assert len({row[0] for row in rows_of(path)}) == 200


async def test_two_stores_on_one_file_lose_nothing(path: str) -> None:
    async with FeedbackStore(path, keep=1_000) as one, FeedbackStore(path, keep=1_000) as other:
        await asyncio.gather(
            *(store.add(replace(ROW, record_id=f"{name}-{number}")) for number in range(100)
              for name, store in (("one", one), ("other", other)))
        )  # fmt: skip
    assert len(rows_of(path)) == 200


async def test_clean_stop_writes_what_waits(path: str) -> None:
    async with FeedbackStore(path, keep=1_000) as store:
        adding = [asyncio.create_task(store.add(replace(ROW, record_id=f"r-{n}"))) for n in range(3 * BATCH_SIZE)]
        await asyncio.sleep(0)
    assert [await task for task in adding] == [False] * len(adding)
    assert len(rows_of(path)) == len(adding)


async def test_full_queue_refuses_at_once_and_takes_the_others(path: str) -> None:
    async with FeedbackStore(path, keep=1_000, queue_size=5) as store:
        with locked(path):
            writing = asyncio.create_task(store.add(ROW))
            await asyncio.sleep(0.05)
            waiting = [asyncio.create_task(store.add(replace(ROW, record_id=f"r-{n}", key="b"))) for n in range(5)]
            await asyncio.sleep(0)
            with pytest.raises(FeedbackBusy):
                async with asyncio.timeout(0.5):
                    await store.add(replace(ROW, record_id="too many"))
        assert await asyncio.gather(writing, *waiting) == [False] * 6
    assert len(rows_of(path)) == 6


async def test_rating_that_waited_too_long_is_not_written_later(path: str) -> None:
    async with FeedbackStore(path, keep=10, wait_s=0.2) as store:
        with locked(path):
            writing = asyncio.create_task(store.add(ROW))
            await asyncio.sleep(0.05)
            with pytest.raises(FeedbackBusy):
                await store.add(replace(ROW, record_id="late"))
        with pytest.raises(FeedbackBusy):
            await writing
    assert "late" not in {row[0] for row in rows_of(path)}


async def test_broken_file_fails_the_batch_and_is_opened_anew(path: str) -> None:
    async with FeedbackStore(path, keep=10) as store:
        with closing(sqlite3.connect(path)) as other:
            other.execute("ALTER TABLE feedback RENAME TO gone")
        with pytest.raises(FeedbackUnavailable):
            await store.add(ROW)
        with closing(sqlite3.connect(path)) as other:
            other.execute("ALTER TABLE gone RENAME TO feedback")
        assert await store.add(ROW) is False


async def test_locked_at_the_start_is_opened_by_a_later_rating(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.stores.sqlite.BUSY_S", 0.05)
    with locked(path):
        check(path)
        store = await FeedbackStore(path, keep=10).__aenter__()
        with pytest.raises(FeedbackUnavailable):
            await store.add(ROW)
    assert await store.add(ROW) is False
    await store.__aexit__()


def test_file_is_readable_by_its_owner_only(path: str) -> None:
    with closing(open_file(path, "feedback", STEPS)) as connection:
        connection.execute("PRAGMA wal_checkpoint")
        files = list(Path(path).parent.iterdir())
        assert len(files) == 3
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


@pytest.mark.row("D13")
def test_file_of_a_newer_version_is_refused_and_untouched(path: str) -> None:
    with closing(open_file(path, "feedback", [*STEPS, ["CREATE TABLE future (x)"]])):
        pass
    with pytest.raises(StoreError, match=r"feedback\.db: holds version 2 of feedback, this program knows up to 1"):
        check(path)
    with pytest.raises(StoreError, match="version 2"):
        read_scores(path)


@pytest.mark.row("D13")
def test_older_file_is_brought_up_to_date_once_and_keeps_its_rows(path: str) -> None:
    check(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO feedback VALUES (NULL, 'r', 'a', 1, NULL, NULL, 'm', 'd', 1, '', NULL, 'live', NULL, 1, 1, 1)"
        )
    newer = [*STEPS, ["ALTER TABLE feedback ADD COLUMN colour TEXT"]]
    for _ in range(2):
        open_file(path, "feedback", newer).close()
    assert rows_of(path, "record_id, colour") == [("r", None)]


@pytest.mark.row("D13")
def test_failed_migration_leaves_the_old_version(path: str) -> None:
    check(path)
    with pytest.raises(StoreError):
        open_file(path, "feedback", [*STEPS, ["ALTER TABLE feedback ADD COLUMN colour TEXT", "NONSENSE"]])
    assert rows_of(path) == []
    check(path)


def test_two_stores_share_a_file(path: str) -> None:
    check(path)
    open_file(path, "other", [["CREATE TABLE other (x)"]]).close()
    check(path)
    assert read_scores(path) == []


def test_database_of_another_program_is_refused_and_untouched(path: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE precious (x)")
    before = Path(path).read_bytes()
    with pytest.raises(StoreError, match="another program"):
        check(path)
    assert Path(path).read_bytes() == before


@pytest.mark.parametrize("content", [b"no database" * 1_000, b"SQLite format 3\0" + b"\xff" * 8_192])
def test_file_that_is_no_database_is_refused_and_untouched(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
    with pytest.raises(StoreError, match=r"feedback\.db: "):
        check(path)
    assert Path(path).read_bytes() == content


@pytest.mark.parametrize("place", ["missing/feedback.db", "file/feedback.db", "."])
def test_path_that_cannot_be_a_file_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=str(tmp_path)):
        check(str(tmp_path / place))


def test_reading_makes_no_file(path: str) -> None:
    with pytest.raises(StoreError, match="no such file"):
        read_scores(path)
    Path(path).touch()
    with pytest.raises(StoreError, match="holds no feedback"):
        read_scores(path)
    assert Path(path).stat().st_size == 0


async def test_scores_take_the_right_domain_and_leave_out_what_has_none(path: str) -> None:
    async with FeedbackStore(path, keep=100) as store:
        await store.add(ROW)
        await store.add(replace(ROW, record_id="r-2", right_domain="coding", score=0.0))
        await store.add(replace(ROW, record_id="r-3", domain=None, confidence=None))
        await store.add(replace(ROW, record_id="r-4", domain=None, right_domain="law", key="b"))
        await store.add(replace(ROW, record_id="r-5", strategy="vote"))
        scores = read_scores(path)  # while the gateway writes
    assert scores == [
        FeedbackScore("math", "math", 0.75, 0.9, "a"),
        FeedbackScore("coding", "math", 0.0, None, "a"),
        FeedbackScore("law", "math", 0.75, None, "b"),
    ]


@settings(max_examples=30, deadline=None)
@given(
    limit=st.integers(1, 4),
    ratings=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["math", "law"]), st.floats(0, 1)), max_size=24),
)
def test_no_key_counts_more_than_the_limit_in_one_cell(
    tmp_path_factory: pytest.TempPathFactory, limit: int, ratings: list[tuple[str, str, float]]
) -> None:
    path = str(tmp_path_factory.mktemp("limit") / "feedback.db")

    async def store_all() -> None:
        async with FeedbackStore(path, keep=100) as store:
            for number, (key, domain, score) in enumerate(ratings):
                row = replace(ROW, record_id=str(number), key=key, domain=domain, score=score, rated_at=float(number))
                await store.add(row)

    asyncio.run(store_all())
    found = read_scores(path, per_key_limit=limit)
    for cell in {(key, domain) for key, domain, _ in ratings}:
        mine = [score for key, domain, score in ratings if (key, domain) == cell]
        assert [row.score for row in found if (row.key, row.domain) == cell] == mine[-limit:]
