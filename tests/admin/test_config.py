"""Changing the configuration through the admin API: checked, atomic, audited (OPERATIONS D5, D9, H12, H21)."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.admin.config_file import replace_file
from gateway.stores.config_history import KEEP, ConfigHistory, HistoryUnavailable
from tests.admin.conftest import ADMIN, VIEWER, Admin, StartAdmin, code_of
from tests.waiting import until

pytestmark = pytest.mark.slow


async def file_of(admin: Admin) -> dict[str, Any]:
    found: dict[str, Any] = await admin.json("/config/file")
    return found


def changed(text: str, **sections: Any) -> str:
    return "# changed by a test\n" + yaml.safe_dump({**yaml.safe_load(text), **sections})


async def apply(admin: Admin, text: str, base: str | None = None) -> Any:
    base = (await file_of(admin))["file_version"] if base is None else base
    return await admin.post("/config/apply", {"yaml": text, "base_version": base})


async def test_applied_change_counts_is_in_the_file_and_in_the_history(admin: Admin) -> None:
    before = await file_of(admin)
    os.chmod(admin.config.path, 0o640)
    text = changed(before["yaml"], router={"thresholds": {"math": 0.99}})
    answer = await apply(admin, text)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outcome"] == "applied"
    assert answer.json()["version"] == admin.gateway.catalog.version
    assert admin.config.path.read_text() == text
    assert stat.S_IMODE(admin.config.path.stat().st_mode) == 0o640
    assert (await admin.town.gateway.chat("math")).headers["x-pointsman-reason"] == "low_confidence"
    kept = (await admin.json("/config/history"))["history"]
    assert [(entry["outcome"], entry["who"]) for entry in kept] == [("applied", "admin"), ("found", "")]
    assert (await admin.json("/config/history/1"))["text"] == before["yaml"]
    shown = await admin.json("/config")
    assert shown["json"]["router"]["thresholds"] == {"math": 0.99}
    assert yaml.safe_load(shown["yaml"]) == shown["json"]
    assert sorted(os.listdir(admin.config.path.parent)) == sorted(set(os.listdir(admin.config.path.parent)))
    assert not [name for name in os.listdir(admin.config.path.parent) if name.startswith(".")]


@pytest.mark.row("D9")
async def test_rollback_brings_back_the_file_as_it_was_and_is_audited(admin: Admin) -> None:
    before = await file_of(admin)
    await apply(admin, changed(before["yaml"], router={"thresholds": {"math": 0.99}}))
    answer = await admin.post("/config/rollback", {"number": 1})
    assert answer.json()["outcome"] == "applied", answer.text
    assert admin.config.path.read_text() == before["yaml"]
    assert (await admin.town.gateway.chat("math")).headers["x-pointsman-expert"] == "math"
    assert [entry["number"] for entry in (await admin.json("/config/history"))["history"]] == [3, 2, 1]

    queries = admin.plane.queries

    def audited() -> list[Any]:
        return [event["detail"] for event in queries.events() if event["kind"] == "admin"]

    await until(lambda: len(audited()) == 2)
    found = {event["action"]: event for event in audited()}
    assert found["config_apply"]["who"] == found["config_rollback"]["who"] == "admin"
    assert (found["config_rollback"]["outcome"], found["config_rollback"]["number"]) == ("applied", 1)
    assert (await admin.post("/config/rollback", {"number": 99})).status_code == 404


WRONG = {
    "bad YAML": ("generalist: [", 1, ""),
    "unknown key": ("polcy: {}\ngeneralist: {model: a, upstreams: ['http://a']}", 1, "polcy"),
    "threshold": ("generalist: {model: a, upstreams: ['http://a']}\nrouter:\n  minimum_confidence: 2", 3, ""),
    "tag": ("generalist: !!python/object/apply:os.system [id]", 1, ""),
    "anchor": ("a: &a [1]\ngeneralist: *a", 1, ""),
    "double key": ("generalist: {model: a, upstreams: ['http://a'], model: b}", 1, "generalist.model"),
    "file scheme": ("generalist: {model: a, upstreams: ['file:///etc/passwd']}", 1, "generalist.upstreams.0"),
    "gopher": ("generalist: {model: a, upstreams: ['gopher://a']}", 1, "generalist.upstreams.0"),
    "credentials": ("generalist: {model: a, upstreams: ['http://user:word@a']}", 1, "generalist.upstreams.0"),
    "empty": ("", 0, "generalist"),
    "template": ("generalist: {model: '${HOME}', upstreams: ['http://${HOME}/']}\nx: '{{ 1 }}'", 2, "x"),
}


async def test_wrong_configuration_is_422_with_line_and_key_and_changes_nothing(admin: Admin) -> None:
    before, generation = admin.config.path.read_bytes(), admin.gateway.current
    for name, (text, line, key) in WRONG.items():
        for answer in (await apply(admin, text), await admin.post("/config/validate", {"yaml": text})):
            assert (answer.status_code, code_of(answer)) == (422, "config_invalid"), (name, answer.text)
            first = answer.json()["error"]["problems"][0]
            assert (first["line"], first["key"]) == (line, key) or not key and first["line"] == line, (name, first)
            assert str(admin.config.path.parent) not in answer.text
    assert admin.config.path.read_bytes() == before
    assert admin.gateway.current is generation
    assert (await admin.json("/config/history"))["history"] == []


async def test_what_only_a_reload_can_see_is_422_too(admin: Admin) -> None:
    text = (await file_of(admin))["yaml"]
    for sections, said in (
        ({"router": {"thresholds": {"maths": 0.5}}}, "did you mean 'math'"),
        ({"keys": {"a": {"key_env": "POINTSMAN_TEST_NOT_SET"}}}, "POINTSMAN_TEST_NOT_SET"),
        ({"policy": {"name": "quality", "quality_table": "nowhere.csv"}}, "nowhere.csv"),
    ):
        answer = await admin.post("/config/validate", {"yaml": changed(text, **sections)})
        assert answer.status_code == 422
        assert said in answer.text


async def test_file_that_the_reload_refuses_is_put_back(admin: Admin) -> None:
    before = admin.config.path.read_bytes()
    text = changed((await file_of(admin))["yaml"], router={"thresholds": {"math": 0.99}})
    switch = admin.gateway.switch

    async def refuse(planned: Any) -> Any:
        from router import RouterError

        admin.gateway.switch = switch  # type: ignore[method-assign]  # fault injection
        raise RouterError("a fault")

    admin.gateway.switch = refuse  # type: ignore[method-assign]  # fault injection
    answer = await apply(admin, text)
    assert (answer.status_code, code_of(answer)) == (422, "config_invalid")
    assert str(admin.config.path) not in answer.text
    assert admin.config.path.read_bytes() == before
    assert (await admin.json("/config/history"))["history"][0]["outcome"] == "invalid"
    assert (await apply(admin, text)).status_code == 200


async def test_change_made_from_an_old_file_is_409(admin: Admin) -> None:
    before = await file_of(admin)
    admin.config.write(router={"thresholds": {"math": 0.7}})
    by_hand = admin.config.path.read_bytes()
    answer = await apply(admin, changed(before["yaml"]), before["file_version"])
    assert (answer.status_code, code_of(answer)) == (409, "config_changed")
    assert admin.config.path.read_bytes() == by_hand


async def test_of_many_changes_at_once_one_is_taken(admin: Admin) -> None:
    before = await file_of(admin)
    texts = [changed(before["yaml"], router={"thresholds": {"math": 0.5 + n / 100}}) for n in range(10)]
    answers = await asyncio.gather(*(apply(admin, text, before["file_version"]) for text in texts))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 9
    taken = next(text for text, answer in zip(texts, answers, strict=True) if answer.status_code == 200)
    assert admin.config.path.read_text() == taken
    assert admin.gateway.settings.router.thresholds == yaml.safe_load(taken)["router"]["thresholds"]


async def test_traffic_goes_on_while_configurations_change(admin: Admin) -> None:
    before = await file_of(admin)

    async def change() -> None:
        for n in range(5):
            assert (
                await apply(admin, changed(before["yaml"], router={"thresholds": {"math": 0.5 + n / 100}}))
            ).is_success

    changing = asyncio.create_task(change())
    statuses = []
    while not changing.done():
        statuses.append((await admin.town.gateway.chat("math")).status_code)
    await changing
    assert set(statuses) == {200}


async def test_read_only_configuration_cannot_be_changed(start_admin: StartAdmin) -> None:
    admin = await start_admin(admin={"read_only": True})
    before = admin.config.path.read_bytes()
    answer = await apply(admin, changed(before.decode()))
    assert (answer.status_code, code_of(answer)) == (403, "config_read_only")
    assert (await admin.json("/config"))["read_only"] is True
    assert admin.config.path.read_bytes() == before


async def test_section_admin_cannot_be_changed_through_the_api(admin: Admin) -> None:
    text = (await file_of(admin))["yaml"]
    section = {**yaml.safe_load(text)["admin"], "allow_link_local": True}
    answer = await apply(admin, changed(text, admin=section))
    assert answer.json()["error"]["problems"][0]["key"] == "admin", answer.text


async def test_section_admin_changed_in_the_file_counts_after_a_restart(admin: Admin) -> None:
    section = {**admin.config.content()["admin"], "read_only": True}
    admin.config.write(admin=section)
    assert "admin" in (await admin.post("/reload")).json()["need_restart"]
    assert admin.gateway.settings.admin.read_only is False


async def test_new_variable_for_an_upstreams_key_must_be_listed(
    start_admin: StartAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T_CLOUD_SECRET", "a-secret-of-the-machine")
    monkeypatch.setenv("T_LISTED", "for-a-server")
    admin = await start_admin(admin={"variables": ["T_LISTED"]})
    text = (await file_of(admin))["yaml"]
    content = yaml.safe_load(text)

    def with_variable(name: str) -> str:
        return changed(text, generalist={**content["generalist"], "api_key_env": name})

    answer = await apply(admin, with_variable("T_CLOUD_SECRET"))
    assert (answer.status_code, answer.json()["error"]["problems"][0]["key"]) == (422, "generalist.api_key_env")
    assert (await apply(admin, with_variable("T_LISTED"))).status_code == 200
    for path in (
        "/config",
        "/config/file",
        "/experts",
        "/upstreams",
        "/overview",
        "/system",
        "/limits",
        "/config/history/1",
    ):
        shown = (await admin.get(path)).text
        assert "for-a-server" not in shown
        assert "a-secret-of" not in shown
        assert ADMIN not in shown
        assert VIEWER not in shown


async def test_body_that_is_too_large_or_no_json_is_refused(admin: Admin) -> None:
    large = {"yaml": "#" * 1_200_000, "base_version": "x"}
    assert (await admin.post("/config/apply", large)).status_code == 413
    assert (await admin.post("/config/apply", {"yaml": "#" * 1_000_001, "base_version": "x"})).status_code == 400
    wide = {"yaml": "é" * 600_000}
    assert (await admin.post("/config/validate", wide)).status_code in (413, 422)
    one = {"yaml": "", "base_version": "x"}
    bodies: tuple[Any, ...] = ({}, {**one, "yaml": 1}, {**one, "y": 1}, {"yaml": ""}, [], "x", 1)
    for body in bodies:
        assert (await admin.post("/config/apply", body)).status_code == 400
    answer = await admin.http.post(
        "/admin/api/config/apply", content=b"a=b", headers={"authorization": f"Bearer {ADMIN}"}
    )
    assert (answer.status_code, code_of(answer)) == (415, "unsupported_media_type")


async def test_surrogates_and_nul_in_a_configuration_are_no_defect(admin: Admin) -> None:
    for raw in (b'{"yaml":"\\ud800"}', b'{"yaml":"a: \\u0000"}', b'{"yaml":"\xff"}', b"[" * 100_000, b'{"yaml":1e999}'):
        headers = {"authorization": f"Bearer {ADMIN}", "content-type": "application/json"}
        answer = await admin.http.post("/admin/api/config/validate", content=raw, headers=headers)
        assert answer.status_code in (400, 422), raw[:20]


async def test_reload_says_what_became_of_it(admin: Admin) -> None:
    assert (await admin.post("/reload")).json()["outcome"] == "unchanged"
    admin.config.path.write_text("generalist: [")
    answer = (await admin.post("/reload")).json()
    assert (answer["outcome"], len(answer["problems"])) == ("invalid", 1)
    assert (await admin.json("/overview"))["reload"]["outcome"] == "invalid"
    version = (await file_of(admin))["file_version"]
    assert (await apply(admin, "generalist: 1", version)).status_code == 422


async def test_history_that_cannot_be_written_does_not_keep_anybody_from_mending(admin: Admin, tmp_path: Path) -> None:
    before = await file_of(admin)
    await apply(admin, changed(before["yaml"], router={"thresholds": {"math": 0.9}}))
    (tmp_path / "records.db.admin").write_bytes(b"no database" * 1000)
    (tmp_path / "records.db.admin-wal").unlink(missing_ok=True)
    answer = await apply(admin, changed(before["yaml"], router={"thresholds": {"math": 0.8}}))
    assert (answer.status_code, answer.json()["number"]) == (200, None)
    assert code_of(await admin.get("/config/history")) == "history_unavailable"


async def test_folder_that_cannot_be_written_is_503_and_the_file_stays(admin: Admin, tmp_path: Path) -> None:
    text = changed((await file_of(admin))["yaml"])
    before = admin.config.path.read_bytes()
    admin.config.path.unlink()
    assert code_of(await admin.get("/config/file")) == "config_unavailable"
    assert (await apply(admin, text, "x")).status_code == 503
    admin.config.path.write_bytes(before)


def test_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text("old")
    (tmp_path / "link.yaml").symlink_to("real.yaml")
    replace_file(tmp_path / "link.yaml", b"new")
    assert (tmp_path / "link.yaml").is_symlink()
    assert (tmp_path / "real.yaml").read_text() == "new"
    with pytest.raises(OSError):
        replace_file(tmp_path / "nowhere.yaml", b"new")
    assert sorted(os.listdir(tmp_path)) == ["link.yaml", "real.yaml"]


def test_history_keeps_the_last_ones_and_never_gives_a_number_twice(tmp_path: Path) -> None:
    history = ConfigHistory(str(tmp_path / "history.db"))
    history.check()
    assert history.find() is None
    numbers = [history.add(n, "a'; DROP TABLE config_history", "v", "applied", f"text {n}") for n in range(KEEP + 5)]
    assert numbers == list(range(1, KEEP + 6))
    assert [entry["number"] for entry in history.listed()] == numbers[:4:-1]
    assert history.find(5) is None
    newest = history.find()
    assert newest is not None
    assert newest.text == f"text {KEEP + 4}"
    with closing(sqlite3.connect(tmp_path / "history.db")) as connection:
        connection.execute("DELETE FROM config_history")
        connection.commit()
    assert history.add(0, "", "v", "found", "") == KEEP + 6
    with pytest.raises(HistoryUnavailable):
        ConfigHistory(str(tmp_path / "no" / "folder.db")).listed()


async def test_watcher_does_not_apply_twice_what_the_api_has_applied(admin: Admin) -> None:
    await apply(admin, changed((await file_of(admin))["yaml"], router={"thresholds": {"math": 0.9}}))
    generation = admin.gateway.current
    await until(lambda: admin.config.reloader.last is not None)
    await asyncio.sleep(0.2)
    assert admin.gateway.current is generation
