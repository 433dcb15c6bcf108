"""Scaffolding goes, the ask stays: what data sets and benchmarks put around a prompt must not teach its label."""

from __future__ import annotations

import pytest

from router.data import normalise
from router.data.normalise import without_option_letters


@pytest.mark.parametrize(
    ("raw", "bare"),
    [
        ("What floats? Answer with the letter only.\n(A) iron (B) wood (C) lead", "What floats?\niron\nwood\nlead"),
        ("Name the capital.\nA. Lima\nB. Quito\nC. Bogotá\nAnswer:", "Name the capital.\nLima\nQuito\nBogotá"),
        ("how fast ?\nThe options: A ) 2 , B ) 3 , C ) 4", "how fast ?\n2\n3\n4"),
        ("Who may sue? a) the buyer b) the seller c) nobody", "Who may sue?\nthe buyer\nthe seller\nnobody"),
        ("Find x. Put your final answer in \\boxed{}.", "Find x."),
        ("3x = 9. Please reason step by step, and put your final answer within \\boxed{}.", "3x = 9."),
        ("How many apples are left? Let's think step by step.", "How many apples are left?"),
        ("Question: Who wrote it?\nAnswer:", "Who wrote it?"),
        ("Frage: Wer war das?\nAntwort:", "Wer war das?"),
        ("Answer with yes or no: is the sky blue?", "is the sky blue?"),
        ("Antworte nur mit dem Buchstaben. Was schwimmt?\nA) Eisen\nB) Holz", "Was schwimmt?\nEisen\nHolz"),
        ("Q: 1 + 1?\nA: 2\n\nQ: 3 + 4?\nA:", "3 + 4?"),
        ("The following are multiple choice questions (with answers) about law.\n\nWho sues?", "Who sues?"),
        ("[INST] <<SYS>> You are a helpful assistant. <</SYS>> Sort a list [/INST]", "Sort a list"),
        ("<|im_start|>user\nsort a list<|im_end|>\n<|im_start|>assistant", "sort a list"),
        ("<system-reminder>be brief</system-reminder>why is it red", "why is it red"),
        (
            "Below is an instruction that describes a task. Write a response that appropriately completes the "
            "request.\n\n### Instruction:\nSort a list\n\n### Response:",
            "Sort a list",
        ),
    ],
)
def test_normalise_takes_scaffolding_off(raw: str, bare: str) -> None:
    assert normalise(raw) == bare


@pytest.mark.parametrize(
    "text",
    [
        "Vitamin A. B. subtilis is a bacterium. Is it harmful?",
        "You are an assistant manager at a shop. A customer complains. What now?",
        "How do I answer with confidence in an interview?",
        "He worked through it step by step. What did he find?",
        "Explain step by step how bread rises",
        "Give me the option to sue.",
        "choose a letter font for a wedding invitation",
        "Find the minimum of (1 + a)(1 + b)(1 + c)(1 + d).",
        "Write a list:\n1. apples\n2. pears",
        "Plan A. or plan B. for Sunday?",
    ],
)
def test_normalise_leaves_ordinary_prompts_alone(text: str) -> None:
    assert normalise(text) == text


@pytest.mark.parametrize("text", ["Let's think step by step.", "???", "Answer:", "Question:", "A. B. C.", "hi"])
def test_normalise_never_empties_a_prompt(text: str) -> None:
    assert normalise(text) == text


def test_normalise_twice_changes_nothing_more() -> None:
    text = "Question: What floats? Choose the best answer.\n(A) iron (B) wood (C) lead\nAnswer:"
    assert normalise(normalise(text)) == normalise(text)


def test_without_option_letters_needs_letters_in_order() -> None:
    assert without_option_letters("x\nA) one\nC) two\nD) three") == "x\nA) one\nC) two\nD) three"
