"""Who gets in, by a walk through the route table (OPERATIONS H1 to H3): a route without its dependency fails here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from gateway.admin.access import admin as admin_only
from gateway.admin.access import viewer as viewers_too
from gateway.admin.principals import NoAdminToken, named_tokens
from gateway.settings import MissingSecret
from tests.admin.conftest import ADMIN, API, CALLER, VIEWER, Admin, StartAdmin, bearer, code_of
from tests.conftest import settings_for
from tests.harness import send_raw
from tests.waiting import until

# They change nothing, and show what a viewer need not see.
ADMINS_ONLY = {
    f"{API}/config/file",
    f"{API}/config/history/{{number}}",
    f"{API}/labels/export",
    f"{API}/prompts",
    f"{API}/prompts/{{record_id}}",
}


def routes_of(admin: Admin) -> list[tuple[str, APIRoute]]:
    """Every route with its whole path, however deep its router is nested."""
    found = list(_flat(admin.serving.app.routes))
    assert all(isinstance(route, APIRoute) for _, route in found), "a route that is no API route has no dependencies"
    assert len(found) > 20
    return found


def _flat(routes: Any) -> Iterator[tuple[str, Any]]:
    for route in routes:
        nested = getattr(route, "effective_route_contexts", None)
        if callable(nested):
            yield from ((context.path, context.original_route) for context in nested())
        else:
            yield route.path, route


def calls_of(dependant: Any) -> Iterator[Any]:
    for inner in dependant.dependencies:
        yield inner.call
        yield from calls_of(inner)


def paths_of(admin: Admin) -> list[tuple[str, str, bool]]:
    """Every method and path, and whether it is for administrators only."""
    document = admin.serving.app.openapi()
    found = []
    for path, operations in document["paths"].items():
        for method in operations:
            filled = path.replace("{record_id}", "r-1").replace("{number}", "1")
            found.append((method.upper(), filled, path in ADMINS_ONLY or method == "post" and "whatif" not in path))
    return found


async def test_every_route_has_exactly_one_of_the_two_dependencies(admin: Admin) -> None:
    seen: set[str] = set()
    for path, route in routes_of(admin):
        assert path.startswith(f"{API}/")
        guards = [call for call in calls_of(route.dependant) if call in (admin_only, viewers_too)]
        assert len(guards) == 1, f"{path} has {len(guards)} of viewer and admin"
        changes = route.methods != {"GET"} and path != f"{API}/whatif"
        assert guards == [admin_only if changes or path in ADMINS_ONLY else viewers_too], path
        seen |= route.methods or set()
    assert seen == {"GET", "POST"}


async def test_no_route_answers_without_or_with_a_wrong_or_a_data_plane_token(start_admin: StartAdmin) -> None:
    admin = await start_admin(keys={"caller": {"key_env": "T_CALLER"}})
    tried = 0
    for method, path, _ in paths_of(admin):
        for token in ("", "wrong" * 5, CALLER):
            admin.plane.throttle.succeeded("127.0.0.1")  # so many failures are not the point here
            answer = await admin.http.request(method, path, content=b"{", headers=bearer(token))
            assert (answer.status_code, code_of(answer)) == (401, "invalid_admin_token"), (method, path, token)
            tried += 1
    assert tried > 60


async def test_viewer_may_look_and_change_nothing(admin: Admin) -> None:
    for method, path, admins in paths_of(admin):
        answer = await admin.http.request(method, path, content=b"{}", headers=bearer(VIEWER))
        forbidden = answer.status_code == 403 and code_of(answer) == "role_forbidden"
        assert forbidden == admins, (method, path, answer.status_code)


async def test_admin_token_opens_no_data_plane(start_admin: StartAdmin) -> None:
    admin = await start_admin(keys={"caller": {"key_env": "T_CALLER"}})
    http = admin.town.gateway.http
    for path in ("/v1/models", "/metrics", f"{API}/overview", "/openapi.json"):
        assert (await http.get(path, headers=bearer(ADMIN))).status_code == 401
    assert (await http.get("/v1/models", headers=bearer(CALLER))).status_code == 200


async def test_admin_api_is_not_on_the_data_plane_port(admin: Admin) -> None:
    answer = await admin.town.gateway.http.get(f"{API}/overview", headers=bearer(ADMIN))
    assert (answer.status_code, code_of(answer)) == (404, "not_found")


async def test_nothing_of_the_data_plane_is_on_the_admin_port(admin: Admin) -> None:
    for path in ("/v1/models", "/metrics", "/health/live", "/docs", "/openapi.json", "/"):
        assert (await admin.http.get(path, headers=bearer(ADMIN))).status_code == 404


async def test_other_methods_are_closed(admin: Admin) -> None:
    for method in ("HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PATCH", "PROPFIND"):
        answer = await admin.http.request(method, f"{API}/overview", headers=bearer(ADMIN))
        assert answer.status_code == 405, method
        assert "access-control-allow-origin" not in answer.headers


PROXIES = [
    "X-Forwarded-For: 127.0.0.1",
    "X-Forwarded-Host: localhost",
    "X-Original-URL: /health/live",
    "X-Rewrite-URL: /health/live",
    "X-HTTP-Method-Override: GET",
    "Forwarded: for=127.0.0.1",
    "X-Remote-User: admin",
    "Cookie: session=admin",
]


async def test_headers_of_proxies_let_nobody_in(admin: Admin) -> None:
    for header in PROXIES:
        raw = f"GET {API}/overview HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}\r\n\r\n"
        assert (await send_raw(admin.url, raw.encode())).status == 401, header


HOSTS = {
    "127.0.0.1": 200,
    "[::1]:80": 200,
    "localhost:9": 200,
    "evil.example": 400,
    "127.0.0.1.evil.example": 400,
    "127.0.0.1@evil": 400,
    "": 400,
    "admin.example.com": 200,
    "ADMIN.example.com.": 200,
    "x.admin.example.com": 400,
}


async def test_host_header_must_be_ours(start_admin: StartAdmin) -> None:
    admin = await start_admin(admin={"hosts": ["admin.example.com"]})
    for host, status in HOSTS.items():
        raw = f"GET {API}/system HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"
        answer = await send_raw(admin.url, raw.encode())
        assert answer.status == status, host
        assert status == 200 or b"server.hosts" not in answer.body


FORMS = [
    [f"Authorization: Basic {ADMIN}"],
    [f"Authorization: {ADMIN}"],
    [f"Authorization: Bearer {ADMIN} x"],
    [f"Authorization: Bearer {ADMIN}", "Authorization: Bearer other"],
    ["Authorization: Bearer "],
    [f"X-Api-Key: {ADMIN}"],
    [f"Authorization: Bearer {ADMIN.upper()}"],
    ["Authorization: Bearer \xff\xfe"],
]


async def test_token_comes_in_one_header_and_one_form(admin: Admin) -> None:
    for lines in FORMS:
        raw = "\r\n".join([f"GET {API}/overview HTTP/1.1", "Host: localhost", *lines, "", ""])
        assert (await send_raw(admin.url, raw.encode("latin-1"))).status == 401, lines


async def test_every_answer_has_the_headers_that_keep_pages_out(admin: Admin) -> None:
    answers = [
        await admin.get("/overview"),
        await admin.get("/overview", token=""),
        await admin.get("/nothing"),
        await admin.http.get(f"{API}/overview", headers={"host": "evil.example"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 401, 404, 400]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["x-frame-options"] == "DENY"
        assert len(answer.headers.get_list("x-request-id")) == 1


async def test_openapi_is_there_for_those_with_a_token_and_describes_every_route(admin: Admin) -> None:
    assert (await admin.get("/openapi.json", token="")).status_code == 401
    document = await admin.json("/openapi.json")
    assert document["components"]["securitySchemes"]
    assert all(path.startswith(API) for path in document["paths"])
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    assert all(operation["security"] and "422" not in operation["responses"] for operation in operations)
    apply = document["paths"][f"{API}/config/apply"]["post"]["requestBody"]
    assert set(apply["content"]["application/json"]["schema"]["required"]) == {"yaml", "base_version"}


async def test_wrong_tokens_are_slowed_down_and_a_good_one_waits_too(admin: Admin) -> None:
    statuses = [(await admin.get("/system", token=f"guess-{number:020}")).status_code for number in range(12)]
    assert statuses == [401] * 5 + [429] * 7
    answer = await admin.get("/system")
    assert (answer.status_code, code_of(answer)) == (429, "login_throttled")
    assert answer.headers["retry-after"] == "1"


async def test_failed_login_is_logged_without_the_token(admin: Admin, capsys: pytest.CaptureFixture[str]) -> None:
    await admin.get("/system", token="guess-of-somebody-else")
    said = "".join(capsys.readouterr())
    assert "admin_login_failed" in said
    assert "guess-of" not in said


async def test_so_many_at_once_and_no_more(admin: Admin) -> None:
    slow = [
        asyncio.create_task(
            send_raw(
                admin.url,
                f"POST {API}/config/validate HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\n"
                "Content-Type: application/json\r\nContent-Length: 10\r\n\r\n".encode(),
                timeout_s=20,
            )
        )
        for _ in range(16)
    ]
    try:
        front = admin.serving._server.config.app
        await until(lambda: front._inside == 16)  # type: ignore[union-attr]  # our own
        answer = await admin.get("/system")
        assert (answer.status_code, code_of(answer)) == (503, "overloaded")
        assert (await admin.town.gateway.chat("hello")).status_code == 200
    finally:
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
    await until(lambda: front._inside == 0)  # type: ignore[union-attr]  # our own
    assert (await admin.get("/system")).status_code == 200


@pytest.mark.parametrize(
    ("named", "error"),
    [
        ({}, NoAdminToken),
        ({"token_env": "T_SHORT"}, NoAdminToken),
        ({"token_env": "T_LONG", "viewer_token_env": "T_LONG"}, NoAdminToken),
        ({"token_env": "T_NOT_SET"}, MissingSecret),
    ],
)
def test_tokens_that_are_none_are_refused(
    named: dict[str, str], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T_SHORT", "short")
    monkeypatch.setenv("T_LONG", "long-enough-for-one")
    with pytest.raises(error) as raised:
        named_tokens(
            settings_for({"generalist": {"model": "m", "upstreams": ["http://m"]}}, admin={"port": 0, **named})
        )
    assert "long-enough" not in str(raised.value)
