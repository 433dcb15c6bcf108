"""Reports of replays, read back as the text, Markdown, HTML and SVG they claim to be."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from router import Family, MissingExtraError, Noisy, Recorded, Replay, Terms, compare_choices

HAS_MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None
EXPERTS = ("wide", "<b>$sums$|x_</b>", "verse")


def made(experts: tuple[str, ...] = EXPERTS, *, priced: bool = True, noisy: bool = True) -> Replay:
    generator = np.random.default_rng(2)
    scores = (generator.random((40, 3)) < (0.7, 0.5, 0.6)).astype(float)
    scores[:3, 2] = np.nan
    cost = np.ones((40, 3)) * (0.004, 0.001, 0.002) if priced else None
    weights = Family("balanced", "cost_weight", ("0", "0.1", "0.2"), np.array([[0] * 40, [0] * 40, [1, 2, 0, 1] * 10]))
    lone = Family.single("quality", np.array([0, 1] * 20))
    noise = Noisy("quality", "the given one", generator.integers(3, size=(40, 4)), generator.integers(4, size=40), 0.75)
    terms = Terms(
        experts[0],
        groups=("a", "b") * 20,
        labels="group",
        noisy=noise if noisy else None,
        title="mine.csv",
        notes=("A note.",),
        draws=30,
    )
    return compare_choices(Recorded.of(experts, scores, cost), [weights, lone], terms)


def pipe_tables(text: str) -> dict[str, list[list[str]]]:
    tables: dict[str, list[list[str]]] = {}
    heading = ""
    for line in text.replace("\\|", "\0").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|"):
            tables.setdefault(heading, []).append([cell.strip() for cell in line.split("|")[1:-1]])
    return tables


def test_markdown_tables_hold_the_figures() -> None:
    replay = made()
    tables = pipe_tables(replay.markdown())
    assert all(len({len(row) for row in rows}) == 1 for rows in tables.values())
    ways = {row[0]: row for row in tables["Ways to choose"]}
    assert ways["wide (generalist, best single)"][1] == f"{replay.row('wide').quality:.3f}"
    assert ways["verse"][-1] == "7.5 %"
    curves = {row[0]: row for row in tables["Curves"]}
    assert curves["balanced over cost_weight"][2] == f"{replay.curves[1].aiq:.3f}"
    assert "A note." in replay.markdown()


def test_neighbouring_points_that_got_the_same_are_one_line() -> None:
    names = [row[0] for row in pipe_tables(made().markdown())["Ways to choose"]]
    assert "balanced 0 to 0.1" in names
    assert "balanced 0.2" in names
    assert "balanced 0" not in names
    assert len([row for row in made().rows if row.family == "balanced"]) == 3


def test_text_columns_are_aligned_and_paragraphs_short() -> None:
    lines = made().text().splitlines()
    start = next(row for row, line in enumerate(lines) if "AIQ  " in line)
    block = lines[start : start + 4]
    assert len({len(line) for line in block}) == 1
    assert all(len(line) <= 100 for line in lines if line.endswith("."))


def test_report_without_prices_says_nothing_of_money() -> None:
    text = made(priced=False).text()
    assert "cost per 1,000" not in text
    assert "saved is" not in text
    assert "arena" not in text


def test_report_without_break_even_has_no_such_part() -> None:
    assert "Router accuracy" in made().text()
    assert "Router accuracy" not in made(noisy=False).text()


def test_accuracy_that_never_suffices_is_said_in_words() -> None:
    replay = made()
    assert replay.break_even is not None
    hopeless = replace(replay, break_even=replace(replay.break_even, generalist=None, best_single=0.5))
    assert "not even a perfect router" in hopeless.text()
    assert "50.0 %" in hopeless.text()


def test_write_makes_the_folder_and_json_reads_back(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    try:
        paths = made().write(folder)
        assert [path.name for path in paths] == ["replay.json", "report.md", "report.html"]
    except MissingExtraError:
        assert not HAS_MATPLOTLIB
    assert json.loads((folder / "replay.json").read_text()) == json.loads(json.dumps(made().as_dict()))
    assert (folder / "report.md").read_text() == made().markdown()


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append(tag)


@pytest.mark.skipif(not HAS_MATPLOTLIB, reason="matplotlib is in the train extra only")
@pytest.mark.parametrize("priced", [True, False])
def test_page_shows_every_picture_and_escapes_names(priced: bool) -> None:
    from router.replay.plots import plots
    from router.replay.report import render_html

    content = made(priced=priced).as_dict()
    drawn = plots(content)
    assert set(drawn) == {"calls", "accuracy"} | ({"cost"} if priced else set())
    for picture in drawn.values():
        root = ElementTree.fromstring(picture)
        texts = {"".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("text")}
        assert "quality" in texts
    if priced:
        assert "$sums$|x_" in "".join(ElementTree.fromstring(drawn["cost"]).itertext())
    tags = Tags()
    tags.feed(render_html(content))
    assert tags.found.count("svg") == len(drawn)
    assert "b" not in tags.found
    assert plots(content) == drawn


@pytest.mark.skipif(not HAS_MATPLOTLIB, reason="matplotlib is in the train extra only")
def test_pictures_are_drawn_of_free_unknown_and_single_experts() -> None:
    from router.replay.plots import plots

    scores, choices = np.array([[1.0], [0.0]]), Family.single("quality", np.zeros(2, dtype=np.intp))
    for cost in (None, np.zeros((2, 1)), np.full((2, 1), np.nan)):
        replay = compare_choices(Recorded.of(("only",), scores, cost), [choices], Terms("only", draws=3))
        assert all(picture.startswith("<svg") for picture in plots(replay.as_dict()).values())
