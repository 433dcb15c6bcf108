"""Which prompts are kept, of real requests through the real gateway; and that keeping them never holds up one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.prompt_keeping import QUEUE_ROWS, PromptKeeping
from gateway.settings.records import RecordSettings
from gateway.stores.prompts.contract import Sample, Why
from gateway.stores.records.contract import microseconds
from tests.conftest import Town
from tests.waiting import until

StartTown = Callable[..., Awaitable[Town]]
SECRET = "the patient's name is Quux"


def records(tmp_path: Path, **prompts: Any) -> dict[str, Any]:
    chosen = {"enabled": True, "share": 0, "low_margin": 0, "out_of_domain": False, "thumbs_down": False, **prompts}
    return {"database": str(tmp_path / "records.db"), "prompts": chosen}


def keeping_of(town: Town) -> PromptKeeping:
    found: PromptKeeping = town.gateway.app.state.gateway.prompts
    return found


async def kept(town: Town, *prompts: str, model: str = "auto") -> list[Sample]:
    """Have prompts answered, wait until what is kept of them is written, and return it, the first one first."""
    before = len(town.gateway.recorder.records)
    for prompt in prompts:
        assert (await town.gateway.chat(prompt, model=model)).status_code == 200
    await town.gateway.recorder.wait_for(before + len(prompts))
    keeping = keeping_of(town)
    await until(lambda: keeping.state().queued == 0)
    samples = keeping.samples.waiting(100)
    return sorted(samples, key=lambda sample: sample.key)


def holding(folder: Path, text: bytes, among: str = ".prompts") -> list[str]:
    """The names of files that hold a text."""
    return [path.name for path in folder.iterdir() if among in path.name and text in path.read_bytes()]


async def test_nothing_is_kept_unless_it_is_asked_for(start_town: StartTown, tmp_path: Path) -> None:
    town = await start_town(records={"database": str(tmp_path / "records.db")})
    await town.gateway.chat("math sure=0.3 " + SECRET)
    await town.gateway.recorder.wait_for(1)
    assert keeping_of(town).state().queued == keeping_of(town).state().written == 0
    assert not holding(tmp_path, b"")
    off = await start_town()
    assert off.gateway.app.state.gateway.prompts is None


async def test_close_calls_are_kept_with_what_was_decided(start_town: StartTown, tmp_path: Path) -> None:
    town = await start_town(records=records(tmp_path, low_margin=0.2))
    (sample,) = await kept(town, "math sure=0.3", "math sure=0.95")
    record = town.gateway.recorder.records[0]
    assert (sample.id, sample.text) == (record.request_id, "math sure=0.3")
    assert (sample.predicted, sample.chosen, sample.reason) == ("math", record.chosen, record.reason)
    assert sample.confidence == pytest.approx(0.3, abs=1e-3)
    assert sample.why == (Why.LOW_MARGIN,)


async def test_strange_ones_and_chance_are_kept(start_town: StartTown, tmp_path: Path) -> None:
    changed = records(tmp_path, out_of_domain=True)
    town = await start_town(records=changed, router={"maximum_out_of_domain": 0.9, "deadline_s": 5})
    (sample,) = await kept(town, "math strange=0.95", "math strange=0.9")
    assert sample.why == (Why.OUT_OF_DOMAIN,)
    assert sample.out_of_domain == pytest.approx(0.95)
    folder = tmp_path / "all"
    folder.mkdir()
    everything = await start_town(records=records(folder, share=1))
    assert [one.why for one in await kept(everything, "math", "hello")] == [(Why.RANDOM,), (Why.RANDOM,)]


async def test_who_names_an_expert_and_keys_that_must_not_be_are_not_kept(
    start_town: StartTown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = await start_town(records=records(tmp_path, share=1))
    assert await kept(town, SECRET, model="math") == []
    monkeypatch.setenv("T_KEY", "a-key-of-sixteen-letters")
    folder = tmp_path / "never"
    folder.mkdir()
    town = await start_town(records=records(folder, share=1, never=["ward"]), keys={"ward": {"key_env": "T_KEY"}})
    town.gateway.http.headers["authorization"] = "Bearer a-key-of-sixteen-letters"
    assert await kept(town, SECRET) == []


async def test_bad_rating_keeps_the_prompt_and_a_good_one_does_not(start_town: StartTown, tmp_path: Path) -> None:
    feedback = {"database": str(tmp_path / "feedback.db")}
    town = await start_town(records=records(tmp_path, thumbs_down=True), feedback=feedback)
    assert await kept(town, "math one", "math two", "math three") == []
    first, second, _ = (record.request_id for record in town.gateway.recorder.records)
    for id, rating in ((first, "down"), (second, "up"), (first, "down")):
        await town.gateway.http.post("/v1/feedback", json={"id": id, "rating": rating})
    await until(lambda: keeping_of(town).state().written == 1)
    (sample,) = keeping_of(town).samples.waiting(9)
    assert (sample.id, sample.text, sample.why) == (first, "math one", (Why.THUMBS_DOWN,))


async def test_only_the_last_prompts_can_be_kept_by_a_rating(start_town: StartTown, tmp_path: Path) -> None:
    feedback = {"database": str(tmp_path / "feedback.db")}
    town = await start_town(records=records(tmp_path, thumbs_down=True, remember=1), feedback=feedback)
    await kept(town, "math one", "math two")
    for record in town.gateway.recorder.records:
        await town.gateway.http.post("/v1/feedback", json={"id": record.request_id, "rating": "down"})
    await until(lambda: keeping_of(town).state().written == 1)
    assert [one.text for one in keeping_of(town).samples.waiting(9)] == ["math two"]


async def test_flood_is_kept_to_so_many_a_minute_for_each_reason(start_town: StartTown, tmp_path: Path) -> None:
    town = await start_town(records=records(tmp_path, share=1, low_margin=0.2, per_minute=3))
    found = await kept(town, *["math"] * 5, *["math sure=0.3"] * 2)
    assert [one.why for one in found] == [(Why.RANDOM,)] * 3 + [(Why.LOW_MARGIN,)] * 2


async def test_long_and_odd_text_is_cut_and_cleaned(start_town: StartTown, tmp_path: Path) -> None:
    town = await start_town(records=records(tmp_path, share=1, longest_characters=100))
    found = await kept(town, "math \0 " + "x" * 900, "math <script>alert(1)</script>")
    assert len(found[0].text) == 100
    assert "\0" not in found[0].text
    assert found[1].text == "math <script>alert(1)</script>"


async def test_prompt_stands_in_no_record_and_no_log(
    start_town: StartTown, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    town = await start_town(records=records(tmp_path, share=1), server={"log_requests": True})
    assert len(await kept(town, "math " + SECRET)) == 1
    assert holding(tmp_path, SECRET.encode(), among="")
    assert all(".prompts" in name for name in holding(tmp_path, SECRET.encode(), among=""))
    captured = capsys.readouterr()
    assert SECRET not in captured.out + captured.err


async def test_file_that_is_no_database_costs_no_request(start_town: StartTown, tmp_path: Path) -> None:
    (tmp_path / "records.db.prompts").write_text("no database at all, as any fool can see " * 100)
    town = await start_town(records=records(tmp_path, share=1))
    for _ in range(3):
        assert (await town.gateway.chat("math")).status_code == 200
    await until(lambda: keeping_of(town).state().failing)
    await until(lambda: keeping_of(town).state().dropped == 3)


async def test_queue_is_bounded_and_what_waits_is_written_at_the_end(tmp_path: Path) -> None:
    settings = RecordSettings.model_validate(records(tmp_path, share=1))
    keeping = PromptKeeping(settings)  # its thread does not run yet
    now_us = microseconds(datetime.now(UTC))
    for number in range(QUEUE_ROWS + 5):
        keeping._put(
            Sample(now_us + number, f"r-{number}", "text", "math", 0.5, 0.1, 0.1, "math", "confident", (Why.RANDOM,))
        )
    assert (keeping.state().queued, keeping.state().dropped) == (QUEUE_ROWS, 5)
    async with keeping:
        pass
    assert keeping.samples.counts().total == QUEUE_ROWS


def test_prompts_without_a_store_are_refused() -> None:
    with pytest.raises(ValidationError, match="only be kept where records are"):
        RecordSettings.model_validate({"prompts": {"enabled": True}})
