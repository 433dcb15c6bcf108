"""Throws mutated requests at a gateway, byte by byte or at once, and looks at what it says and what is left (C17).

    python -m tests.faults.fuzz --seconds 600 [--schemathesis PATH]

Starts simulated experts and a gateway of its own. With the path of Schemathesis' command half of the time goes to that,
against the gateway's own OpenAPI document. Ends with 1 when anything was wrong, and prints what and the seed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from gateway.types import Endpoint
from tests.conftest import Town
from tests.faults.raw import JSON, Connection, body_of, chunked, open_town, request

MOST_AT_ONCE = 16
PATIENCE_S = 0.3
TIMEOUTS = {"head_read_s": 0.2, "body_read_s": 0.5, "body_pause_s": 0.2, "keep_alive_s": 0.3, "client_write_s": 0.5}
SEEDS = (
    *(
        request(body_of(endpoint, stream=stream), path=endpoint.path)
        for endpoint in Endpoint
        for stream in (False, True)
    ),
    *(chunked(body_of(endpoint), path=endpoint.path) for endpoint in (Endpoint.CHAT, Endpoint.MESSAGES)),
    request(body_of(Endpoint.CHAT), path="/v1/route"),
    request(b'{"id":"a","rating":"up"}', path="/v1/feedback"),
    request(body_of(Endpoint.CHAT), headers=(*JSON, ("expect", "100-continue"), ("x-session-id", "a"))),
    request(body_of(Endpoint.CHAT)) * 3,
    *(
        request(method="GET", path=path)
        for path in ("/v1/models", "/v1/models/math", "/health/ready", "/metrics", "/docs")
    ),
)
TOKENS = (
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\0",
        b":",
        b" ",
        b"\t",
        b"\xff",
        b"%2e%2e/",
        b"//",
        b"/..",
        b"?",
        b"#",
        b"http://x/",
    ),
    *(b"transfer-encoding: chunked\r\n", b"content-length: 5\r\n", b"content-length: 99999999999\r\n", b"host: x\r\n"),
    *(b"connection: close\r\n", b"upgrade: h2c\r\n", b"expect: 100-continue\r\n", b"x_request_id: a\r\n", b"te: x\r\n"),
    *(b"0\r\n\r\n", b"ffffffff\r\n", b"5;x=y\r\n", b"HTTP/1.0", b"HTTP/2.0", b"GET / HTTP/1.1\r\n", b"OPTIONS *"),
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b"\\",
        b"\\u0000",
        b"\\ud800",
        b"NaN",
        b"1e999",
        b"null",
        b"true",
        b"-1",
        b"[" * 2_000,
    ),
    *(
        b'"priority":1,',
        b'"n":1e9,',
        b'"stream":true,',
        b'"tools":[],',
        b'"model":"auto/",',
        b'"stop":{},',
        b"a" * 70_000,
    ),
)
_STATUS = re.compile(rb"^HTTP/1\.1 (\d{3}) ", re.MULTILINE)
_LEAK = re.compile(rb"Traceback|\.py\"|site-packages|aiohttp|uvicorn")


@dataclass
class Findings:
    """What came of it: statuses by count, and what should never come."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def mutated(random: Random) -> bytes:
    """A valid request with a few things wrong."""
    raw = bytearray(random.choice(SEEDS))
    for _ in range(random.choice((0, 1, 1, 1, 2, 3, 8))):
        place = random.randrange(len(raw) + 1)
        end = min(len(raw), place + random.choice((1, 2, 8, 40)))
        kind = random.randrange(5)
        if kind == 0 and place < len(raw):
            raw[place] ^= 1 << random.randrange(8)
        elif kind == 1:
            del raw[place:end]
        elif kind == 2:
            raw[place:place] = raw[place:end] * random.choice((1, 2, 50))
        elif kind == 3:
            raw[place:place] = random.choice(TOKENS)
        else:
            raw[place:end] = random.choice(TOKENS)
    return bytes(raw)


