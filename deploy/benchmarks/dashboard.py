"""How long pages take with many records, and what open tabs cost the data plane.

    python -m deploy.benchmarks.dashboard FOLDER [--rows 10000000] [--days 30] [--tabs 50] [--seconds 20]

Fills an SQLite store in FOLDER once (some fifteen minutes for ten million made-up rows) and uses it again. Starts one
simulated expert and `pointsman serve`, opens every page that the menu names, for each span of time, and prints medians.
Then requests come at a fixed rate with and without tabs that poll their live figures, in turn: the CPU of the process
for the tabs, and the requests' percentiles on both sides.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import secrets
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import psutil

from deploy.benchmarks.overhead import SIMULATION, _cpu_s, _free_port, _process, _wait_for
from deploy.benchmarks.store_stall import _load
from gateway.context import Attempt, RouteRecord
from gateway.stores.records import Batch
from gateway.stores.records.sqlite import SqliteRecords
from gateway.stores.records.tables import row_of
from tests.stores.samples import mixed

BATCH_ROWS = 2_000
RUNS = 5
SPANS = ("hour", "day", "week", "month")
POLL_S = 5.0


def main() -> None:
    """Fill, then measure and print."""
    arguments = _arguments()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    store = arguments.folder / f"{arguments.rows}-{arguments.days:g}.db"
    if not store.exists():
        _fill(store, arguments.rows, arguments.days)
    print(f"{arguments.rows:,} rows over {arguments.days:g} days, {store.stat().st_size / 2**30:.2f} GiB")
    os.environ["BENCH_ADMIN"] = token = secrets.token_urlsafe(24)
    sim_port, port, admin_port = _free_port(), _free_port(), _free_port()
    with tempfile.TemporaryDirectory() as folder, _process("-c", SIMULATION.format(port=sim_port)):
        config = Path(folder, "experts.yaml")
        expert = {"model": "sim/math", "upstreams": [f"http://127.0.0.1:{sim_port}"]}
        content = {
            "generalist": expert,
            "records": {"database": str(store), "keep_days": 3_000},
            "admin": {"port": admin_port, "token_env": "BENCH_ADMIN"},
        }
        config.write_text(json.dumps(content))
        _wait_for(f"http://127.0.0.1:{sim_port}/health")
        with _process("-m", "gateway.cli", "serve", "-c", str(config), "--port", str(port)) as gateway:
            _wait_for(f"http://127.0.0.1:{port}/health/ready")
            addresses = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}"
            asyncio.run(_measure(arguments, gateway, addresses, token))


async def _measure(
    arguments: argparse.Namespace, gateway: psutil.Process, addresses: tuple[str, str], token: str
) -> None:
    data, admin = addresses
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        answer = await http.post(f"{admin}/admin/login", data={"token": token}, headers={"origin": admin})
        assert answer.status == 200, answer.status
        pages = await _pages(http, admin)
        await _measure_pages(http, admin, pages)
        await _measure_tabs(arguments, http, gateway, data, [f"{admin}{page}" for page in pages])


async def _pages(http: aiohttp.ClientSession, admin: str) -> list[str]:
    async with http.get(f"{admin}/admin/", headers={"accept": "text/html"}) as answer:
        menu = (await answer.text()).partition('<nav class="menu"')[2].partition("</nav>")[0]
    return re.findall(r'href="([^"]+)"', menu)


async def _measure_pages(http: aiohttp.ClientSession, admin: str, pages: list[str]) -> None:
    print(f"{'page':<24}" + "".join(f"{span:>12}" for span in SPANS) + "   median ms (worst), KiB")
    for page in pages:
        cells = []
        for span in SPANS:
            times, size, status = [], 0, 0
            for _ in range(RUNS):
                began = time.perf_counter()
                async with http.get(f"{admin}{page}?span={span}", headers={"accept": "text/html"}) as answer:
                    size, status = len(await answer.read()), answer.status
                times.append((time.perf_counter() - began) * 1e3)
            mark = "" if status == 200 else f"!{status}"
            cells.append(f"{statistics.median(times):>6.0f} ({max(times):.0f}){mark}")
        print(f"{page:<24}" + "".join(f"{cell:>12}" for cell in cells) + f"   {size / 1024:.0f}")


async def _measure_tabs(
    arguments: argparse.Namespace, http: aiohttp.ClientSession, gateway: psutil.Process, data: str, pages: list[str]
) -> None:
    live = [address for page in pages if (address := await _live_of(http, page))]
    print(f"pages with live figures: {len(live)} of {len(pages)}")
    sides: dict[bool, list[float]] = {False: [], True: []}
    used: dict[bool, list[float]] = {False: [], True: []}
    for number in range(4):
        for with_tabs in (False, True) if number % 2 else (True, False):
            polling = [
                asyncio.create_task(_poll(http, live[tab % len(live)], tab / arguments.tabs * POLL_S))
                for tab in range(arguments.tabs if with_tabs else 0)
            ]
            before = _cpu_s(gateway)
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as clients:
                sides[with_tabs] += await _load(
                    clients, f"{data}/v1/chat/completions", arguments.rate, arguments.seconds
                )
            used[with_tabs].append((_cpu_s(gateway) - before) / arguments.seconds)
            for task in polling:
                task.cancel()
            await asyncio.gather(*polling, return_exceptions=True)
    extra = statistics.median(used[True]) - statistics.median(used[False])
    print(f"{arguments.tabs} tabs: {100 * extra:.2f} % of a core")
    for with_tabs, took in sides.items():
        cuts = statistics.quantiles(took, n=100)
        name = "with tabs" if with_tabs else "without"
        print(f"{name:<10} {len(took):,} requests, p50 {cuts[49] * 1e3:.2f} ms, p99 {cuts[98] * 1e3:.2f} ms")


async def _live_of(http: aiohttp.ClientSession, page: str) -> str:
    async with http.get(page, headers={"accept": "text/html"}) as answer:
        found = re.search(r'data-live="([^"]+)"', await answer.text())
    base = page.partition("/admin/")[0]
    return f"{base}{found[1]}" if found else ""


async def _poll(http: aiohttp.ClientSession, address: str, delay_s: float) -> None:
    etag = ""
    await asyncio.sleep(delay_s)
    while True:
        headers = {"if-none-match": etag} if etag else {}
        with suppress(aiohttp.ClientError):
            async with http.get(address, headers=headers) as answer:
                assert answer.status in (200, 304), answer.status
                etag = answer.headers.get("etag", "")
                await answer.read()
        await asyncio.sleep(POLL_S)


def _fill(path: Path, rows: int, days: float) -> None:
    scratch = path.with_suffix(".part")
    store, batch = SqliteRecords(str(scratch)), []
    tries = [Attempt("math", "http://math:8000", "ok", 200)]
    began = time.perf_counter()
    for record in _traffic(rows, days):
        batch.append(row_of(record, tries))
        if len(batch) == BATCH_ROWS:
            store.write(Batch(batch))
            batch = []
    store.write(Batch(batch))
    store.close()
    scratch.rename(path)
    print(f"filled at {rows / (time.perf_counter() - began):,.0f} rows/s")


def _traffic(rows: int, days: float) -> Iterator[RouteRecord]:
    base, end = mixed(20_000), datetime.now(UTC)
    step = timedelta(days=days) / rows
    for number in range(rows):
        moment = end - step * (rows - number)
        yield replace(base[number % len(base)], request_id=f"{number:012x}", timestamp=moment)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=float, default=30)
    parser.add_argument("--tabs", type=int, default=50)
    parser.add_argument("--rate", type=int, default=50, help="requests per second")
    parser.add_argument("--seconds", type=float, default=20)
    return parser.parse_args()


if __name__ == "__main__":
    main()
