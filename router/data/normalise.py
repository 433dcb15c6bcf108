"""Take exam, benchmark and agent scaffolding off a prompt, so that data sets teach topics and not their own frames.

Only training data passes through this; a prompt that is served is never changed by it. The other half is
`router.data.augment`, which puts varied frames back on.
"""

from __future__ import annotations

import re
from typing import Final

from router.text import clean, strip_harness

_FLAGS: Final = re.IGNORECASE | re.MULTILINE


def _any_of(*patterns: str) -> str:
    return "(?:" + "|".join(patterns) + ")"


_TEMPLATE_MARKS: Final = re.compile(
    _any_of(
        r"<\|?/?(?:im_start|im_end|begin_of_text|end_of_text|start_header_id|end_header_id|eot_id|endoftext|end)\|?>"
        r"(?:(?:user|assistant|system)\b)?",
        r"<\|(?:user|assistant|system)\|>",
        r"\[/?INST\]|<</?SYS>>|</?s>|<bos>|<eos>",
        r"<(?:start|end)_of_turn>(?:user|model)?",
    ),
    re.IGNORECASE,
)
_SECTION: Final = r"(?:instructions?|input|response|question|answer|problem|task|user|output)"
_BOILERPLATE: Final = re.compile(
    _any_of(
        r"below is an instruction that describes a task"
        r"(?:, paired with an input that provides further context)?\.?\s*",
        r"write a response that appropriately completes the request\.?\s*",
        rf"^\s*#{{1,4}} *{_SECTION} *:?[ \t]*$",
        rf"^\s*#{{2,4}} *{_SECTION} *:",
        r"you are (?:a|an) (?:[a-z]+,? (?:and )?){0,4}"
        r"(?:assistant|language model|chatbot)"
        r"(?: (?:that|who|which|for|designed|trained|created|specialised)\b[^.\n]{0,80})?"
        r"(?:\.(?=\s|$)\s*|$)",
        r"the following (?:is|are) (?:a |an )?(?:multiple[- ]choice )?questions?(?: \(with answers?\))?"
        r"(?: about [^.\n:]{1,80})?[.:]\s*",
        r"construct a function call to answer the given question using keyword arguments based on the provided "
        r"specifications:\s*",
    ),
    _FLAGS,
)
_REST: Final = r"[^.:\n?!]{0,80}"
_ANSWER_FORMATS: Final = re.compile(
    r"(?:(?<=[.?!:;\n)\]$。？])|^)[ \t]*"
    + _any_of(
        r"(?:please,? )?(?:answer|respond|reply|output|return|give|provide)(?: me)?(?: back)?(?: with| using| in)?"
        r"(?: only| just)?(?: with)? ?(?:the|a|an|your|one|single|exactly one)? ?"
        r"(?:correct |right |final |single |option'?s? )*"
        + _any_of(
            r"letter|option|choice|label",
            r"number of the (?:correct )?(?:option|answer)",
            r"\"?yes\"? ?(?:or|/) ?\"?no\"?|\"?true\"? ?(?:or|/) ?\"?false\"?",
            r"one word|single word",
            r"a, b, c(?:,? or d|, d(?:,? or e)?)",
        )
        + rf"\b(?! (?:to|of a|for) ){_REST}",
        r"(?:please )?(?:put|place|write|give|enclose|present|box|wrap|state|express)(?: your| the)? (?:final )?"
        r"answers?[^.\n]{0,20}\b(?:in|inside|within|as|using|between|after|on)\b[^\n.]{0,60}"
        r"(?:\\boxed *\{[^}\n]*\}|box|tags?|brackets|line|####|format)[^.\n]{0,40}",
        r"(?:the )?(?:last|final) line of your (?:response|answer) should be[^\n]{0,120}",
        r"(?:let'?s|let us|please|now,?)? ?(?:think|reason|work|solve)(?: it| this| the problem)?(?: through| out)?"
        r"(?: carefully)?,? step[- ]by[- ]step[^.\n]{0,80}",
        r"(?:please )?(?:show|explain) (?:all )?your (?:reasoning|work|working|thinking)(?: step[- ]by[- ]step)?"
        r"[^.\n]{0,30}",
        rf"take a deep breath{_REST}",
        rf"format your (?:response|answer|output) as{_REST}",
        r"(?:please )?(?:choose|select|pick|mark|indicate|tick|circle) (?:the|one|a|an|your)? ?(?:single )?"
        r"(?:best|correct|right|most (?:appropriate|likely))? ?"
        r"(?:answer|option|choice|letter|alternative|response|one)"
        rf"(?: (?:from|among|of|out of|below|given)\b{_REST})?",
        rf"(?:bitte )?(?:antworte|antworten sie) (?:bitte )?nur{_REST}",
        rf"(?:responde|responda) (?:solo|s[oó]lo|apenas|somente|únicamente) com?n?{_REST}",
        rf"(?:réponds|répondez) (?:uniquement|seulement){_REST}",
        r"只需(?:直接)?给出[^。\n:]{0,40}",
        r"请(?:直接)?(?:给出|选择)(?:正确)?(?:答案|选项)[^。\n:]{0,30}",
    )
    + r"(?:[.!:](?=\s|$)|[。：]|[ \t]*$)",
    _FLAGS,
)
_EXAMPLE_START: Final = re.compile(
    r"^[ \t]*(?:\*\*)?(?:question|problem|q|input|example question)(?: ?\d{1,3})?(?:\*\*)? ?[:.)](?:\*\*)?[ \t]*",
    _FLAGS,
)
_EXAMPLE_ANSWER: Final = re.compile(
    r"^[ \t]*(?:\*\*)?(?:answer|solution|a|output|response|(?:final|your) answer)(?: ?\d{1,3})?(?:\*\*)? ?:", _FLAGS
)
_OPENING_FRAME: Final = re.compile(
    r"\A\s*(?:\*\*)?"
    r"(?:question|problem|q|prompt|input|user|human|task|query|frage|pregunta|pergunta|domanda|вопрос|问题|問題)"
    r"(?: ?(?:no\.? ?)?\d{1,3})?(?:\*\*)? ?[:：](?:\*\*)?\s*",
    re.IGNORECASE,
)
_CLOSING_FRAME: Final = re.compile(
    r"(?:^|\n|(?<=[.?!)]))[ \t]*(?:\*\*)?"
    r"(?:answer|a|solution|response|output|assistant|ai|the answer is|(?:final|your|correct) answer"
    r"|antwort|respuesta|resposta|risposta|réponse|ответ|答案|回答)(?: is)?(?:\*\*)? ?[:：]?(?:\*\*)?\s*[(\[]?\s*\Z",
    re.IGNORECASE,
)
_OPTION_HEADER: Final = re.compile(
    r"^[ \t]*(?:the )?(?:answer |possible )?(?:options|choices|answers|alternatives)(?: are)?[ \t]*:[ \t]*", _FLAGS
)
_MARKER: Final = re.compile(
    r"(?:^[ \t]*|(?<=\s)|(?<=[.,;:?!]))(?:[(\[]([A-Ja-j]) ?[)\]]|([A-J]) ?[).:]|([a-j]) ?\)(?=\s))[ \t]*", re.MULTILINE
)
_MIN_INLINE_OPTIONS: Final = 3


