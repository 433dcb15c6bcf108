"""The speed harness: its figures are the kernel's, its streams are counted whole, and its table says what is unsure."""

from __future__ import annotations

import importlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from .documents import DEPLOY

BENCH = DEPLOY / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that imports a module of the harness, whose modules are scripts of one folder."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    child = subprocess.Popen([sys.executable, str(BENCH / "upstream.py"), str(port)])
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield port
    finally:
        child.terminate()
        child.wait()


def send(port: int, bodies: str, **plan: Any) -> dict[str, Any]:
    command = [sys.executable, str(BENCH / "client.py"), json.dumps({"port": port, "bodies": bodies, **plan})]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("gap_ms", [0, 2])
def test_every_chunk_of_a_stream_is_counted(bench: Any, upstream: int, tmp_path: Any, gap_ms: int) -> None:
    bodies = bench("bodies")
    path = bodies.write(tmp_path / "b", "m", ["Hello"], bodies.Pace(150, gap_ms))
    found = send(upstream, str(path), connections=3, each=2, chunks=150)
    assert (found["requests"], found["errors"], found["chunks"]) == (6, 0, 900)
    assert found["first_p50_ms"] < found["p50_ms"] or gap_ms == 0


def test_stream_with_other_chunks_than_expected_is_an_error(bench: Any, upstream: int, tmp_path: Any) -> None:
    bodies = bench("bodies")
    path = bodies.write(tmp_path / "b", "m", ["Hello"], bodies.Pace(5, 0))
    found = send(upstream, str(path), each=1, chunks=6)
    assert (found["requests"], found["failures"]) == (0, {"chunks lost": 1})


def test_nobody_listening_is_an_error_and_no_answer(bench: Any, tmp_path: Any) -> None:
    path = bench("bodies").write(tmp_path / "b", "m", ["Hello"])
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        found = send(closed.getsockname()[1], str(path), each=2)
    assert (found["requests"], found["failures"]) == (0, {"ConnectionRefusedError": 2})


def test_no_two_chunks_in_a_row_are_alike(bench: Any) -> None:
    module = bench("upstream")
    contents = [module._content(left) for left in range(250, 0, -1)]
    assert all(before != after for before, after in zip(contents, contents[1:], strict=False))


@pytest.mark.parametrize("prompts", ["mixed", "sized"])
def test_every_body_has_one_place_for_its_number(bench: Any, tmp_path: Any, prompts: str) -> None:
    bodies = bench("bodies")
    texts = bodies.mixed() if prompts == "mixed" else bodies.sized(1_000)
    lines = bodies.write(tmp_path / "b", "auto", texts).read_text().splitlines()
    assert len(lines) == len(texts)
    assert all(line.count(bodies.MARK) == 1 for line in lines)


def test_cpu_of_children_counts(bench: Any) -> None:
    work = "import time\nwhile time.process_time() < 0.2: pass\ntime.sleep(30)"
    shell = subprocess.Popen(["sh", "-c", f"{sys.executable} -c '{work}'; true"])
    try:
        deadline = time.monotonic() + 20
        while bench("processes").cpu_s(shell.pid) < 0.2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert bench("processes").rss_mib(shell.pid) > 5
    finally:
        for pid in reversed(bench("processes").tree(shell.pid)):
            subprocess.run(["kill", str(pid)], check=False)
        shell.wait()


def test_work_of_a_process_is_a_disturbance_unless_it_is_ours(bench: Any) -> None:
    machine = bench("machine")
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            time.sleep(0.3)
            stranger, ours = machine.Watch([]), machine.Watch([busy.pid])
            time.sleep(1)
            found, own = stranger.end(), ours.end()
        finally:
            busy.kill()
    assert found.others > own.others + 0.02
    assert found.disturbed(0.02)
    assert not found.disturbed(2.0)


def row(bench: Any, turn: int, arm: str, cpu_us: float, errors: int = 0) -> Any:
    load = bench("load").Load(100, 1.0, 2.0, 3.0, errors)
    quiet = bench("machine").Quiet(0.0, 0.0, 0.0, 0.0)
    return bench("measure").Row(turn, "c32", arm, load, cpu_us, 50.0, 0.0, quiet, 1, False)


def page(bench: Any, rows: list[Any]) -> str:
    report = bench("report")
    text = report.markdown(report.About("1 May 2026", "a machine", "run.py", 3, {}, {"nginx": "not here"}), rows)
    assert isinstance(text, str)
    return text


def test_ratios_are_formed_within_a_round(bench: Any) -> None:
    # The machine is three times slower in the second round; the ratio is the same.
    rows = [row(bench, 1, "relay", 100), row(bench, 1, "portkey", 900)]
    rows += [row(bench, 2, "relay", 300), row(bench, 2, "portkey", 2700)]
    assert "| Portkey gateway | 9.00 |" in page(bench, rows)


def test_difference_within_the_spread_is_inconclusive(bench: Any) -> None:
    rows = [row(bench, 1, "relay", 100), row(bench, 1, "nginx", 90)]
    rows += [row(bench, 2, "relay", 100), row(bench, 2, "nginx", 120)]
    assert "1.05 (0.90 to 1.20) *inconclusive*" in page(bench, rows)


def test_arm_with_errors_is_shown_and_not_compared(bench: Any) -> None:
    rows = [row(bench, 1, "relay", 100), row(bench, 1, "litellm", 9000, errors=7)]
    line = next(line for line in page(bench, rows).splitlines() if line.startswith("| LiteLLM"))
    assert "7 errors" in line
    assert "90" not in line


def test_missing_arm_is_named(bench: Any) -> None:
    assert "nginx `proxy_pass` is missing: not here" in page(bench, [row(bench, 1, "relay", 100)])


@pytest.mark.parametrize("version", ["1.82.7", "1.82.8"])
def test_stolen_litellm_is_never_installed(bench: Any, tmp_path: Any, version: str) -> None:
    environments = bench("environments")
    with pytest.raises(environments.Unavailable, match="never installed"):
        environments.litellm(tmp_path, version, install=True)
    assert not list(tmp_path.iterdir())