async def throw(url: str, random: Random, findings: Findings) -> None:
    """Send one request as a bad client does, and read what comes."""
    raw, answer = mutated(random), b""
    cuts = sorted(random.randrange(len(raw) + 1) for _ in range(random.choice((0, 0, 0, 1, 3, 30))))
    try:
        async with Connection(url) as client:
            for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
                await client.send(raw[start:end])
                if cuts:
                    await asyncio.sleep(random.choice((0, 0, 0.001)))
            if random.random() < 0.2:
                client.writer.write_eof()
            elif random.random() < 0.1:
                client.leave(reset=random.random() < 0.5)
            async with asyncio.timeout(PATIENCE_S):
                while piece := await client.reader.read(65_536):
                    answer += piece
    except (OSError, TimeoutError, RuntimeError):
        pass  # closed on us, still open, or gone by our own doing
    statuses = [int(status) for status in _STATUS.findall(answer)]
    findings.statuses.update(statuses)
    if any(status >= 500 for status in statuses) or _LEAK.search(answer):
        findings.wrong.append(f"{raw[:2_000]!r} -> {answer[:600]!r}")


async def storm(town: Town, seed: int, seconds: float, most: int | None = None) -> Findings:
    """Throw for so long, or so many, and look at what is left of the gateway."""
    random, findings, ends = Random(seed), Findings(), time.monotonic() + seconds
    seeds = (random.getrandbits(64) for _ in (itertools.count() if most is None else range(most)))

    async def client() -> None:
        for own in seeds:
            if time.monotonic() > ends:
                return
            await throw(town.gateway.url, Random(own), findings)

    async with asyncio.TaskGroup() as group:
        for _ in range(MOST_AT_ONCE):
            group.create_task(client())
    await asyncio.sleep(max(TIMEOUTS.values()) + 0.3)
    reply = await town.gateway.chat("math")
    if reply.status_code != 200:
        findings.wrong.append(f"afterwards a plain request got {reply.status_code}")
    for metric, most_left in (("pointsman_upstream_inflight", 0), ("pointsman_connections", 2)):
        left = max((await town.gateway.metric(metric)).values())
        if left > most_left:
            findings.wrong.append(f"{metric} is {left} afterwards")
    findings.wrong += [str(record) for record in town.gateway.recorder.records if record.status >= 500]
    return findings


async def _explored(url: str, command: str, seconds: float, seed: int) -> int:
    """Let Schemathesis make requests from the gateway's own document; return its exit status."""
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    with tempfile.TemporaryDirectory() as folder:  # it keeps what it found where it runs
        process = await asyncio.create_subprocess_exec(
            *(
                command,
                "run",
                f"{url}/openapi.json",
                "--checks",
                checks,
                "--include-path-regex",
                "^/(v1|health|metrics)",
            ),
            *("--max-time", str(max(1, int(seconds))), "--seed", str(seed), "--continue-on-failure", "--no-shrink"),
            *("--generation-database", "none", "--suppress-health-check", "all", "--warnings", "off", "--no-color"),
            cwd=folder,
        )
        return await process.wait()


async def _main(seconds: float, seed: int, schemathesis: str | None) -> int:
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a line for each request that is not HTTP
    async with open_town(timeouts=TIMEOUTS) as town:
        findings = await storm(town, seed, seconds / 2 if schemathesis else seconds)
    print(f"mutated requests, seed {seed}: {dict(sorted(findings.statuses.items()))}")
    for found in findings.wrong:
        print("WRONG", found)
    if not schemathesis:
        return int(bool(findings.wrong))
    async with open_town() as town:
        status = await _explored(town.gateway.url, schemathesis, seconds / 2, seed)
    return int(bool(findings.wrong) or status != 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--schemathesis", type=lambda path: str(Path(path).absolute()))
    options = parser.parse_args()
    sys.exit(asyncio.run(_main(options.seconds, options.seed, options.schemathesis)))