def normalise(text: str) -> str:
    """Return `text` without scaffolding; when nothing else is left, the cleaned text itself.

    Taken off: agent blocks, chat-template marks, instruction boilerplate, solved examples before the last question,
    "Question:" and "Answer:" frames, sentences about the answer's format, and option letters (their words stay).
    """
    whole = clean(strip_harness(text))
    bare = _TEMPLATE_MARKS.sub("\n", whole)
    bare = _BOILERPLATE.sub("", bare)
    bare = _last_example(bare)
    bare = _ANSWER_FORMATS.sub("", bare)
    bare = _CLOSING_FRAME.sub("", _OPENING_FRAME.sub("", bare))
    bare = without_option_letters(_OPTION_HEADER.sub("", bare))
    bare = clean(bare)
    return bare if any(character.isalnum() for character in bare) else whole


def without_option_letters(text: str) -> str:
    """Put the options of a multiple-choice question on lines of their own, without their letters."""
    pieces: list[str] = []
    position = 0
    for marker in _option_run(text):
        pieces.append(text[position : marker.start()].rstrip(" \t,;"))
        position = marker.end()
    return "\n".join([*pieces, text[position:]])


def _option_run(text: str) -> list[re.Match[str]]:
    """Return the markers A, B, C... in order; none unless they look like options rather than prose."""
    run: list[re.Match[str]] = []
    for marker in _MARKER.finditer(text):
        if _letter(marker) == chr(ord("A") + len(run)):
            run.append(marker)
        elif _letter(marker) == "A" and len(run) < _MIN_INLINE_OPTIONS:
            run = [marker]
    at_line_starts = all(marker.start() == 0 or text[marker.start() - 1] == "\n" for marker in run)
    return run if len(run) >= (2 if at_line_starts else _MIN_INLINE_OPTIONS) else []


def _letter(marker: re.Match[str]) -> str:
    return next(group for group in marker.groups() if group).upper()


def _last_example(text: str) -> str:
    """Return the last question of a few-shot prompt: two or more questions, and the earlier ones answered."""
    starts = list(_EXAMPLE_START.finditer(text))
    if len(starts) < 2 or not _EXAMPLE_ANSWER.search(text, starts[0].end(), starts[-1].start()):
        return text
    return text[starts[-1].end() :]
