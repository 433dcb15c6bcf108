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


@pytest.mark.parametrize(("limit", "score", "count"), [(100, 300 / 400, 400), (5, 150 / 155, 155), (900, 0.25, 1_200)])
def test_fit_counts_each_key_up_to_the_limit(
    database: Path, tmp_path: Path, limit: int, score: float, count: int
) -> None:
    output = tmp_path / "quality.csv"
    chosen = () if limit == 100 else ("--per-key-limit", str(limit))
    result = run("quality", "fit", "--from-feedback", database, "--output", output, *chosen)
    assert result.exit_code == 0, result.output
    table = router.QualityTable.load(output)
    cell = (table.labels.index("math"), table.experts.index("math"))
    assert table.score[cell] == pytest.approx(score, abs=1e-3)
    assert table.count[cell] == pytest.approx(count)


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
