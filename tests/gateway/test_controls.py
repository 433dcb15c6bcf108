"""Headers by which a request steers its own routing."""

from __future__ import annotations

import pytest

from gateway.controls import NONE, Controls, read_controls
from gateway.errors import InvalidRequest


def test_no_control_costs_nothing() -> None:
    assert read_controls({b"content-type": b"application/json"}) is NONE


def test_all_controls_are_read() -> None:
    headers = {
        b"x-pointsman-policy": b"economy",
        b"x-pointsman-strategy": b"vote",
        b"x-session-id": b"thread/17:a",
        b"x-pointsman-max-cost": b"0.002",
        b"x-pointsman-max-latency-ms": b" 1500 ",
    }
    assert read_controls(headers) == Controls("economy", "vote", "thread/17:a", 0.002, 1.5)


@pytest.mark.parametrize("name", ["policy", "strategy", "max-cost", "max-latency-ms"])
def test_empty_control_is_none(name: str) -> None:
    assert read_controls({f"x-pointsman-{name}".encode(): b" "}) == NONE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-pointsman-policy", b"no such/policy"),
        ("x-pointsman-policy", b"\xff"),
        ("x-pointsman-strategy", b"a" * 65),
        ("x-session-id", b"a b"),
        ("x-session-id", b"\xc3\xa9"),
        ("x-session-id", b"a" * 257),
        ("x-pointsman-max-cost", b"-1"),
        ("x-pointsman-max-cost", b"nan"),
        ("x-pointsman-max-cost", b"inf"),
        ("x-pointsman-max-cost", b"cheap"),
        ("x-pointsman-max-latency-ms", b"1e999"),
    ],
)
def test_control_that_cannot_be_read_is_refused_by_name(name: str, value: bytes) -> None:
    with pytest.raises(InvalidRequest, match=name) as caught:
        read_controls({name.encode(): value})
    assert caught.value.code == "invalid_header"
