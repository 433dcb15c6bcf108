"""What samples of a vote are compared by: the same answer in other clothes is the same, prose is no number."""

import time
from fractions import Fraction

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.strategies._extract import Extract, extract

KINDS: tuple[Extract, ...] = ("auto", "number", "choice", "boxed", "json", "text")


@pytest.mark.parametrize(
    "text",
    [
        "4",
        "The answer is 4.",
        "The answer is 4.00",
        "**Answer:** 4",
        "2 + 2 = 4",
        r"so \boxed{4}",
        r"\boxed{ 4.0 }",
        r"\boxed{\text{4}}",
        "Step 1: 17 apples.\nStep 2: 13 are gone.\n\n4 apples are left.",
        "Antwort: 4",
        "答案是 4。",
        "The answer is: 4 (because 17 - 13 = 4)",
        "the final answer is $4$.",
    ],
)
def test_auto_ways_of_saying_four_agree(text: str) -> None:
    assert extract(text, "auto") == "number:4"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234,567", "1234567"),
        ("$1,234.50", "2469/2"),
        ("1{,}000", "1000"),
        ("12\u202f345 m", "12345"),
        ("-3", "-3"),
        ("\u22123", "-3"),
        ("-$5", "-5"),
        ("5-3", "3"),
        ("50%", "1/2"),
        (r"50\%", "1/2"),
        ("3/4", "3/4"),
        ("6/8", "3/4"),
        (r"\frac{1}{2}", "1/2"),
        (r"\dfrac{2}{4}", "1/2"),
        (".5", "1/2"),
        ("1.5e3", "1500"),
        ("about 25 cm^2", "25"),
        ("x^{3} is 8", "8"),
        ("H2O", None),
        ("version v1", None),
        ("1/0", None),
        ("1e999", None),
        ("9" * 100, None),
        ("none", None),
        ("", None),
        ("first 1, then 2, then 3.", "3"),
        ("not 7. The answer is 8, as 2 is even", "8"),
        ("\uff14\uff12", "42"),
    ],
)
def test_number_reads_the_last_one_in_lowest_terms(text: str, value: str | None) -> None:
    assert extract(text, "number") == (None if value is None else f"number:{value}")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("**B**", "B"),
        ("B.", "B"),
        ("B) Paris, because it is", "B"),
        ("The answer is B", "B"),
        ("The answer is (B), not (C).", "B"),
        ("Answer: **B**", "B"),
        ("The correct answer is option B.", "B"),
        (r"\boxed{B}", "B"),
        (r"\boxed{\text{(B)}}", "B"),
        ("I would pick option b here.", "B"),
        ("(A) is wrong\n(C) is wrong\nB", "B"),
        ("The answer is A because it is larger", "A"),
        ("A", "A"),
        ("A dog is an animal.", None),
        ("I think so", None),
        ("The answer is unknown", None),
        ("K", None),
    ],
)
def test_choice_reads_the_option_and_no_article(text: str, letter: str | None) -> None:
    assert extract(text, "choice") == (None if letter is None else f"choice:{letter}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"\boxed{x^2 + 1}", "boxed:x^2+1"),
        (r"\boxed{x^2+1}", "boxed:x^2+1"),
        (r"\boxed{\left( x , y \right)}", "boxed:(x,y)"),
        (r"\boxed{\frac{a}{b}}", r"boxed:\frac{a}{b}"),
        (r"\boxed{\dfrac{a}{b}}", r"boxed:\frac{a}{b}"),
        (r"first \boxed{1}, then \boxed{2}", "number:2"),
        (r"\boxed{unclosed", None),
        (r"\boxed{}", None),
        ("no box", None),
    ],
)
def test_boxed_reads_the_last_box_with_its_braces(text: str, value: str | None) -> None:
    assert extract(text, "boxed") == value


def test_json_key_order_spaces_and_fences_do_not_matter() -> None:
    plain = extract('{"a": 1, "b": [1.0, {"c": null}]}', "json")
    assert plain is not None
    assert extract('Here you are:\n```json\n{"b":[1,{"c":null}],\n "a":1}\n```\nDone.', "json") == plain
    assert extract('{"a": 2, "b": [1.0, {"c": null}]}', "json") != plain
    assert extract('{"a": 1, "b": [1.0, {"c": nul', "json") is None


def test_text_case_space_and_ends_do_not_matter() -> None:
    assert extract(" Paris.\n", "text") == extract("**paris**", "text") == "text:paris"
    assert extract("...", "text") is None


def test_auto_article_at_the_start_is_prose() -> None:
    assert extract("A dog is an animal", "auto") == "text:a dog is an animal"
    assert extract("Answer: A dog", "auto") == "text:a dog"


@given(st.text(), st.sampled_from(KINDS))
def test_extract_any_text_gives_a_kind_and_a_value_or_nothing(text: str, kind: Extract) -> None:
    found = extract(text, kind)
    if found is not None:
        label, _, value = found.partition(":")
        assert label in KINDS
        assert value
    assert extract(text, kind) == found


@given(st.fractions(max_denominator=1000).filter(lambda value: abs(value) < 10**12))
def test_number_written_as_a_fraction_is_read_back(value: Fraction) -> None:
    assert extract(f"The answer is {value}.", "auto") == f"number:{value}"
    assert extract(rf"\boxed{{{value}}}", "boxed") == f"number:{value}"


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9))
def test_number_written_with_and_without_separators_agrees(value: object) -> None:
    assert extract(f"It is {value:,}", "number") == extract(f"It is {value}", "number") != None  # noqa: E711


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("abcd"), JSON))
def test_json_order_of_keys_never_matters(value: dict[str, object]) -> None:
    turned = dict(reversed(value.items()))
    assert extract(orjson.dumps(value).decode(), "json") == extract(orjson.dumps(turned).decode(), "json") is not None


@pytest.mark.parametrize(
    "run",
    [" ", "*", "(", "{", "[", "$", "1", "1,", "1/", "9.", "answer    :    ", "answer", "A* ", "\\boxed{", "```\n"],
)
def test_extract_long_runs_cost_milliseconds(run: str) -> None:
    text = (run * 70_000)[:70_000]
    for kind in KINDS:
        started = time.perf_counter()
        extract(text, kind)
        # 9 ms at most where it was measured; a quadratic pattern would take minutes.
        assert time.perf_counter() - started < 1
