"""What simulated callers say: our own prompts by the field they are about. Text only; nobody ever asked any of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

PROMPTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "math": (
            "What is the derivative of x^2 * sin(x)?",
            "Solve 3x + 5 = 20 and show each step.",
            "A fair coin is tossed ten times. How likely are exactly six heads?",
            "Prove that the square root of 3 is irrational.",
            "Find the eigenvalues of the matrix [[2, 1], [1, 2]].",
            "What is the sum of all whole numbers from 1 to 500?",
            "Integrate e^(2x) cos(x) from 0 to pi.",
            "How many ways are there to seat eight people at a round table?",
        ),
        "coding": (
            "Why does my React list render twice when the state changes?",
            "Write a Python function that merges two sorted lists without using sort.",
            "My Rust program says: borrowed value does not live long enough. What does that mean?",
            "How do I undo the last git commit but keep the changes?",
            "Explain the difference between a mutex and a semaphore, with an example in C.",
            "Write an SQL query for the three best-paid employees of every department.",
            "Docker says: no space left on device, but df shows 40 GB free. Where do I look?",
            "Review this: for (int i = 0; i <= n; i++) { a[i] = 0; }",
        ),
        "health": (
            "Which foods should I avoid while I take warfarin?",
            "My child has had a fever of 39 degrees for two days. When should we see a doctor?",
            "What do raised liver values in a blood test mean?",
            "How does insulin lower the level of sugar in the blood?",
            "Is it safe to take ibuprofen together with paracetamol?",
            "What are the first signs of a vitamin B12 deficiency?",
            "Which exercises help against pain in the lower back?",
        ),
        "law": (
            "Can my landlord keep my deposit because of scratches on the floor?",
            "What has to be in a contract for it to be valid?",
            "My employer dismissed me without notice. How long do I have to object?",
            "What is the difference between a patent and a trade mark?",
            "Does a handwritten will need witnesses?",
            "May a shop refuse to give my money back for a broken toaster?",
            "Who is liable when a guest slips on my stairs?",
        ),
        "finance": (
            "How does a rise in interest rates move the price of bonds?",
            "Explain the difference between a Roth IRA and a traditional IRA.",
            "What is a sensible share of stocks for somebody who retires in ten years?",
            "How is the internal rate of return of an investment worked out?",
            "What does a price-earnings ratio of 30 say about a company?",
            "Should I pay back my student loan early or invest the money in an index fund?",
        ),
        "science": (
            "Why is the sky blue and the sunset red?",
            "How do vaccines teach the immune system to recognise a virus?",
            "What happens to the pressure of a gas when it is heated in a closed vessel?",
            "Explain how a transistor amplifies a current.",
            "Why does ice float on water?",
            "How do astronomers measure the distance of a galaxy?",
        ),
        "humanities": (
            "What were the main causes of the First World War?",
            "What does Kant mean by the categorical imperative?",
            "How did the printing press change religion in Europe?",
            "Compare the Stoics and the Epicureans on pleasure.",
            "Who built the city of Petra, and why was it given up?",
        ),
        "writing": (
            "Write a short poem about a lighthouse in winter.",
            "Make this sentence sound friendlier: You have not paid your invoice.",
            "Give me an opening line for a mystery set on a night train.",
            "Draft an e-mail to my team: the release moves to Thursday.",
            "Rewrite as one sentence: We met. We talked. We agreed on nothing.",
        ),
        "general": (
            "Suggest three places for a rainy weekend with two small children.",
            "How do I get candle wax out of a carpet?",
            "What can I cook with lentils, carrots and half an onion?",
            "Which plants grow well in a dark bathroom?",
            "Plan a birthday party for a six-year-old who loves dinosaurs.",
            "How do I teach my dog to wait at the door?",
        ),
    }
)

FOREIGN = (
    "Kann mein Vermieter die Kaution behalten, wenn der Boden zerkratzt ist?",
    "¿Cuál es la derivada de x^2 por el seno de x?",
    "Pourquoi ma fonction Python renvoie-t-elle None ?",
    "Quali alimenti devo evitare se prendo anticoagulanti?",
    "為什麼冰會浮在水面上？",
    "Как решить уравнение 3x + 5 = 20?",
    "どの運動が腰の痛みに効きますか。",
)

# Short, mixed or of no field: what a classifier is unsure of.
ODD = (
    "hi",
    "???",
    "asdf asdf asdf",
    "Is it legal to prescribe morphine to my dog?",
    "Write a contract clause in Python.",
    "How much tax do I pay on the derivative of my portfolio?",
    "A nurse earns 31.50 an hour and works 37 hours. What is the week's pay before tax?",
    "tell me more",
    "\U0001f999\U0001f999\U0001f999",
    "The poem of the integral, as a legal opinion, please.",
)

FOLLOW_UPS = (
    "Can you explain that more simply?",
    "And what if it were the other way round?",
    "Give me an example, please.",
    "Are you sure?",
    "Make that shorter.",
)

COMMENTS = (
    "Exactly what I needed.",
    "That was about something else.",
    "Too long, but right.",
    "Wrong from the second step on.",
)
