"""The demo's made-up week and its simulated callers: they fit the configuration, and touch nobody's stores."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import pytest

from gateway.demo_history import OUTAGE_DAYS, SHIFT_DAYS, Past, made_up, write_history
from gateway.demo_site import VARIABLE, site_for
from gateway.settings import secret
from gateway.settings_file import load
from gateway.sim.callers import Callers, what_is_said
from gateway.stores.records.choosing import queries
from gateway.stores.records.queries import RecordFilter, RollupFilter
from tests.conftest import settings_for
from tests.gateway.reloading import StartTown
from tests.gateway.test_cli import POINTSMAN, write_config
from tests.harness import FittedScorer

UNTIL = datetime(2026, 5, 20, 12, tzinfo=UTC)
PAST = Past(UNTIL, days=7, per_day=300)
PROMPTS = {"a math problem": 5.0, "coding, please": 4.0, "is it math or sure=0.5 what": 1.0, "hello": 1.0}
EXPERTS: dict[str, Any] = {
    "generalist": {"model": "g", "upstreams": ["http://127.0.0.1:1"], "price": {"input": 1, "output": 2}},
    "math": {
        "model": "m",
        "domains": ["math"],
        "upstreams": ["http://127.0.0.1:2"],
        "price": {"input": 0.5, "output": 1},
    },
    "coding": {"model": "c", "domains": ["coding"], "upstreams": ["http://127.0.0.1:3"]},
}


def history(**sections: Any) -> list[Any]:
    return list(made_up(settings_for(EXPERTS, **sections), PROMPTS, PAST, FittedScorer()))


def test_made_up_week_fills_its_days_and_ends_before_now() -> None:
    moments = [record.timestamp for record, _ in history()]
    assert moments == sorted(moments)
    assert UNTIL - timedelta(days=7) <= moments[0]
    assert moments[-1] < UNTIL
    by_day = Counter(int((UNTIL - moment) / timedelta(days=1)) for moment in moments)
    assert sorted(by_day) == list(range(7))
    assert all(150 < count < 450 for count in by_day.values())
    by_night = sum(moment.hour < 6 for moment in moments)
    assert by_night < len(moments) / 6  # a quarter of the day


def test_made_up_requests_are_decided_as_the_policy_decides() -> None:
    for record, attempts in history():
        assert record.threshold is not None
        assert record.confidence is not None
        sure = record.confidence >= record.threshold
        assert (record.reason == "confident") == sure, record
        assert record.decided == (record.domain if sure and record.domain != "general" else "generalist")
        assert record.attempts == len(attempts)
        if record.chosen is not None:
            assert attempts[-1].expert == record.chosen
            assert record.input_tokens is not None
        assert 0 < record.overhead_s < record.duration_s
        assert (record.time_to_first_byte_s or 0) <= record.duration_s


def test_made_up_requests_have_their_price_or_say_why_not() -> None:
    found = [record for record, _ in history()]
    assert {record.unpriced for record in found if record.chosen == "coding"} == {"no_price"}
    for record in found:
        if record.chosen == "math":
            assert record.cost is not None
            assert record.saving == pytest.approx(record.baseline_cost - record.cost)


def test_made_up_week_has_an_outage_and_a_shift() -> None:
    since = UNTIL - timedelta(days=OUTAGE_DAYS)
    failed = [record for record, tries in history() if tries and tries[0].outcome == "upstream_unreachable"]
    assert failed
    assert all(since <= record.timestamp < since + timedelta(hours=1) for record in failed)
    assert {record.chosen for record in failed} <= {"generalist", "coding", None}
    late = UNTIL - timedelta(days=SHIFT_DAYS)
    unsure: Counter[bool] = Counter()
    total: Counter[bool] = Counter()
    for record, _ in history():
        total[record.timestamp >= late] += 1
        unsure[record.timestamp >= late] += record.reason == "low_confidence"
    assert unsure[True] / total[True] > 1.5 * unsure[False] / total[False]


def test_same_seed_makes_up_the_same_requests() -> None:
    first, second = ([(r.request_id, r.timestamp, r.chosen, r.output_tokens) for r, _ in history()] for _ in range(2))
    assert first == second


def test_written_week_can_be_asked_for(tmp_path: Path) -> None:
    settings = settings_for(EXPERTS, records={"database": str(tmp_path / "records.db")})
    written = write_history(settings, PROMPTS, PAST, FittedScorer())
    asked = queries(settings.records)
    assert sum(1 for _ in asked.every(RecordFilter())) == written
    until_s = int(UNTIL.timestamp())
    (whole,) = asked.totals(RollupFilter(until_s - 8 * 86_400, until_s))
    assert whole.sums["requests"] == written
    assert whole.sums["failovers"] > 0


def test_demo_adds_what_is_missing_and_nothing_else(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    folder = tmp_path / "demo"
    folder.mkdir()
    site = site_for(config, load(config), folder)
    assert site.may_be_filled
    assert site.settings.records.database == str(folder / "records.db")
    assert site.settings.admin.notice is not None
    assert "simulated" in site.settings.admin.notice
    assert secret(VARIABLE) == site.token
    assert site.source is not None
    assert site.source.path == folder / "experts.yaml"
    assert site.source.load() == site.settings


@pytest.mark.parametrize(
    ("sections", "filled"),
    [
        ({"records": {"database": "mine.db"}}, False),
        ({"key_store": {"database": "keys.db"}}, False),
        ({"feedback": {"database": "mine.db"}}, True),
        ({"admin": {"port": 1, "token_env": "T_MINE"}}, True),
    ],
)
def test_demo_fills_no_store_and_opens_no_door_of_the_configuration(
    tmp_path: Path, sections: dict[str, Any], filled: bool
) -> None:
    config = write_config(tmp_path, **sections)
    folder = tmp_path / "demo"
    folder.mkdir()
    own = load(config)
    site = site_for(config, own, folder)
    assert site.may_be_filled is filled
    for name in sections:
        assert getattr(site.settings, name) == getattr(own, name)
    assert (site.token is None) == ("admin" in sections)
    # Its stores are named by where the file is, so a copy elsewhere would mean others.
    assert (site.source is None) == any("database" in section for section in sections.values())


async def test_callers_show_a_gateway_all_it_sees(start_town: StartTown, tmp_path: Path) -> None:
    town = await start_town(feedback={"database": str(tmp_path / "feedback.db"), "per_minute": 1_000})
    async with aiohttp.ClientSession(town.gateway.url) as http:
        callers = Callers(http, random.Random(3), think_s=0)
        for _ in range(150):
            await callers.call()
    assert callers.sent == 150
    records = await town.gateway.recorder.wait_for(150)
    assert {"chat", "embeddings", "messages"} <= {record.endpoint for record in records}
    assert {200, 400, 404} <= {record.status for record in records}
    assert {True, False} == {record.stream for record in records}
    assert "pinned" in {record.reason for record in records}
    rated = await town.gateway.metric("pointsman_feedback_total")
    assert sum(rated.values()) > 3


def test_all_that_is_said_has_a_weight() -> None:
    said = what_is_said()
    assert len(said) > 60
    assert all(often > 0 for often in said.values())
    assert max(map(len, said)) < 200


@pytest.mark.slow
def test_demo_shows_a_dashboard_with_traffic_and_takes_its_stores_away(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    command = [*POINTSMAN, "demo", "-c", str(config), "--per-second", "20"]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert demo.stdout is not None
        said = ""
        while "Ctrl-C" not in said:
            line = demo.stdout.readline()
            assert line, demo.stderr.read() if demo.stderr else ""
            said += line
        address, token = re.search(r"Dashboard: (\S+)/admin/\s+Log in with (\S+)", said).groups()  # type: ignore[union-attr]
        with httpx2.Client(base_url=address, headers={"authorization": f"Bearer {token}"}, timeout=20) as http:
            until = time.monotonic() + 20
            live: list[Any] = []
            while not live and time.monotonic() < until:
                found = http.get("/admin/api/records", params={"limit": 50})
                rows = found.json()["records"] if found.status_code == 200 else []
                live = [row for row in rows if not row["id"].startswith("made-up-")]
                time.sleep(0.1)
            assert live
            wanted = {"limit": 200, "until_us": live[-1]["at_us"]}
            answer = http.get("/admin/api/records", params=wanted)
            assert answer.status_code == 200, answer.text
            past = answer.json()["records"]
            assert len([row for row in past if row["id"].startswith("made-up-")]) > 150
            shown = http.get("/admin/login", headers={"accept": "text/html"}).text
        assert "all traffic here is simulated" in shown
        demo.send_signal(signal.SIGINT)
        _, errors = demo.communicate(timeout=25)
        assert (demo.returncode, errors) == (0, "")
    finally:
        demo.terminate()  # not killed: its children would stay
        demo.communicate(timeout=25)
    assert [path.name for path in tmp_path.iterdir()] == ["experts.yaml"]


@pytest.mark.slow
def test_demo_that_is_ended_while_it_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    (tmp_path / "tmp").mkdir()
    env = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    command = [*POINTSMAN, "demo", "-c", str(config)]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True, env=env)
    assert demo.stdout is not None
    assert "Making up" in demo.stdout.readline()
    demo.terminate()
    demo.communicate(timeout=25)  # ends only when its children do, who have the same pipe
    assert demo.returncode == 128 + signal.SIGTERM
    assert list((tmp_path / "tmp").iterdir()) == []
