"""What becomes of ratings when somebody decides to use them: export, and a quality table that one key cannot bend."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

import router
from gateway.cli import app
from gateway.stores.feedback import FeedbackStore
from tests.gateway.test_store_feedback import ROW


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Thirty keys find math good at math; one key says 900 times that it is bad."""
    path = tmp_path / "feedback.db"

    async def fill() -> None:
        async with FeedbackStore(str(path), keep=10_000, queue_size=10_000) as store:
            honest = [replace(ROW, record_id=f"h-{n}", key=f"key-{n % 30}", score=1.0) for n in range(300)]
            general = [replace(ROW, record_id=f"g-{n}", key=f"key-{n % 30}", expert="generalist") for n in range(60)]
            poison = [replace(ROW, record_id=f"p-{n}", key="mallory", score=0.0, comment="=x") for n in range(900)]
            await asyncio.gather(*(store.add(row) for row in [*honest, *general, *poison]))

    asyncio.run(fill())
    return path


@pytest.mark.parametrize(
    ("limit", "score", "count"), [(100, 300 / 400, 360), (5, 150 / 155, 139.5), (900, 0.25, 1_080)]
)
def test_fit_counts_each_key_up_to_the_limit(
    database: Path, tmp_path: Path, limit: int, score: float, count: float
) -> None:
    output = tmp_path / "quality.csv"
    chosen = () if limit == 100 else ("--per-key-limit", str(limit))
    result = run("quality", "fit", "--from-feedback", database, "--output", output, *chosen)
    assert result.exit_code == 0, result.output
    table = router.QualityTable.load(output)
    cell = (table.labels.index("math"), table.experts.index("math"))
    assert table.score[cell] == pytest.approx(score, abs=1e-3)
    assert table.count[cell] == pytest.approx(count)


def test_rating_counts_as_much_as_the_classifier_was_sure_of_its_domain(tmp_path: Path) -> None:
    path, output = tmp_path / "feedback.db", tmp_path / "quality.csv"
    sure = replace(ROW, expert="generalist", score=1.0, confidence=0.9)
    rows = [
        sure,
        replace(sure, score=0.0, confidence=0.3),
        replace(sure, score=0.0, confidence=0.0, domain="law"),
        replace(sure, score=0.5, confidence=0.2, domain="law", right_domain="coding"),
        replace(sure, score=0.5, confidence=None, domain="health"),
    ]

    async def fill() -> None:
        async with FeedbackStore(str(path), keep=100) as store:
            await asyncio.gather(*(store.add(replace(row, record_id=f"r-{n}")) for n, row in enumerate(rows)))

    asyncio.run(fill())
    result = run("quality", "fit", "--from-feedback", path, "--output", output)
    assert result.exit_code == 0, result.output
    table = router.QualityTable.load(output)
    cells = {domain: (table.score[row, 0], table.count[row, 0]) for row, domain in enumerate(table.labels)}
    assert cells["math"] == (pytest.approx(0.75, abs=1e-3), pytest.approx(1.2))
    assert cells["coding"] == (pytest.approx(0.5), pytest.approx(1.0))
    assert cells["health"] == (pytest.approx(0.5), pytest.approx(1.0))
    assert "law" not in cells, "what is next to nothing is no measurement"


def test_export_prints_every_row(database: Path) -> None:
    result = run("feedback", "export", database)
    rows = [orjson.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == 300 + 60 + 900
    assert rows[-1] == {
        "record_id": "p-899",
        "key": "mallory",
        "score": 0.0,
        "right_domain": None,
        "comment": "=x",
        "expert": "math",
        "domain": "math",
        "confidence": 0.9,
        "policy": "modem",
        "reason": "confident",
        "variant": "live",
        "strategy": None,
        "finished_at": 100.0,
        "first_at": 200.0,
        "last_at": 200.0,
    }


@pytest.mark.parametrize("command", [("feedback", "export"), ("quality", "fit", "--from-feedback")])
def test_missing_file_is_one_clear_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    result = run(*command, tmp_path / "nothing.db")
    assert result.exit_code == 1
    assert result.stderr == f"pointsman: {tmp_path / 'nothing.db'}: there is no such file\n"
    assert list(tmp_path.iterdir()) == []
