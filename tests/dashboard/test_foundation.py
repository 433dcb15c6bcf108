"""What all pages stand on: sessions, whose page it is that sends a form, static files, addresses below a base path."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx2
import pytest

from gateway.admin.access import COOKIE
from gateway.admin.access import admin as admin_only
from gateway.admin.access import viewer as viewers_too
from gateway.dashboard.charts import Chart, Series
from gateway.dashboard.formats import compact, money, number, percent, seconds, size
from tests.admin.test_access import calls_of, routes_of
from tests.dashboard.conftest import HTML, Site, StartSite, browser, text_of
from tests.fixtures_admin import ADMIN, VIEWER, bearer

# Whoever has not logged in needs these to do so.
OPEN = {("GET", "/admin"), ("GET", "/admin/login"), ("POST", "/admin/login"), ("GET", "/admin/static/{digest}/{name}")}


async def test_every_page_has_exactly_one_guard_and_what_changes_something_is_for_administrators(site: Site) -> None:
    seen = 0
    for path, route in routes_of(site.admin):
        if path.startswith("/admin/api/"):
            continue
        for method in route.methods or ():
            guards = [call for call in calls_of(route.dependant) if call in (admin_only, viewers_too)]
            if (method, path) in OPEN:
                assert guards == []
                continue
            assert len(guards) == 1, f"{path} has {len(guards)} of viewer and admin"
            if method not in ("GET", "HEAD") and path != "/admin/logout":
                assert guards == [admin_only], f"{method} {path} is open to viewers"
            seen += 1
    assert seen > 10


async def test_who_has_not_logged_in_is_led_to_the_login_and_then_to_the_page(site: Site) -> None:
    async with httpx2.AsyncClient(base_url=site.admin.url, headers=HTML) as http:
        answer = await http.get("/admin/requests?domain=math")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/admin/login?next=%2Fadmin%2Frequests%3Fdomain%3Dmath"
        form = await http.get(answer.headers["location"])
        assert 'value="/admin/requests?domain=math"' in form.text
        sent = {"token": ADMIN, "next": "/admin/requests?domain=math"}
        answer = await http.post("/admin/login", data=sent, headers={"origin": site.admin.url})
        assert (answer.status_code, answer.headers["location"]) == (303, "/admin/requests?domain=math")
        cookie = answer.headers["set-cookie"]
        assert re.fullmatch(rf"{COOKIE}=[\w-]{{43}}; HttpOnly; Path=/admin; SameSite=strict", cookie)


async def test_login_leads_to_our_own_pages_only(site: Site) -> None:
    strange = ("https://evil.example/admin/", "//evil.example/admin/", "/admin/\\evil", "javascript:alert(1)", "/", "x")
    async with httpx2.AsyncClient(base_url=site.admin.url, headers=HTML) as http:
        for target in strange:
            sent = {"token": VIEWER, "next": target}
            answer = await http.post("/admin/login", data=sent, headers={"origin": site.admin.url})
            assert (answer.status_code, answer.headers["location"]) == (303, "/admin/"), target


async def test_every_page_of_the_menu_opens_for_whom_it_is_shown(site: Site) -> None:
    await site.chat("math", "coding", "tell me something")
    seen: dict[str, set[str]] = {}
    for name, http in (("admin", site.http), ("viewer", site.viewer)):
        first = await http.get("/admin/")
        menu = first.text.partition('<nav class="menu"')[2].partition("</nav>")[0]
        seen[name] = set(re.findall(r'href="([^"]+)"', menu))
        for path in seen[name]:
            page = await http.get(path)
            assert page.status_code == 200, (name, path, page.text)
            assert f'<a href="{path}" aria-current="page">' in page.text, (name, path)
    assert len(seen["admin"]) >= 14
    assert seen["admin"] - seen["viewer"] == {"/admin/playground", "/admin/review"}
    for path in seen["admin"] - seen["viewer"]:
        assert (await site.viewer.get(path)).status_code == 403


async def test_cookie_is_secure_where_the_browser_speaks_https(site: Site) -> None:
    host = httpx2.URL(site.admin.url).netloc.decode()
    async with httpx2.AsyncClient(base_url=site.admin.url, headers=HTML) as http:
        answer = await http.post("/admin/login", data={"token": ADMIN}, headers={"origin": f"https://{host}"})
        assert "; Secure" in answer.headers["set-cookie"]


async def test_wrong_token_gets_the_form_again_and_is_slowed_down(site: Site) -> None:
    site.admin.plane.throttle.succeeded("127.0.0.1")
    async with httpx2.AsyncClient(base_url=site.admin.url, headers=HTML) as http:
        answers = [
            await http.post("/admin/login", data={"token": "no" * 9}, headers={"origin": site.admin.url})
            for _ in range(6)
        ]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert "This is no admin token." in text_of(answers[0].text)
    assert "set-cookie" not in answers[0].headers
    assert int(answers[-1].headers["retry-after"]) >= 1


async def test_session_ends_with_the_logout_and_with_its_token(site: Site) -> None:
    http = site.http
    assert (await http.get("/admin/api/overview")).status_code == 200
    cookie = http.cookies[COOKIE]
    assert (await site.post("logout")).status_code == 303
    stolen = {"cookie": f"{COOKIE}={cookie}"}
    async with httpx2.AsyncClient(base_url=site.admin.url) as other:
        assert (await other.get("/admin/api/overview", headers=stolen)).status_code == 401
    assert (await site.viewer.get("/admin/api/overview")).status_code == 200
    site.admin.plane.tokens.change_fixed({})  # type: ignore[attr-defined]  # the tokens of the environment are gone
    assert (await site.viewer.get("/admin/api/overview")).status_code == 401


ELSEWHERE: tuple[dict[str, str], ...] = (
    {},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:1"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site"},
    {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
)


async def test_what_another_site_sends_with_our_cookie_changes_nothing(site: Site) -> None:
    for headers in ELSEWHERE:
        answer = await site.http.post("/admin/api/reload", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_origin"), headers
        assert (await site.http.post("/admin/logout", headers=headers)).status_code == 403, headers
        for method in ("PUT", "PATCH", "DELETE"):
            assert (await site.http.request(method, "/admin/api/reload", headers=headers)).status_code in (403, 405)
    assert site.admin.config.reloader.last is None
    assert (await site.http.get("/admin/api/overview")).status_code == 200


async def test_our_own_page_and_a_script_with_a_token_may_change_things(site: Site) -> None:
    same = {"sec-fetch-site": "same-origin"}
    for headers in ({"origin": site.admin.url}, same, {**same, "origin": "null"}):
        assert (await site.http.post("/admin/api/reload", headers=headers)).status_code == 200
    async with httpx2.AsyncClient(base_url=site.admin.url) as script:
        headers = {**bearer(ADMIN), "origin": "https://evil.example"}
        assert (await script.post("/admin/api/reload", headers=headers)).status_code == 200


async def test_viewer_changes_nothing_through_a_session(site: Site) -> None:
    answer = await site.viewer.post("/admin/api/reload", headers={"origin": site.admin.url})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "role_forbidden")


async def test_pages_have_a_policy_that_runs_nothing_written_into_them(site: Site) -> None:
    answer = await site.http.get("/admin/login")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers.get_list("content-security-policy") == [policy]
    assert not re.search(r"<script(?![^>]*(src=|application/json))|\son\w+=|\sstyle=", answer.text)


async def test_static_files_are_kept_for_ever_under_their_digest_and_no_others_are_there(site: Site) -> None:
    page = (await site.http.get("/admin/login")).text
    addresses = re.findall(r'(?:src|href)="(/admin/static/[^"]+)"', page)
    assert len(addresses) >= 5
    for address in addresses:
        answer = await site.http.get(address)
        assert (answer.status_code, answer.headers["content-encoding"]) == (200, "gzip")
        assert "immutable" in answer.headers["cache-control"]
    other = re.sub(r"static/\w+/", "static/0/", addresses[0])
    assert (await site.http.get(other)).headers["cache-control"] == "no-cache"
    for name in ("app.py", "..%2fapp.py", "..%252f..%252fapp.py", "base.html", "%00", "pointsman.css%00.js"):
        assert (await site.http.get(f"/admin/static/0/{name}")).status_code in (400, 404), name


async def test_ten_thousand_ranges_cost_nothing(site: Site) -> None:
    ranges = "bytes=" + ",".join(f"{i}-{i}" for i in range(1_000))
    start = asyncio.get_running_loop().time()
    answer = await site.http.get("/admin/static/0/pointsman.css", headers={"range": ranges})
    assert asyncio.get_running_loop().time() - start < 0.05
    assert answer.status_code in (200, 431)


async def test_addresses_have_the_path_that_a_proxy_puts_before_them(start_site: StartSite) -> None:
    site = await start_site(admin={"base_path": "/router"})
    async with browser(site.admin.url, ADMIN, "/router") as http:
        for path in ("/router/admin/login", "/admin/login"):
            page = await http.get(path)
            addresses = re.findall(r'(?:src|href|action)="(/[^"]*)"', page.text)
            assert len(addresses) >= 6
            assert all(address.startswith("/router/admin/") for address in addresses)
            for address in addresses:
                assert (await http.get(address)).status_code in (200, 303)
        assert (await http.get("/router/admin/api/overview")).status_code == 200
        assert (await http.get("/routeradmin/login")).status_code == 404


async def test_unknown_page_is_a_page_and_an_unknown_route_of_the_api_is_not(site: Site) -> None:
    page = await site.http.get("/admin/no-such-page")
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    data = await site.http.get("/admin/api/no-such-route")
    assert (data.status_code, data.headers["content-type"]) == (404, "application/json")


async def test_dashboard_can_be_left_out(start_admin: Any) -> None:
    admin = await start_admin()
    assert (await admin.http.get("/admin/login")).status_code == 404


def test_numbers_are_written_with_their_units() -> None:
    assert [number(1234567), number(None), number(1.5, 2)] == ["1\u202f234\u202f567", "\u2013", "1.50"]
    assert [compact(999), compact(1234), compact(12_345_678)] == ["999", "1.23\u202fk", "12.3\u202fM"]
    assert [percent(0.1234), percent(None)] == ["12.3\u202f%", "\u2013"]
    times = [seconds(value) for value in (0.00012, 0.0123, 1.5, 90, 300, 7200, 200_000)]
    assert times == ["120\u202fus", "12.3\u202fms", "1.5\u202fs", "90\u202fs", "5\u202fmin", "2\u202fh", "2.31\u202fd"]
    assert [money(0, "EUR"), money(1234.5, "EUR"), money(0.00012, "EUR")] == [
        "0.00\u202fEUR",
        "1\u202f234.50\u202fEUR",
        "0.000120\u202fEUR",
    ]
    assert [size(500), size(2_000_000)] == ["500\u202fB", "1.91\u202fMiB"]


def test_chart_whose_series_is_not_as_long_as_its_x_is_refused() -> None:
    with pytest.raises(ValueError, match="not as long"):
        Chart("c", "A chart", [1.0, 2.0], [Series("one", [1.0])])
    with pytest.raises(ValueError, match="not as long"):
        Chart("c", "A chart", [1.0], [Series("one", [1.0], ["/a", "/b"])])
