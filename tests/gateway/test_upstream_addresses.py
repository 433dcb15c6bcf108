"""Addresses that no upstream may have, judged at the connection: whatever a name means by then (OPERATIONS H12)."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.addresses import is_inside, is_link_local
from gateway.errors import UpstreamForbidden, UpstreamUnreachable
from gateway.upstream import UpstreamClient
from tests.conftest import Town, quick_expert, settings_for
from tests.faults.raw import check_refusal, request
from tests.harness import send_raw

MOVING = "moving.test"
QUIET = {"interval_s": 60}
FORBIDDEN = ["169.254.169.254", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[fe80::1]"]


@pytest.fixture
def meaning(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the system's resolver says that `MOVING` means; change it at will."""
    known, ask = ["127.0.0.1"], socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if host != MOVING:
            return ask(host, port, *rest, **options)
        return [found for address in known for found in ask(address, port, *rest, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


async def forbidden(gateway: Any) -> float:
    series: dict[str, float] = await gateway.metric("pointsman_upstream_forbidden_total")
    return series["pointsman_upstream_forbidden_total"]


@pytest.mark.parametrize("host", FORBIDDEN)
async def test_number_of_a_forbidden_address_is_not_connected_to(host: str) -> None:
    async with UpstreamClient() as client:
        with pytest.raises(UpstreamForbidden):
            await client.get(f"http://{host}:80/latest/meta-data", {}, 2)


async def test_number_in_another_spelling_is_no_address_at_all() -> None:
    async with UpstreamClient() as client:
        for host in ("2852039166", "0xa9fea9fe", "0251.0376.0251.0376"):
            with pytest.raises(UpstreamUnreachable):
                await client.get(f"http://{host}:80/", {}, 2)


async def test_name_that_is_pointed_at_credentials_later_is_not_followed(
    start_town: Any, sim_server: Any, meaning: list[str]
) -> None:
    server = await sim_server(quick_expert("sim/math", "math"))
    changes = {"math": {"upstreams": [f"http://{MOVING}:{server.port}"]}}
    moved: Town = await start_town(changes=changes, health=QUIET)
    assert (await moved.gateway.chat("math", model="math")).status_code == 200
    meaning[:] = ["169.254.169.254"]
    server.drop_connections()
    client = moved.gateway.app.state.gateway._client
    client._session.connector.clear_dns_cache()  # instead of waiting for the 30 s that a name's meaning is kept
    alone = await send_raw(moved.gateway.url, chat_to("math"))
    error = check_refusal(alone, 503, code="upstream_forbidden")
    assert "169.254" not in error["message"]
    assert (await moved.gateway.chat("math")).headers["x-pointsman-expert"] == "generalist"
    records = await moved.gateway.recorder.wait_for(3)
    assert [record.error for record in records] == [None, "upstream_forbidden", None]
    assert await forbidden(moved.gateway) >= 1


def chat_to(model: str) -> bytes:
    return request(b'{"model":"%s","messages":[{"role":"user","content":"math"}]}' % model.encode())


async def test_name_with_several_forbidden_meanings_says_so_too(meaning: list[str]) -> None:
    meaning[:] = ["169.254.169.254", "169.254.1.1"]
    async with UpstreamClient() as client:
        with pytest.raises(UpstreamForbidden):
            await client.get(f"http://{MOVING}:80/", {}, 2)


async def test_allowed_meaning_beside_a_forbidden_one_is_used(sim_server: Any, meaning: list[str]) -> None:
    server, told = await sim_server(), list[str]()
    meaning[:] = ["169.254.169.254", "127.0.0.1"]
    async with UpstreamClient(is_link_local, lambda: told.append("forbidden")) as client:
        answer = await client.get(f"http://{MOVING}:{server.port}/health", {}, 2)
        assert answer.status == 200
        answer.close()
    assert told == ["forbidden"]


async def test_network_that_is_denied_is_not_connected_to(start_town: Any) -> None:
    town: Town = await start_town(server={"denied_networks": ["127.0.0.0/8"]}, health=QUIET)
    answer = await town.gateway.chat("math")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_forbidden")
    assert not any(server.requests for server in town.servers.values())
    assert await forbidden(town.gateway) >= 3


def test_denied_network_must_be_one() -> None:
    experts = {"generalist": {"model": "m", "upstreams": ["http://127.0.0.1:1"]}}
    for bad in ("10.0.0.0/33", "10.0.0.1/8", "vllm", ""):
        with pytest.raises(ValidationError):
            settings_for(experts, server={"denied_networks": [bad]})


@given(st.ip_addresses(v=4))
def test_every_form_of_an_address_is_judged_as_the_address(address: ipaddress.IPv4Address) -> None:
    expected = is_link_local(str(address))
    tail = f"{int(address) >> 16:x}:{int(address) & 0xFFFF:x}"
    for form in (f"::ffff:{address}", f"64:ff9b::{tail}", f"2002:{tail}::1"):
        assert is_link_local(form) == expected
        assert is_inside(form, [f"{address}/32"])
    assert is_inside(str(address), ["0.0.0.0/0"])
    assert not is_inside(str(address), ["::1/128"])
