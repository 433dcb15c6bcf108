"""Starts a gateway as `pointsman serve` does, with simulated experts and requests of all kinds. Asserts nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from gateway.sim.said import FOREIGN, ODD, PROMPTS
from tests.gateway.test_cli import free_port

POINTSMAN = (sys.executable, "-m", "gateway.cli")
START_S = 40.0
STOP_S = 20.0
TOKENS = {"T_ADMIN": "an-admin-token-of-tests", "T_VIEWER": "a-viewer-token-of-tests"}
CALLER = "a-callers-key-of-tests"
# What must stay text wherever it is shown. Whatever runs sets `window.hacked`.
HOSTILE = (
    "<script>window.hacked=1</script>",
    '"><img src=x onerror="window.hacked=1">',
    "' autofocus onfocus='window.hacked=1' x='",
    "</script><svg/onload=window.hacked=1>",
    "</title></textarea></style><script>window.hacked=1</script>",
    "javascript:window.hacked=1//",
    "{{ 700001 * 13 }}${700001 * 13}<b hx-get=/admin/api/system hx-trigger=load>b</b>",
    "\u202etxt.exe\u2066 \U0001f468\u200d\U0001f469\u200d\U0001f467 \u0000end",
)


@dataclass(frozen=True, slots=True)
class Site:
    """A running gateway with its dashboard.

    Attributes:
        url: of callers.
        admin: of the dashboard, without `base`.
        base: the sub-path it believes to be under.
    """

    url: str
    admin: str
    base: str = ""

    def page(self, path: str = "") -> str:
        return f"{self.admin}{self.base}/admin/{path}"

    def api(self, path: str) -> Any:
        with httpx2.Client(base_url=self.admin, headers=bearer(TOKENS["T_ADMIN"])) as http:
            answer = http.get(f"/admin/api/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@contextmanager
def running(folder: Path, *, base: str = "") -> Iterator[Site]:
    """Run experts and gateway, each a process of its own, until the end of the block."""
    site = Site(f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}", base)
    config = folder / "experts.yaml"
    config.write_text(json.dumps(_config(site, folder)))
    env = {**os.environ, **TOKENS, "T_CALLER": CALLER}
    with ExitStack() as stack:
        for command in ("sim", "serve"):
            stack.enter_context(
                _process([*POINTSMAN, command, "--config", str(config)], folder / f"{command}.log", env)
            )
        _wait_for(f"{site.url}/health/ready", folder / "serve.log")
        _wait_for(f"{site.admin}/admin/login", folder / "serve.log")
        yield site


def _config(site: Site, folder: Path) -> dict[str, Any]:
    def expert(model: str, **more: Any) -> dict[str, Any]:
        address = f"http://127.0.0.1:{free_port()}"
        return {"model": model, "upstreams": [address], "price": {"input": 0.2, "output": 0.4}, **more}

    domains = ("math", "coding", "health")
    return {
        "generalist": expert(f"sim/{HOSTILE[1]}"),
        "experts": {name: expert(f"sim/{name}-{HOSTILE[0]}", domains=[name]) for name in domains},
        "server": {"port": _port(site.url), "log_requests": False, "drain_grace_s": 0},
        "concurrency": {"requests": 4},
        "router": {"deadline_s": 5},
        "health": {"interval_s": 1},
        "admin": {
            **{"port": _port(site.admin), "token_env": "T_ADMIN", "viewer_token_env": "T_VIEWER"},
            **{"notice": f"Simulated. {HOSTILE[0]}", "base_path": site.base},
        },
        "keys": {"caller": {"key_env": "T_CALLER", "daily_budget": 5, "concurrent_requests": 12, "tags": ["team:a"]}},
        "key_store": {"database": "keys.db"},
        "records": {"database": "records.db", "prompts": {"enabled": True, "share": 1}},
        "feedback": {"database": "feedback.db", "per_minute": 10_000},
    }


def fill(site: Site) -> None:
    """Send some hundred requests: all domains, streams, mistakes, hostile text, ratings, more at once than allowed."""
    prompts = [*(prompt for some in PROMPTS.values() for prompt in some), *FOREIGN, *ODD]
    with httpx2.Client(base_url=site.url, headers=bearer(CALLER), timeout=30) as http:
        with ThreadPoolExecutor(48) as pool:  # the key takes 12 at once, a server 4
            list(pool.map(lambda _: _chat(http, "hello", stream=True), range(48)))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: _chat(http, prompts[n], stream=n % 3 == 0, rate=n % 5), range(len(prompts))))
            list(pool.map(lambda text: _hostile(http, text), HOSTILE))
        for fault in ("status;code=500", "status;code=400", "cut;events=2"):
            for stream in (False, True):
                _chat(http, "Solve 3x + 5 = 20.", stream=stream, fault=fault)
        http.post("/v1/chat/completions", content=b"{", headers={"content-type": "application/json"})
        httpx2.post(f"{site.url}/v1/chat/completions", json={}, headers=bearer("nobody-s-key"))
    with httpx2.Client(base_url=site.admin, headers=bearer(TOKENS["T_ADMIN"])) as http:
        for name in ("made-here", HOSTILE[1]):
            http.post("/admin/api/keys", json={"name": name, "terms": {"daily_budget": 1.5}})
    until = time.monotonic() + START_S
    while site.api("overview")["records"]["queued"] and time.monotonic() < until:
        time.sleep(0.1)


def _chat(
    http: httpx2.Client, prompt: str, *, stream: bool, rate: int = 1, fault: str = "", model: str = "auto"
) -> None:
    body: dict[str, Any] = {"model": model, "stream": stream, "max_tokens": 32}
    body["messages"] = [{"role": "user", "content": prompt}]
    if fault:
        body["sim_fault"] = fault
    try:
        answer = http.post("/v1/chat/completions", json=body)
    except httpx2.HTTPError:  # a stream that was cut
        return
    if rate == 0 and answer.status_code == 200:
        rating = {"id": answer.headers["x-request-id"], "rating": "down", "comment": HOSTILE[1], "domain": "health"}
        http.post("/v1/feedback", json=rating)


def _hostile(http: httpx2.Client, text: str) -> None:
    """Put a hostile text wherever a caller can."""
    plain = "".join(c for c in text if "\x21" <= c <= "\x7e") or "x"
    headers = {"user-agent": plain, "x-session-id": plain[:200], "x-request-id": plain, "referer": plain}
    said = [{"role": "user", "content": f"Solve this: {text}"}]
    http.post("/v1/chat/completions", json={"model": "auto", "messages": said}, headers=headers)
    http.post("/v1/chat/completions", json={"model": text, "messages": said}, headers=headers)
    http.post("/v1/chat/completions", json={"model": "auto", "messages": said, text: text}, headers=headers)
    http.post("/v1/chat/completions", json={"model": "auto", "messages": said}, headers={"x-pointsman-policy": plain})
    _chat(http, text, stream=False, rate=0)


@contextmanager
def _process(command: list[str], log: Path, env: Mapping[str, str]) -> Iterator[None]:
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=env, cwd=log.parent, start_new_session=True
        )
    try:
        yield
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _wait_for(url: str, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        try:
            if httpx2.get(url).status_code == 200:
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"{url} does not answer\n{log.read_text()[-3000:]}")


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])
