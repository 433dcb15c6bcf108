"""The what-if slider in a real browser: it says at once what the server says for the same threshold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .browsing import Visitor

pytestmark = pytest.mark.browser

_SHOWN = """
() => [...document.querySelectorAll("#what-if [data-what]")].map((one) => {
  const bar = one.querySelector("rect");
  return bar ? Number(bar.getAttribute("width")) : one.textContent;
})
"""
_MOVE = """
(value) => {
  const slider = document.getElementById("threshold");
  slider.value = value;
  slider.dispatchEvent(new Event("input"));
}
"""


def shown(visitor: Visitor) -> Any:
    return visitor.page.evaluate(_SHOWN)


@pytest.mark.parametrize("only", ["", "math"])
def test_slider_says_what_the_server_says(visit: Callable[..., Visitor], only: str) -> None:
    visitor = visit("T_VIEWER")
    seen = set()
    for threshold in ("0.00", "0.33", "0.70", "0.99", "1.00"):
        visitor.open("confidence?span=month")
        asked: list[str] = []
        visitor.page.on("request", lambda request: asked.append(request.url))  # noqa: B023
        visitor.page.select_option("#only", only)
        visitor.page.evaluate(_MOVE, threshold)
        moved = shown(visitor)
        assert asked == []
        visitor.open(f"confidence?span=month&only={only}&threshold={threshold}")
        for mine, served in zip(moved, shown(visitor), strict=True):
            assert mine == (served if isinstance(served, str) else pytest.approx(served, abs=0.01)), threshold
        seen.add(tuple(moved))
    assert len(seen) > 1
    assert visitor.troubles == []


def test_slider_is_moved_by_keys_and_says_so_once_it_rests(visit: Callable[..., Visitor]) -> None:
    visitor = visit("T_VIEWER")
    visitor.open("confidence?span=month&threshold=0.60")
    visitor.page.focus("#threshold")
    for _ in range(10):
        visitor.page.keyboard.press("ArrowRight")
    assert visitor.page.inner_text("#threshold-shown") == "0.70"
    said = visitor.page.locator("#what-if-says")
    assert said.text_content() == ""
    visitor.page.wait_for_timeout(1_500)  # longer than it waits for the slider to rest
    assert visitor.page.inner_text("[data-what=share]") in (said.text_content() or "")
