"""The shipped classifier routes everyday prompts of each domain, written for this test and used nowhere else."""

from __future__ import annotations

import pytest

from router import Scorer, extract, extract_text, load_scorer

PROMPTS = {
    "math": (
        "A ladder 5 m long leans on a wall with its foot 3 m away. How high does it reach?",
        "prove that sqrt(7) is irrational",
        "whats the derivative of ln(x)/x",
        "If 8 painters need 6 days, how many days do 12 painters need?",
        "Calculate the determinant of [[2,1],[5,3]] and its inverse",
        "¿Cuál es la probabilidad de sacar dos ases seguidos de una baraja de 40 cartas?",
    ),
    "coding": (
        "why does my react useEffect run twice in dev mode",
        "Write a Python function that flattens a nested list without recursion",
        "git: undo the last two commits but keep my changes staged",
        "segfault when I free a linked list node in C, here is the code: while(n){free(n); n=n->next;}",
        "Explain the difference between a mutex and a semaphore with a Go example",
        "SQL query for the three highest paid employees per department",
    ),
    "health": (
        "can I take ibuprofen together with my blood pressure pills (ramipril)?",
        "My toddler has had a fever of 39.2 since yesterday and a rash on his belly",
        "what does a high TSH with normal T4 mean",
        "How long should I rest after a sprained ankle before running again?",
        "early signs of type 2 diabetes",
        "I can't sleep, heart racing at night, could it be anxiety or my thyroid",
    ),
    "science": (
        "Why do metals conduct electricity while glass does not?",
        "How do mitochondria make ATP?",
        "balance the reaction C3H8 + O2 -> CO2 + H2O",
        "What would happen to Earth's tides if the moon were twice as far away?",
        "how does crispr cut dna at the right place",
        "What is the difference between a black dwarf and a neutron star?",
    ),
    "law": (
        "My employer fired me while I was on parental leave. Is that legal in Germany?",
        "Is a verbal contract to sell a car binding?",
        "What must the prosecution prove for attempted burglary?",
        "landlord keeps my deposit for normal wear, what can i do",
        "Does fair use cover showing ten seconds of a film in my YouTube review?",
        "difference between a misdemeanor and a felony",
    ),
    "finance": (
        "Should I pay off a 6% student loan or put the money in an index fund?",
        "How is the yield to maturity of a bond different from its coupon?",
        "roth vs traditional ira if i expect a higher salary later",
        "What does a price to earnings ratio of 35 tell me about a stock?",
        "Explain how double-entry bookkeeping records a bank loan",
        "how much emergency savings before I start investing",
    ),
    "humanities": (
        "Why did the Weimar Republic fail?",
        "What does Kant mean by the categorical imperative?",
        "Who commissioned the Bayeux Tapestry and why?",
        "Compare the role of fate in Oedipus Rex and in the Iliad",
        "how did the silk road spread buddhism",
        "What was daily life like for a serf in 13th century France?",
    ),
    "writing": (
        "Write a short poem about the first snow in a small harbour town",
        "Rewrite this sentence so it sounds friendlier: Send me the report today.",
        "cover letter for a barista job, no experience, keep it under 150 words",
        "Draft a wedding toast from the bride's older brother, funny but kind",
        "Give me five slogans for a bakery that only sells sourdough",
        "Continue the story: The lighthouse keeper had not spoken for a year when the knock came.",
    ),
    "general": (
        "hey, how are you today?",
        "what can I cook with eggplant, rice and a can of tomatoes",
        "Plan a three-day trip to Lisbon with two kids",
        "recommend a board game for six people",
        "how do i get red wine out of a white tablecloth",
        "What's a good name for a grumpy orange cat?",
    ),
}
FLOOR = 0.85
FOLLOW_UPS = (
    ("math", "How many ways are there to arrange the letters of BANANA?", "6!/(3! 2!) = 60.", "and for PAPAYA?"),
    ("health", "Is it safe to take paracetamol with a cold?", "Yes, up to 4 g a day.", "what about for a child?"),
    ("coding", "How do I reverse a list in Python?", "Use my_list[::-1].", "and in place?"),
    ("law", "Can my landlord raise the rent during the lease?", "Only if the lease says so.", "and after it ends?"),
    ("science", "Why is the sky blue?", "Short wavelengths scatter more.", "and why red at sunset?"),
    ("finance", "What is an ETF?", "A fund traded like a share.", "are the fees lower?"),
)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return load_scorer()


def domain_of(scorer: Scorer, text: str) -> str:
    return scorer.score([text])[0].top()[0]


def test_default_artifact_knows_the_nine_domains_in_order(scorer: Scorer) -> None:
    assert scorer.labels == tuple(sorted(PROMPTS))


def test_default_artifact_routes_prompts_of_every_domain(scorer: Scorer) -> None:
    wrong = {
        prompt: (domain, got)
        for domain, prompts in PROMPTS.items()
        for prompt in prompts
        if (got := domain_of(scorer, extract_text(prompt).text)) != domain
    }
    total = sum(map(len, PROMPTS.values()))
    assert 1 - len(wrong) / total >= FLOOR, wrong


@pytest.mark.parametrize("domain", sorted(PROMPTS))
def test_default_artifact_gets_most_of_each_domain_right(scorer: Scorer, domain: str) -> None:
    right = sum(domain_of(scorer, extract_text(prompt).text) == domain for prompt in PROMPTS[domain])
    assert right >= 4


def test_default_artifact_follow_ups_are_read_in_context(scorer: Scorer) -> None:
    right = sum(domain_of(scorer, extract(chat(*turns)).text) == domain for domain, *turns in FOLLOW_UPS)
    alone = sum(domain_of(scorer, extract_text(turns[-1]).text) == domain for domain, *turns in FOLLOW_UPS)
    assert right >= 4
    assert right > alone


def chat(question: str, answer: str, follow_up: str) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": follow_up},
    ]


def test_default_artifact_harness_around_a_question_is_ignored(scorer: Scorer) -> None:
    wrapped = "<system-reminder>Use the bash tool, python 3.12, repo at /srv/app</system-reminder>Why did Rome fall?"
    assert domain_of(scorer, extract_text(wrapped).text) == "humanities"
