"""Upstream addresses that the admin API does not take (OPERATIONS H12)."""

from __future__ import annotations

import yaml

from gateway.addresses import is_link_local
from gateway.admin.addresses import refused_reason
from tests.admin.conftest import Admin, StartAdmin
from tests.admin.test_config import apply, changed, file_of

FORBIDDEN_HOSTS = [
    "169.254.169.254",
    "169.254.0.1:8000",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[::169.254.169.254]",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
]


async def test_upstream_at_a_link_local_address_is_refused_in_every_spelling(admin: Admin) -> None:
    text = (await file_of(admin))["yaml"]
    generalist = yaml.safe_load(text)["generalist"]
    before = admin.config.path.read_bytes()
    for host in FORBIDDEN_HOSTS:
        answer = await apply(admin, changed(text, generalist={**generalist, "upstreams": [f"http://{host}"]}))
        assert answer.status_code == 422, host
        assert answer.json()["error"]["problems"][0]["key"] == "generalist.upstreams", host
    assert admin.config.path.read_bytes() == before


async def test_link_local_upstream_is_taken_where_that_is_set(start_admin: StartAdmin) -> None:
    admin = await start_admin(admin={"allow_link_local": True})
    text = (await file_of(admin))["yaml"]
    generalist = yaml.safe_load(text)["generalist"]
    wanted = {**generalist, "upstreams": [*generalist["upstreams"], "http://169.254.10.10"]}
    assert (await admin.post("/config/validate", {"yaml": changed(text, generalist=wanted)})).status_code == 200


def test_ordinary_addresses_are_taken() -> None:
    for host in ("127.0.0.1", "10.0.0.1", "192.168.1.1", "8.8.8.8", "[::1]", "[2001:db8::1]", "no-such-name.invalid"):
        assert refused_reason(f"http://{host}:8000") is None, host
    assert not is_link_local("not an address")
    assert is_link_local("fe80::1%eth0")
