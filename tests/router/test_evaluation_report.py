"""Reports and model cards, read back as the Markdown, HTML and SVG they claim to be."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from router import MissingExtraError
from router.evaluation import Options, measure, model_card
from router.evaluation.document import Section, Table, markdown, page
from router.evaluation.plots import plots
from router.evaluation.report import render_html, render_markdown
from router.evaluation.weak_spots import weak_spots
from router.prompts import Prompt
from tests.router.keyword_scorer import KeywordScorer

PICTURES = {"confusion", "latency", "reliability", "risk"}


def has_matplotlib() -> bool:
    try:
        import matplotlib  # type: ignore[import-not-found,unused-ignore]  # noqa: F401  # in the train extra only
    except ImportError:
        return False
    return True


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    prompts = [Prompt(f"tenant letter {n}", "law", source="a|b", language="en") for n in range(25)]
    prompts += [Prompt(f"triangle tale {n}", "law", source="tales", language="fr", kind="story") for n in range(25)]
    prompts += [Prompt(f"hello {n}", "general", source="odd", style="odd") for n in range(25)]
    evaluation = measure(KeywordScorer(), prompts, options=Options(perturbed=5))
    return json.loads(json.dumps(evaluation.as_dict()))  # type: ignore[no-any-return]


def tables_of(text: str) -> dict[str, list[list[str]]]:
    """Heading to the cells of the pipe table below it."""
    tables: dict[str, list[list[str]]] = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            tables.setdefault(heading, []).append(cells)
    return tables


def test_render_markdown_tables_hold_the_figures(content: dict[str, Any]) -> None:
    text = render_markdown(content)
    tables = tables_of(text)
    assert all(len({len(row) for row in rows}) == 1 for rows in tables.values())
    assert tables["Against baselines"][2][:2] == ["this classifier", "66.7 %"]
    assert [row[0] for row in tables["Against baselines"][3:]] == ["majority label", "uniform random"]
    sources = {row[0]: row for row in tables["Sources"][2:]}
    assert sources["a\\|b"][1:3] == ["25", "100.0 %"]
    assert (sources["tales"][2], sources["tales"][-1], sources["odd"][-2]) == ("0.0 %", "100.0 %", "100.0 %")
    assert tables["Confusion matrix"][0][1:] == content["labels"]
    assert len(tables["Consistency"]) == 2 + 7
    assert [row[0] for row in tables["Styles"][2:]] == ["odd"]
    assert text.startswith("# Evaluation of keywords-1\n")


def test_render_markdown_without_consistency_has_no_such_section(content: dict[str, Any]) -> None:
    assert "## Consistency" not in render_markdown({**content, "consistency": None})


class Outline(HTMLParser):
    """Collects tags and checks that each is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]


def test_page_escapes_and_closes_everything() -> None:
    sections = [Section("A & B", "1 < 2", Table(("x", "<y>"), [("a", "b&c")]), "risk")]
    text = page("T", sections, {"risk": "<svg></svg>"})
    outline = Outline()
    outline.feed(text)
    assert not outline.open
    assert "svg" in outline.seen
    assert "<td>b&amp;c</td>" in text
    assert "<h2>A &amp; B</h2>" in text


def test_markdown_words_stand_on_the_left() -> None:
    text = markdown("T", [Section("S", table=Table(("x", "y"), [("a", "b")], numbers=False))])
    assert "| --- | --- |" in text


def test_markdown_section_without_table_is_text_alone() -> None:
    assert markdown("T", [Section("S", "words")]) == "# T\n\n## S\n\nwords\n"


@pytest.mark.skipif(has_matplotlib(), reason="matplotlib is installed")
def test_write_without_matplotlib_leaves_json_and_markdown(tmp_path: Path) -> None:
    evaluation = measure(KeywordScorer(), [Prompt("tenant", "law")], options=Options(perturbed=0))
    with pytest.raises(MissingExtraError, match=r'matplotlib is not installed.*pip install "pointsman\[train\]"'):
        evaluation.write(tmp_path / "new")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"evaluation.json", "report.md"}
    assert json.loads((tmp_path / "new" / "evaluation.json").read_text())["artifact"] == "keywords-1"


