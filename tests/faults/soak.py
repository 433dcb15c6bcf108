"""Keeps hundreds of clients busy at a gateway whose servers fail at random, and looks at what is left (G2, G7, A26).

    python -m tests.faults.soak --seconds 600

The gateway is a process of its own with the shipped classifier and a store of records; servers and clients live in this
one. Ends with 1 when anything was wrong, and prints what and the seed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import re
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from gateway.sim.experts import SimExpert
from gateway.sim.server import SimServer
from tests.faults.lifecycle import Served, serve
from tests.faults.soak_clients import Client, Seen

STREAMS, PLAIN, LEAVING = 160, 40, 40
REPLICAS = {"generalist": 2, "math": 2, "coding": 1, "health": 1}
FAULTS = (
    *("status;code=500", "status;code=502", "status;code=503", "status;code=429;retry_after=1"),
    *("close_fin", "close_rst", "headers_cut", "hang", "html", "truncated_json", "length_larger", "length_smaller"),
    *("cut_fin;events=5", "cut_rst;events=9", "hang_mid;events=4", "error_event;events=6", "error_event;events=0"),
    *("drip;seconds=0.05;bytes=60", "malformed;kind=crlf", "malformed;kind=no_colon", "split;bytes=5"),
)
TIMEOUTS = {"first_token_s": 3, "idle_s": 2, "total_s": 20, "connect_s": 1}
FAULT_EVERY_S, OUTAGE_EVERY_S = 0.4, 7.0
WARM_UP_S, SETTLE_S = 5.0, 7.0
"""The second: longer than any idle connection is kept."""
GOOD = frozenset({"plain 200", "stream done", "left"})
_INJECTED = re.compile(r"(stream|plain 50[0234]) (upstream_\w+|50[0234])|plain (429 429|503 upstream_saturated)")
BACK_AT_ZERO = (
    "pointsman_upstream_inflight",
    "pointsman_upstream_waiting",
    "pointsman_retries_running",
    "pointsman_requests_running",
    "pointsman_log_queue_rows",
    "pointsman_log_rows_dropped_total",
)
LEAST_GOOD = 0.75
SPARE_FDS = 4


@dataclass
class Findings:
    """What came of it.

    Attributes:
        wrong: sentences, none when all is well.
        figures: what was measured, by name.
    """

    wrong: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)

    def check(self, name: str, value: object, good: bool) -> None:
        """Note a figure, and that it is wrong if it is."""
        self.figures[name] = value
        if not good:
            self.wrong.append(f"{name}: {value}")


async def soak(seconds: float, seed: int, folder: Path) -> Findings:
    """Run once; the folder gets the configuration and the store."""
    findings, seen = Findings(), Seen()
    async with AsyncExitStack() as stack:
        servers = await _start_servers(stack)
        served = await stack.enter_async_context(serve(_write_config(folder, servers)))
        process = psutil.Process(served.process.pid)
        await _load(served, seen, WARM_UP_S, seed)
        await asyncio.sleep(SETTLE_S)
        before = process.num_fds()
        sizes: list[float] = []
        watching = asyncio.create_task(_watch(process, sizes))
        failing = asyncio.create_task(_fail_at_random([s for some in servers.values() for s in some], seed))
        await _load(served, seen, seconds, seed + 1)
        for task in (watching, failing):
            task.cancel()
        await asyncio.gather(watching, failing, return_exceptions=True)
        await asyncio.sleep(SETTLE_S)
        await _look_at_gateway(findings, served, before, process)
        _look_at_memory(findings, sizes)
    _look_at_answers(findings, seen)
    _look_at_records(findings, seen, folder)
    return findings


async def _start_servers(stack: AsyncExitStack) -> dict[str, list[SimServer]]:
    return {
        name: [
            await stack.enter_async_context(SimServer(SimExpert(f"sim/{name}", name, tokens_per_second=15)))
            for _ in range(replicas)
        ]
        for name, replicas in REPLICAS.items()
    }


def _write_config(folder: Path, servers: dict[str, list[SimServer]]) -> Path:
    experts = {
        name: {"model": f"sim/{name}", "upstreams": [server.url for server in some]}
        | ({} if name == "generalist" else {"domains": [name]})
        for name, some in servers.items()
    }
    content = {
        "generalist": experts.pop("generalist"),
        "experts": experts,
        "server": {"port": 0, "log_requests": False, "drain_grace_s": 0},
        "records": {"database": str(folder / "records.db")},
        "timeouts": TIMEOUTS,
        "health": {"interval_s": 1},
        "breaker": {"ejection_s": 2, "longest_ejection_s": 20, "ramp_s": 2},
    }
    path = folder / "experts.yaml"
    path.write_text(json.dumps(content))
    return path


async def _load(served: Served, seen: Seen, seconds: float, seed: int) -> None:
    """Let all clients ask for so long, and finish."""
    ending = asyncio.Event()
    kinds = ((STREAMS, True, False), (PLAIN, False, False), (LEAVING // 2, True, True), (LEAVING // 2, False, True))
    clients = [
        Client(served.url, seen, stream=stream, leaves=leaves, dice=random.Random(seed * 1_000 + number * 10 + index))
        for index, (count, stream, leaves) in enumerate(kinds)
        for number in range(count)
    ]
    asking = [asyncio.create_task(client.ask_until(ending)) for client in clients]
    await asyncio.sleep(seconds)
    ending.set()
    await asyncio.gather(*asking)


async def _fail_at_random(servers: Sequence[SimServer], seed: int) -> None:
    dice, outage_at = random.Random(seed), time.monotonic() + OUTAGE_EVERY_S
    try:
        while True:
            await asyncio.sleep(FAULT_EVERY_S)
            server = dice.choice(servers)
            server.fault(dice.choice(FAULTS), count=dice.randint(1, 6))
            if time.monotonic() >= outage_at:
                outage_at = time.monotonic() + OUTAGE_EVERY_S
                dice.choice(servers).refuse(drop=dice.random() < 0.5, seconds=dice.uniform(0.2, 3))
    finally:
        for server in servers:
            server.clear_faults()


async def _watch(process: psutil.Process, sizes: list[float]) -> None:
    while True:
        await asyncio.sleep(1)
        sizes.append(process.memory_info().rss / 2**20)


async def _look_at_gateway(findings: Findings, served: Served, fds_before: int, process: psutil.Process) -> None:
    fds = process.num_fds()
    findings.check("open files", f"{fds_before} before, {fds} after", fds <= fds_before + SPARE_FDS)
    page = (await served.ask("/metrics"))[2].decode()
    for name in BACK_AT_ZERO:
        values = [float(line.rpartition(" ")[2]) for line in page.splitlines() if re.match(rf"{name}[{{ ]", line)]
        findings.check(name, sum(values), bool(values) and not any(values))
    retries = sum(float(n) for n in re.findall(r"^pointsman_retries_total\S* (\S+)$", page, re.MULTILINE))
    ejections = sum(float(n) for n in re.findall(r"^pointsman_ejections_total\S* (\S+)$", page, re.MULTILINE))
    findings.figures |= {"further tries": int(retries), "ejections": int(ejections)}
    strange = Counter(e["event"] for e in served.events if e.get("level") in (None, "error", "critical"))
    findings.check("errors in the log", dict(strange), not strange and "Traceback" not in served.said)


def _look_at_memory(findings: Findings, sizes: list[float]) -> None:
    """Compare the last quarter with the second: the first is caches filling."""
    quarter = len(sizes) // 4
    early, late = statistics.median(sizes[quarter : 2 * quarter]), statistics.median(sizes[3 * quarter :])
    ratio = late / early
    # In a minute caches still fill; ten have to be flat.
    most = 1.05 if quarter > 60 else 1.15
    findings.check("memory", f"{early:.0f} MB, then {late:.0f} MB: {ratio:.3f}", ratio <= most)


def _look_at_answers(findings: Findings, seen: Seen) -> None:
    outcomes = seen.outcomes
    findings.figures["requests"] = seen.sent
    findings.figures["answers"] = dict(outcomes.most_common())
    strange = {word: count for word, count in outcomes.items() if word not in GOOD and not _INJECTED.fullmatch(word)}
    findings.check("errors nobody injected", strange, not strange)
    findings.check("broken answers", Counter(seen.wrong).most_common(5), not seen.wrong)
    good = sum(outcomes[word] for word in GOOD) / max(1, sum(outcomes.values()))
    findings.check("good answers", f"{good:.1%}", good >= LEAST_GOOD)


def _look_at_records(findings: Findings, seen: Seen, folder: Path) -> None:
    with closing(sqlite3.connect(folder / "records.db")) as store:
        rows, ids = store.execute("SELECT count(*), count(DISTINCT id) FROM record").fetchone()
    findings.check("records", f"{rows} of {seen.sent} requests", rows == ids == seen.sent)


def main() -> int:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # of the simulated servers: clients that leave are errors to theirs
    with tempfile.TemporaryDirectory() as folder:
        findings = asyncio.run(soak(options.seconds, options.seed, Path(folder)))
    for name, value in findings.figures.items():
        print(f"{name:32} {value}")
    for sentence in findings.wrong:
        print("WRONG", sentence)
    print(f"{'wrong' if findings.wrong else 'well'} after {options.seconds:.0f} s of faults, seed {options.seed}")
    return 1 if findings.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
