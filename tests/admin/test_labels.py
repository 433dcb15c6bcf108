"""Labels and kept prompts through the admin API: who may, what is written down, and an export that training reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import router
from gateway.stores.records import RecordsUnavailable
from router.prompts import read_prompts
from tests.fixtures_admin import VIEWER, Admin, StartAdmin, code_of
from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture
async def keeper(start_admin: StartAdmin) -> Admin:
    """A gateway that keeps every prompt."""
    return await start_admin(records={"prompts": {"enabled": True, "share": 1, "low_margin": 0.2}})


async def filled(admin: Admin, *prompts: str) -> list[dict[str, Any]]:
    """Have prompts answered and return them as they are kept, the first one first."""
    for prompt in prompts:
        await admin.town.gateway.chat(prompt)
    keeping = admin.gateway.prompts
    assert keeping is not None
    await until(lambda: keeping.state().written >= len(prompts))
    found = (await admin.json("/prompts"))["prompts"]
    assert len(found) == len(prompts)
    return list(reversed(found))


def key_of(prompt: dict[str, Any]) -> dict[str, Any]:
    return {"at_us": prompt["at_us"], "id": prompt["id"]}


async def events(admin: Admin) -> list[dict[str, Any]]:
    records = admin.gateway.records
    assert records is not None
    await until(lambda: records.state().queued == 0)
    return [event for event in (await admin.json("/events"))["events"] if event["kind"] == "admin"]


async def actions(admin: Admin, count: int) -> list[str]:
    found: list[str] = []
    for _ in range(100):
        found = [event["detail"]["action"] for event in await events(admin)]
        if len(found) >= count:
            break
    return found


async def test_label_is_given_replaced_and_taken_back(keeper: Admin) -> None:
    first, second = await filled(keeper, "math one", "hello two")
    given = await keeper.post("/labels", {**key_of(first), "label": "coding"})
    assert given.status_code == 201
    body = given.json()
    assert (body["predicted"], body["label"], body["agrees"], body["random"]) == ("math", "coding", False, True)
    await keeper.post("/labels", {**key_of(first), "label": "math"})
    await keeper.post("/labels", {**key_of(second), "label": "health"})
    assert [one["label"] for one in (await keeper.json("/labels"))["labels"]] == ["health", "math"]
    assert (await keeper.json("/prompts"))["prompts"] == []
    agreement = (await keeper.json("/labels/agreement"))["agreement"]
    assert {(one["domain"], one["count"], one["agreed"]) for one in agreement} == {("general", 1, 0), ("math", 1, 1)}
    assert (await keeper.post("/labels/undo")).json()["undone"]["label"] == "health"
    assert (await keeper.post("/labels/undo")).json()["undone"]["label"] == "math"
    assert (await keeper.post("/labels/undo")).json() == {"undone": None}
    assert len((await keeper.json("/prompts"))["prompts"]) == 2


async def test_request_without_a_kept_prompt_can_be_labelled_by_its_record(admin: Admin) -> None:
    await admin.town.gateway.chat("math")
    records = admin.gateway.records
    assert records is not None
    await until(lambda: records.state().written == 1)
    (row,) = (await admin.json("/records"))["records"]
    given = await admin.post("/labels", {"at_us": row["at_us"], "id": row["id"], "label": "health"})
    assert given.status_code == 201, given.text
    assert (given.json()["predicted"], given.json()["random"]) == ("math", False)
    assert given.json()["confidence"] == pytest.approx(row["confidence"], abs=1e-3)


async def test_wrong_labels_are_refused(keeper: Admin) -> None:
    (first,) = await filled(keeper, "math")
    wrong = await keeper.post("/labels", {**key_of(first), "label": "astrology"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "label")
    unknown = await keeper.post("/labels", {"at_us": 5, "id": "nobody", "label": "math"})
    assert (unknown.status_code, code_of(unknown)) == (404, "record_not_found")
    for body in ({"at_us": -1}, {"id": "a b"}, {"at_us": 2**63}, {"label": None}, {"other": 1}):
        answer = await keeper.post("/labels", {**key_of(first), "label": "math", **body})
        assert answer.status_code == 400, body
    assert (await keeper.json("/labels"))["labels"] == []


async def test_viewer_sees_labels_and_no_prompt(keeper: Admin) -> None:
    (first,) = await filled(keeper, "math and a secret")
    await keeper.post("/labels", {**key_of(first), "label": "math"})
    for path in ("/labels", "/labels/agreement"):
        answer = await keeper.get(path, VIEWER)
        assert answer.status_code == 200
        assert "secret" not in answer.text
    refused = [
        await keeper.get("/prompts", VIEWER),
        await keeper.get(f"/prompts/{first['id']}", VIEWER, at_us=first["at_us"]),
        await keeper.get("/labels/export", VIEWER),
        await keeper.post("/labels", {**key_of(first), "label": "coding"}, VIEWER),
        await keeper.post("/labels/undo", token=VIEWER),
        await keeper.post("/prompts/delete", token=VIEWER),
        await keeper.post("/playground", {"messages": [{"role": "user", "content": "math"}]}, VIEWER),
    ]
    assert [(answer.status_code, code_of(answer)) for answer in refused] == [(403, "role_forbidden")] * len(refused)
    assert (await keeper.json("/labels"))["labels"][0]["label"] == "math"


async def test_every_look_at_a_prompt_is_written_down_without_the_prompt(keeper: Admin) -> None:
    (first,) = await filled(keeper, "math and a secret")
    one = await keeper.json(f"/prompts/{first['id']}", at_us=first["at_us"])
    assert one["text"] == "math and a secret"
    await keeper.post("/labels", {**key_of(first), "label": "math"})
    await keeper.get("/labels/export")
    await keeper.post("/prompts/delete")
    assert sorted(await actions(keeper, 5)) == [
        "label",
        "labels_exported",
        "prompt_seen",
        "prompt_seen",
        "prompts_deleted",
    ]
    assert "secret" not in str(await events(keeper))
    gone = await keeper.get(f"/prompts/{first['id']}", at_us=first["at_us"])
    assert (gone.status_code, code_of(gone)) == (404, "prompt_not_found")
    assert (await keeper.get("/labels/export")).text == ""


async def test_ten_labels_go_out_and_training_reads_them(keeper: Admin, tmp_path: Path) -> None:
    words = ("amber harbour", "basil kettle", "cedar gravel", "delta jungle", "ember fjord")
    prompts = [f"{one} {domain} and {one[::-1]}" for one in words for domain in ("math", "coding")]
    for number, prompt in enumerate(await filled(keeper, *prompts)):
        label = "health" if number < 2 else prompt["predicted"]
        assert (await keeper.post("/labels", {**key_of(prompt), "label": label})).status_code == 201
    answer = await keeper.get("/labels/export")
    assert answer.headers["content-disposition"].startswith("attachment")
    file = tmp_path / "labels.jsonl"
    file.write_bytes(answer.content)
    read = read_prompts([file])
    assert sorted((one.text, one.label) for one in read) == sorted(
        (text, "health" if n < 2 else ("math", "coding")[n % 2]) for n, text in enumerate(prompts)
    )
    assert {one.source for one in read} == {"review"}
    built = router.build_data([file], tmp_path / "built.jsonl", use_corpus=False)
    assert built is not None
    assert (tmp_path / "built.jsonl").read_text().count("harbour") > 0


async def test_store_that_is_down_is_said(keeper: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object) -> None:
        raise RecordsUnavailable("SQLITE_BUSY")

    assert keeper.gateway.prompts is not None
    monkeypatch.setattr(keeper.gateway.prompts, "labels", type("Down", (), {"newest": down, "with_text": down})())
    answer = await keeper.get("/labels")
    assert (answer.status_code, code_of(answer)) == (503, "records_unavailable")


async def test_without_records_there_are_no_labels(start_admin: StartAdmin) -> None:
    admin = await start_admin(records=False)
    for path in ("/labels", "/labels/agreement", "/labels/export", "/prompts"):
        answer = await admin.get(path)
        assert (answer.status_code, code_of(answer)) == (404, "records_disabled")
