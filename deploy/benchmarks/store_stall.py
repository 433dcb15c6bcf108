"""What clients feel while the store of records stands still: the same load with and without a stall, in turn.

    python -m deploy.benchmarks.store_stall [--rounds 5] [--stall 30] [--rate 100]

Needs Debian's PostgreSQL package. Starts one simulated expert, a PostgreSQL server of its own and `pointsman serve`,
sends requests at a fixed rate, and holds an exclusive lock on the table of records through every other span of time:
each insert then waits. Prints both sides' percentiles, and checks at the end that every request is stored.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import aiohttp
import psycopg

from deploy.benchmarks.overhead import PROMPT, SIMULATION, _free_port, _process, _wait_for
from tests.stores.servers import Postgres, binaries

LIMIT_S = 10.0
CATCH_UP_S = 60.0


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    programs = binaries()
    if programs is None:
        raise SystemExit("PostgreSQL is not installed (Debian package postgresql)")
    database = Postgres(programs)
    try:
        _measure(arguments, database.create("records"))
    finally:
        database.close()


def _measure(arguments: argparse.Namespace, address: str) -> None:
    sim_port, port = _free_port(), _free_port()
    os.environ["STALL_RECORDS"] = address
    with tempfile.TemporaryDirectory() as folder, _process("-c", SIMULATION.format(port=sim_port)):
        config = Path(folder, "experts.yaml")
        expert = {"model": "sim/math", "upstreams": [f"http://127.0.0.1:{sim_port}"]}
        content = {"generalist": expert, "records": {"postgres_env": "STALL_RECORDS", "queue_rows": 100_000}}
        config.write_text(json.dumps(content))
        _wait_for(f"http://127.0.0.1:{sim_port}/health")
        with _process("-m", "gateway.cli", "serve", "-c", str(config), "--port", str(port)):
            _wait_for(f"http://127.0.0.1:{port}/health/ready")
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            sides = asyncio.run(_rounds(arguments, url, address))
    for name, took in sides.items():
        _print(name, took)
    _check_stored(address, sum(map(len, sides.values())) + arguments.rate)


async def _rounds(arguments: argparse.Namespace, url: str, address: str) -> dict[str, list[float]]:
    sides: dict[str, list[float]] = {"store writes": [], "store stands still": []}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await _load(http, url, arguments.rate, 1)  # warms up
        for number in range(arguments.rounds):
            # Each side comes first as often as the other.
            for stalled in (False, True) if number % 2 else (True, False):
                with _stalled(address) if stalled else nullcontext():
                    took = await _load(http, url, arguments.rate, arguments.stall)
                sides["store stands still" if stalled else "store writes"] += took
                await asyncio.sleep(2)  # what has waited is written
    return sides


async def _load(http: aiohttp.ClientSession, url: str, rate: int, seconds: float) -> list[float]:
    """Send requests at fixed times, whether or not earlier ones are answered; return how long each took."""
    start, asking = time.perf_counter(), []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
        asking.append(asyncio.create_task(_ask(http, url)))
    return await asyncio.gather(*asking)


async def _ask(http: aiohttp.ClientSession, url: str) -> float:
    body = {"model": "auto", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 8}
    began = time.perf_counter()
    async with http.post(url, json=body, timeout=aiohttp.ClientTimeout(total=LIMIT_S)) as answer:
        await answer.read()
        assert answer.status == 200, answer.status
    return time.perf_counter() - began


@contextmanager
def _stalled(address: str) -> Iterator[None]:
    """Hold a lock that every insert waits for."""
    with psycopg.connect(address) as connection:
        connection.execute("LOCK TABLE pointsman.record IN ACCESS EXCLUSIVE MODE")
        yield


def _print(name: str, took: list[float]) -> None:
    cuts = statistics.quantiles(took, n=1_000)
    figures = " ".join(f"p{share}: {cuts[int(share * 10) - 1] * 1e3:.2f} ms" for share in (50, 95, 99, 99.9))
    print(f"{name}: {len(took):,} requests, {figures}, worst {max(took) * 1e3:.1f} ms")


def _check_stored(address: str, wanted: int) -> None:
    end, found = time.monotonic() + CATCH_UP_S, 0
    with psycopg.connect(address, autocommit=True) as connection:
        while time.monotonic() < end and found < wanted:
            row = connection.execute("SELECT count(*) FROM pointsman.record").fetchone()
            found = row[0] if row else 0
            time.sleep(0.2)
    print(f"stored: {found:,} of {wanted:,}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stall", type=float, default=30.0, help="seconds of each side of a round")
    parser.add_argument("--rate", type=int, default=100, help="requests per second")
    return parser.parse_args()


if __name__ == "__main__":
    main()
