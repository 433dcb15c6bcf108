"""Ten prompts labelled by keyboard and exported, and a prompt tried and sent to two experts, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from router.prompts import read_prompts

from .browsing import Visitor
from .site import HOSTILE, Site

pytestmark = pytest.mark.browser

Visit = Callable[..., Visitor]


def press(visitor: Visitor, key: str) -> None:
    """Press a key that leads to another page."""
    with visitor.page.expect_navigation():
        visitor.page.keyboard.press(key)
    visitor.settle()


def test_ten_prompts_are_labelled_by_keys_and_exported(visit: Visit, site: Site, tmp_path: Path) -> None:
    visitor = visit()
    visitor.open("review")
    page, labels = visitor.page, site.api("router")["labels"]
    before = len(site.api("labels")["labels"])
    given = {}
    for number in range(10):
        text = page.locator("pre.prompt").inner_text()
        given[text] = labels[number % 9]
        press(visitor, str(1 + number % 9))
        assert page.evaluate("document.activeElement.id") == "prompt-title"
        assert page.locator("#done").inner_text().startswith(f"You said {labels[number % 9]}.")
    assert len(site.api("labels")["labels"]) == before + 10
    press(visitor, "u")
    assert page.locator("pre.prompt").inner_text() == text
    press(visitor, "1")
    given[text] = labels[0]
    with page.expect_download() as download:
        page.click("text=Export for training")
    file = tmp_path / "labels.jsonl"
    download.value.save_as(file)
    assert len([json.loads(line) for line in file.read_text().splitlines()]) == before + 10
    read = {prompt.text: prompt.label for prompt in read_prompts([file])}
    assert given.items() <= read.items(), "of a prompt that came twice the last label counts"
    assert visitor.troubles == []
    assert visitor.violations() == []


def test_keys_skip_help_and_can_be_turned_off(visit: Visit) -> None:
    visitor = visit()
    visitor.open("review")
    page = visitor.page
    first = page.locator("pre.prompt").inner_text()
    press(visitor, "s")
    second = page.url
    assert "before_us=" in second
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("1")  # behind an open help keys label nothing
    page.keyboard.press("Escape")
    assert not page.locator("#keys").is_visible()
    page.uncheck("#shortcuts input")
    page.keyboard.press("1")
    page.keyboard.press("s")
    page.wait_for_timeout(200)
    assert page.url == second
    visitor.open("review")
    assert page.locator("pre.prompt").inner_text() == first
    assert not page.locator("#shortcuts input").is_checked(), "the choice is remembered"
    page.keyboard.press("s")
    page.wait_for_timeout(200)
    assert "before_us" not in page.url


@pytest.mark.parametrize("prompt", ["Write a Python function that sorts a list", *HOSTILE[:3]])
def test_prompt_is_decided_and_sent_to_two_experts(visit: Visit, site: Site, axe: str, prompt: str) -> None:
    visitor = visit()
    visitor.open("playground")
    page = visitor.page
    page.fill("#prompt", prompt)
    with page.expect_navigation():
        page.click("#try button")
    visitor.settle()
    page.select_option("#expert-0", "math")
    page.select_option("#expert-1", "generalist")
    page.click("#send-both")
    page.wait_for_selector("#send-both:not([disabled])")
    answers = page.locator(".answers section")
    for side, expert in enumerate(("math", "generalist")):
        assert answers.nth(side).locator("h3").inner_text() == expert
        assert "whole after" in answers.nth(side).locator("p").inner_text()
        assert answers.nth(side).locator("pre").inner_text()
    assert visitor.complaints(axe) == []
    assert visitor.troubles == []
    assert visitor.violations() == []
    assert not visitor.is_hacked()
    sent = [row for row in site.api("records?key=playground")["records"] if row["reason"] == "pinned"]
    assert {"math", "generalist"} <= {row["chosen"] for row in sent}
    answers.nth(0).get_by_role("link").click()
    page.wait_for_load_state()
    assert "/requests/" in page.url