@pytest.mark.skipif(not has_matplotlib(), reason="needs matplotlib, in the train extra")
def test_write_with_matplotlib_leaves_three_files(tmp_path: Path) -> None:
    evaluation = measure(KeywordScorer(), [Prompt("tenant", "law")], options=Options(perturbed=0))
    assert [path.name for path in evaluation.write(tmp_path)] == ["evaluation.json", "report.md", "report.html"]
    assert all(path.stat().st_size > 500 for path in tmp_path.iterdir())


@pytest.mark.skipif(not has_matplotlib(), reason="needs matplotlib, in the train extra")
def test_plots_are_sound_svg_that_show_the_figures(content: dict[str, Any]) -> None:
    drawn = plots(content)
    assert set(drawn) == PICTURES
    for name, picture in drawn.items():
        root = ElementTree.fromstring(picture)
        assert root.tag.endswith("svg")
        assert root.get("aria-label") == name
    assert all(f">{label}<" in drawn["confusion"] for label in content["labels"])
    assert plots(content) == drawn


@pytest.mark.skipif(not has_matplotlib(), reason="needs matplotlib, in the train extra")
def test_render_html_is_one_page_with_four_pictures_and_no_repeated_id(content: dict[str, Any]) -> None:
    outline = Outline()
    outline.feed(render_html(content))
    assert not outline.open
    assert outline.seen.count("svg") == 4
    assert len(set(outline.ids)) == len(outline.ids)
    assert not {"script", "link", "img"} & set(outline.seen)


CARD = {
    "name": "default",
    "labels": ["law", "math"],
    "max_tokens": 128,
    "bases": [{"model": "tiny-encoder", "licence": "MIT", "sha256": "abc"}],
    "training": {
        "data_sha256": "d4",
        "prompts": {"hand-written": 10},
        "held_out_sources": ["bbh"],
        "sources": [{"source": "mmlu", "rows": 5, "licence": "MIT"}],
    },
    "added": ["cooking"],
    "tiers": ["fast", "deep"],
    "calibration": {"first": 1.1, "pair": [0.5, 0.5], "foreign_ratio": None},
    "thresholds": {"confidence": {"law": 0.7}, "default_confidence": 0.5, "margin": 0.1},
    "command": "pointsman train prompts/",
    "libraries": {"numpy": "2.4"},
}


def test_model_card_says_where_everything_comes_from(content: dict[str, Any]) -> None:
    text = model_card(CARD, content)
    tables = tables_of(text)
    assert tables["Base models"][2] == ["tiny-encoder", "MIT", "abc"]
    assert tables["Training data"][2] == ["mmlu", "5", "MIT"]
    assert tables["Figures"][2][0] == "this classifier"
    assert "- confidence for law: 0.7\n" in text
    assert "into 3 domains: law, math, cooking (added after training: cooking)." in text
    assert "Calibration: first 1.1, pair [0.5, 0.5].\n" in text
    assert "Tiers, the fastest first: fast, deep." in text
    assert "$ pointsman train prompts/\n" in text
    assert "held out whole, only measured on: bbh" in text


def test_model_card_bare_card_says_what_is_not_stated(content: dict[str, Any]) -> None:
    text = model_card({"base": {"model": "x"}}, content)
    assert tables_of(text)["Base models"][2] == ["x", "not stated", "not stated"]
    assert "## Training data\n\nnot stated\n" in text
    assert "- default confidence: 0.55\n" in text


def test_weak_spots_name_the_worst_and_nothing_above_average(content: dict[str, Any]) -> None:
    spots = weak_spots(content)
    assert "source tales: accuracy 0.0 % of 25 prompts" in spots
    assert "language fr: accuracy 0.0 % of 25 prompts" in spots
    assert "law taken for math: 25 prompts" in spots
    assert not [spot for spot in spots if spot.startswith("source odd")]
