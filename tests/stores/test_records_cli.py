"""`pointsman records`: what it prints, in each format, and what it says when it cannot."""

from __future__ import annotations

import csv
import io
import json
import sys
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.record_export import write
from gateway.settings_file import ConfigError, load
from gateway.stores.records import Batch
from gateway.stores.records.choosing import open_store, retention
from gateway.stores.records.queries import RecordFilter
from gateway.stores.records.sqlite_reader import sqlite_queries
from tests.stores.samples import row


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "experts.yaml"
    file.write_text("generalist: {model: m, upstreams: [http://127.0.0.1:9]}\nrecords: {database: records.db}\n")
    with closing(open_store(load(file).records)) as store:
        store.write(Batch([row(n, request_model='=cmd|"/c calc"!A1' if n else "auto") for n in range(3)]))
    return file


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["records", *arguments])
    return result.exit_code, result.output


def test_show_prints_a_request_with_its_tries(config: Path) -> None:
    code, text = run("show", "r-0", "--config", str(config))
    shown = json.loads(text)
    assert (code, shown["id"], shown["tries"][0]["outcome"]) == (0, "r-0", "ok")


def test_show_of_an_unknown_request_says_so(config: Path) -> None:
    code, text = run("show", "nobody", "--config", str(config))
    assert (code, text) == (1, "pointsman: no request nobody is stored\n")


def test_export_writes_lines(config: Path) -> None:
    code, text = run("export", "--config", str(config))
    rows = [json.loads(line) for line in text.splitlines()]
    assert (code, [entry["id"] for entry in rows]) == (0, ["r-2", "r-1", "r-0"])


def test_export_as_csv_defuses_formulas(config: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    code, _ = run("export", "--format", "csv", "--output", str(target), "--config", str(config))
    rows = list(csv.DictReader(io.StringIO(target.read_text(), newline="")))
    assert code == 0
    assert [entry["request_model"] for entry in rows] == ['\'=cmd|"/c calc"!A1'] * 2 + ["auto"]
    assert rows[0]["duration_s"] == "0.5"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_every_formula_sign_is_defused_and_numbers_are_not(tmp_path: Path, start: str) -> None:
    path = tmp_path / "records.db"
    file = tmp_path / "experts.yaml"
    file.write_text("generalist: {model: m, upstreams: [http://127.0.0.1:9]}\nrecords: {database: records.db}\n")
    with closing(open_store(load(file).records)) as store:
        store.write(Batch([row(0, policy=f"{start}1", margin=-0.5)]))
    target = io.BytesIO()
    write("csv", sqlite_queries(str(path)).every(RecordFilter()), target)
    (found,) = csv.DictReader(io.StringIO(target.getvalue().decode(), newline=""))
    assert (found["policy"], found["margin"]) == (f"'{start}1", "-0.5")


def test_export_keeps_to_the_times_given(config: Path) -> None:
    code, text = run("export", "--since", "2026-03-01T12:00:01", "--until", "2026-03-01T12:00:02", "-c", str(config))
    assert (code, [orjson.loads(line)["id"] for line in text.splitlines()]) == (0, ["r-1"])


def test_export_as_parquet_or_says_what_to_install(config: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    code, text = run("export", "--format", "parquet", "--output", str(target), "--config", str(config))
    if "pyarrow" not in sys.modules:
        assert (code, text) == (1, "pointsman: Parquet needs pyarrow: pip install 'pointsman[parquet]'\n")
        return
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(target)
    assert (code, table.column("id").to_pylist()) == (0, ["r-2", "r-1", "r-0"])
    assert table.schema.field("stream").type == "bool"


def test_configuration_without_records_says_so(tmp_path: Path) -> None:
    file = tmp_path / "experts.yaml"
    file.write_text("generalist: {model: m, upstreams: [http://127.0.0.1:9]}\n")
    code, text = run("export", "--config", str(file))
    assert code == 1
    assert "neither records.database nor records.postgres_env is set" in text


def test_two_places_are_one_too_many(tmp_path: Path) -> None:
    file = tmp_path / "experts.yaml"
    file.write_text(
        "generalist: {model: m, upstreams: [http://127.0.0.1:9]}\nrecords: {database: a.db, postgres_env: PG}\n"
    )
    with pytest.raises(ConfigError, match="not both"):
        load(file)


def test_settings_say_how_long(config: Path) -> None:
    rules = retention(load(config).records)
    assert (rules.rows_s, rules.minutes_s, rules.hours_s) == (14 * 86_400, 90 * 86_400, 730 * 86_400)
    assert rules.max_bytes == 20_000_000_000
