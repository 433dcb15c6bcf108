"""Sentences, rules and stages of stored requests: only what is stored is used, and what is missing is said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admin.decided import Family, family_of, matrix_of
from gateway.admin.journey import stages
from gateway.admin.record_rows import as_row, fits
from gateway.admin.why import checks, experts, sentence
from gateway.stores.records.filters import RecordFilter
from gateway.stores.records.sums import Sum
from gateway.stores.records.tables import SUMS
from gateway.types import Reason
from tests.stores.samples import record


def row(**changes: Any) -> dict[str, Any]:
    limits = {"minimum_margin": 0.1, "maximum_out_of_domain": 0.95, "maximum_disagreement": 1.0}
    scores = {"scores": {"math": 0.52, "science": 0.47, "law": 0.01}}
    return as_row(record(**{**limits, **scores, **changes}))


GENERAL = {"decided": "generalist", "chosen": "generalist"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"reason": "low_confidence", "confidence": 0.48, "threshold": 0.55, **GENERAL},
            "The generalist was chosen: the classifier was not sure enough. Its best domain, math, had a probability "
            "of 0.48, and 0.55 is needed.",
        ),
        (
            {"reason": "small_margin", "margin": 0.05, **GENERAL},
            "The generalist was chosen: the two best domains, math and science, were only 0.05 apart, and 0.10 is "
            "needed.",
        ),
        (
            {"reason": "out_of_domain", "out_of_domain": 0.9876, **GENERAL},
            "The generalist was chosen: the prompt is unlike what the classifier was trained on. Its out-of-domain "
            "score was 0.9876, and at most 0.95 is allowed.",
        ),
        (
            {"reason": "unhealthy", "excluded": {"math": "unhealthy", "law": "forbidden"}, **GENERAL},
            "The generalist was chosen: the prompt is about math, but the expert math could not take it, because no "
            "server of it was up.",
        ),
        (
            {"reason": "expected_quality", "estimates": {"generalist": (0.71, 2e-4), "math": (0.68, 1e-4)}, **GENERAL},
            "The generalist was chosen: policy balanced expected the most of it: quality 0.71 against 0.68 of the "
            "expert math.",
        ),
        (
            {"reason": None, "decided": None, "chosen": None, "error": "invalid_api_key", "status": 401},
            "Refused before anything was decided: invalid api key.",
        ),
        (
            {"chosen": None, "error": "upstream_timeout", "status": 504},
            "The expert math was chosen: the classifier was sure that the prompt is about math (probability 0.91, at "
            "least 0.50 is needed), and this is the expert for it. No expert answered (upstream timeout).",
        ),
        ({"reason": "of_a_later_version"}, "The expert math was chosen: of a later version."),
    ],
)
def test_sentence_says_who_and_why_with_the_figures_compared(changes: dict[str, Any], expected: str) -> None:
    assert sentence(row(**changes)) == expected


def test_expert_that_failed_is_told_with_its_error() -> None:
    tries = [{"outcome": "upstream_timeout"}, {"outcome": "ok"}]
    told = sentence(row(chosen="generalist"), tries)
    assert told.endswith("It failed: upstream timeout, so the generalist answered.")


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_words_of_its_own(reason: Reason) -> None:
    told = sentence(row(reason=reason.value, **GENERAL))
    assert "_" not in told
    assert not told.endswith(f": {reason.value.replace('_', ' ')}."), "only its code"
    assert family_of(reason.value) is not Family.UNDECIDED


def test_row_of_an_older_version_is_told_without_what_it_lacks() -> None:
    older = {name: None for name in row()} | {"reason": "small_margin", "decided": "generalist", "domain": "math"}
    told = sentence({**older, "chosen": "generalist", "margin": 0.03})
    assert told.endswith("only 0.03 apart, and (not stored) is needed.")
    assert checks(older) == []
    assert stages(older) == []
    old = checks({**row(), "minimum_margin": None})
    assert [check.passed for check in old] == [True, None, True, None]


def test_rule_that_decided_has_failed_however_its_figures_were_rounded() -> None:
    found = {check.reason: check for check in checks(row(reason="low_confidence", confidence=0.55, threshold=0.55))}
    assert (found["low_confidence"].passed, found["low_confidence"].decided) == (False, True)
    assert (found["small_margin"].passed, found["out_of_domain"].passed) == (True, True)


def test_experts_are_those_that_were_looked_at_with_what_became_of_them() -> None:
    estimates = {"generalist": (0.7, 2e-4), "math": (0.8, 1e-4), "law": (0.9, 1e-4)}
    found = experts(row(estimates=estimates, excluded={"law": "forbidden"}, chosen="generalist"))
    assert [(one.name, one.excluded, one.decided, one.answered) for one in found] == [
        ("math", None, True, False),
        ("generalist", None, False, True),
        ("law", "forbidden", False, False),
    ]


def test_stages_follow_one_another_and_failed_tries_are_marked() -> None:
    tries = [
        {"n": 1, "expert": "math", "outcome": "upstream_timeout", "began_s": 0.003, "took_s": 0.1},
        {"n": 2, "expert": "generalist", "outcome": "ok", "began_s": 0.103, "took_s": 0.2},
    ]
    found = stages(row(receive_s=0.001, overhead_s=0.002, time_to_first_byte_s=0.31, output_tokens=10), tries)
    assert [(stage.name, stage.kind) for stage in found] == [
        ("received", "client"),
        ("classified", "own"),
        ("decided", "own"),
        ("math, try 1", "failed"),
        ("generalist, try 2", "expert"),
        ("answer sent", "expert"),
    ]
    assert found[-1].end_s == pytest.approx(0.5)
    assert "19 ms for each token" in found[-1].note


NUMBER = st.one_of(st.none(), st.floats(0, 1e6))


@given(duration=NUMBER, receive=NUMBER, overhead=NUMBER, classify=NUMBER, first=NUMBER, attempts=st.integers(0, 3))
def test_stages_never_run_backwards(
    duration: float, receive: float, overhead: float, classify: float, first: float, attempts: int
) -> None:
    times = {"duration_s": duration, "receive_s": receive, "overhead_s": overhead, "classify_s": classify}
    for stage in stages({**row(), **times, "time_to_first_byte_s": first, "attempts": attempts}):
        assert stage.start_s >= 0
        assert stage.took_s >= 0


def test_matrix_adds_up_and_puts_what_is_missing_last() -> None:
    def cell(domain: str, chosen: str, requests: int) -> Sum:
        return Sum(None, (domain, chosen), {**dict.fromkeys(SUMS, 0.0), "requests": requests})

    matrix = matrix_of([cell("", "", 90), cell("law", "generalist", 5), cell("math", "math", 8), cell("math", "", 2)])
    assert (matrix.rows, matrix.columns) == (["math", "law", ""], ["generalist", "math", ""])
    assert sum(matrix.row_total(name) for name in matrix.rows) == 105
    assert sum(matrix.column_total(name) for name in matrix.columns) == 105
    assert [matrix.level("math", name) for name in matrix.columns] == [0, 5, 2]


@pytest.mark.parametrize(
    ("wanted", "changes", "expected"),
    [
        ({"domain": "math"}, {}, True),
        ({"domain": "-"}, {}, False),
        ({"domain": "-"}, {"domain": None}, True),
        ({"status_class": 5}, {"status": 503}, True),
        ({"status": 200, "stream": True}, {}, False),
        ({"confidence_from": 0.9, "confidence_below": 0.95}, {}, True),
        ({"confidence_below": 0.5}, {"confidence": None}, False),
        ({"failed_over": True}, {"attempts": 2}, True),
        ({"not_chosen": "generalist"}, {}, True),
        ({"not_chosen": "generalist"}, {"chosen": None}, False),
    ],
)
def test_live_rows_are_filtered_as_the_store_does(wanted: Any, changes: Any, expected: bool) -> None:
    assert fits(RecordFilter(**wanted), row(**changes)) is expected
