"""Measures Pointsman against other gateways and the floor, and writes a table: the one command of the benchmark.

    python deploy/bench/run.py [--seconds 2] [--rounds 5] [--soak-s 30] [--arms direct,relay,pointsman-auto]

Starts the mock upstream and every arm, sends every case to all arms in turn, round after round, and writes
`DATE.csv` and `DATE.md`. Installs LiteLLM and Portkey at pinned versions on the first call (`environments.py`);
while it measures, nothing leaves loopback.
"""

from __future__ import annotations

import argparse
import datetime
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import arms
import cases
import environments
import report
from arms import Arm, Ground
from cases import Case
from environments import Unavailable
from load import LoadFailed
from machine import describe
from measure import Row, Setting, measured

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pointsman-bench"
WARM_UP = 0


@dataclass(frozen=True, slots=True)
class Field:
    """All that stands ready: the arms that run, and those that could not be had."""

    setting: Setting
    running: list[Arm]
    missing: dict[str, str]


def main() -> None:
    """Measure and write."""
    arguments = _arguments()
    # So that a `kill` or `timeout` ends the arms too; they are process groups of their own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # 1,000 streams are 2,000 connections of an arm
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as folder, ExitStack() as stack:
        field = _start(arguments, Path(folder), stack)
        rows = _measure(arguments, field)
    today = datetime.datetime.now(datetime.UTC).date()
    about = report.About(
        date=f"{today:%-d %B %Y}",
        machine=describe(),
        command=" ".join(["python", "deploy/bench/run.py", *sys.argv[1:]]),
        rounds=arguments.rounds,
        versions={arm.name: arm.version for arm in field.running},
        missing=field.missing,
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    report.write_csv(arguments.output / f"{today}.csv", rows)
    page = report.markdown(about, rows)
    (arguments.output / f"{today}.md").write_text(page, encoding="utf-8")
    sys.stdout.write(page)


def _start(arguments: argparse.Namespace, folder: Path, stack: ExitStack) -> Field:
    port = arms.free_port()
    command = [sys.executable, str(HERE / "upstream.py"), str(port)]
    upstream_pid = stack.enter_context(arms.process(command, folder / "upstream.log"))
    install = not arguments.no_install
    ground = Ground(folder, arguments.cache, port, arguments.artifact, install)
    running, missing = [], {}
    for name in arguments.arms.split(","):
        try:
            running.append(stack.enter_context(arms.running(name, ground)))
        except Unavailable as error:
            missing[name] = str(error)
            _say(f"{name}: {error}")
    try:
        wrk = environments.debian("wrk", "wrk", install=install)
    except Unavailable as error:
        wrk = None
        _say(f"{error}; our own client sends all loads, which holds back the fastest arms")
    setting = Setting(folder, arguments.seconds, wrk, upstream_pid, arguments.attempts, arguments.limit)
    return Field(setting, running, missing)


def _measure(arguments: argparse.Namespace, field: Field) -> list[Row]:
    rates = {arm.name: _warm(field.setting, arm) for arm in field.running}
    wanted = arguments.cases and set(arguments.cases.split(","))
    chosen = [case for case in cases.ROUND if not wanted or case.name in wanted]
    rows: list[Row] = []
    for turn in range(1, arguments.rounds + 1):
        for case in chosen:
            rows += _turn(field, turn, case, rates)
    for turn in range(1, arguments.crowds + 1):
        rows += _turn(field, turn, cases.CROWD, rates)
    if arguments.soak_s:
        long = replace(field.setting, seconds=arguments.soak_s, attempts=1)
        rows += _turn(replace(field, setting=long), 1, cases.SOAK, dict.fromkeys(rates, 1e9))
    return rows


def _warm(setting: Setting, arm: Arm) -> float:
    """Send the first requests, which load and compile, and return answers per second."""
    once = replace(setting, attempts=1)
    measured(once, WARM_UP, cases.STREAMED[0], arm, 1e9)
    return measured(once, WARM_UP, cases.PLAIN[1], arm, 1e9).load.per_s


def _turn(field: Field, turn: int, case: Case, rates: dict[str, float]) -> list[Row]:
    rows = []
    for arm in field.running[turn % len(field.running) :] + field.running[: turn % len(field.running)]:
        try:
            row = measured(field.setting, turn, case, arm, rates[arm.name])
        except LoadFailed as error:
            _say(f"round {turn}, {case.name}, {arm.name}: {error}")
            continue
        rows.append(row)
        _say(_line(row))
    order = [arm.name for arm in field.running]
    return sorted(rows, key=_place(order))


def _place(order: list[str]) -> Callable[[Row], int]:
    return lambda row: order.index(row.arm)


def _line(row: Row) -> str:
    others = f"others {row.quiet.others + row.quiet.steal:.0%}{', disturbed' if row.disturbed else ''}"
    speed = f"{row.load.per_s:9.0f}/s {row.load.p50_ms:8.2f} ms {row.cpu_us:9.0f} us {row.load.errors} errors"
    return f"round {row.turn} {row.case:<13} {row.arm:<17}{speed}  {others}, attempt {row.attempts}"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of every measurement; slow arms get more")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--crowds", type=int, default=3, help="rounds with 1,000 streams, which take minutes")
    parser.add_argument("--soak-s", type=float, default=30.0, help="load per arm for the memory slope; 0: none")
    parser.add_argument("--arms", default=",".join(arms.NAMES), help="which, in this order")
    parser.add_argument("--cases", default="", help="which of a round, e.g. c1,c32,streams; all when left out")
    parser.add_argument("--attempts", type=int, default=3, help="tries of a measurement that others disturb")
    parser.add_argument("--limit", type=float, default=0.1, help="share of the machine that others may use")
    parser.add_argument("--artifact", default="default", help="the classifier")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where LiteLLM and Portkey are installed")
    parser.add_argument("--no-install", action="store_true", help="leave out arms that are not installed")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
