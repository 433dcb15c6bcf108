"""What one decision costs: estimates, eligibility and policy for six experts and nine domains, without scoring.

    python deploy/benchmarks/decision.py [--rounds 7]

Rounds of all policies are interleaved; medians are shown, with the spread. One thread, no network.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gateway import catalog as catalogs
from gateway import policies
from gateway.eligibility import Demand, eligible
from gateway.estimates import Estimator
from gateway.health import Fleet
from gateway.metrics import Metrics
from gateway.pace import Pace
from gateway.settings import Settings
from gateway.types import Endpoint, Grant, RoutingInput
from gateway.upstream import UpstreamClient
from router import DomainScores, Features, QualityTable, Thresholds

LABELS = ("math", "coding", "health", "science", "law", "finance", "humanities", "writing", "general")
SPECIALISTS = LABELS[:5]
CALLS = 5_000


def settings() -> Settings:
    """A generalist and five specialists."""
    price = {"input": 0.1, "output": 0.2}
    experts = {
        name: {"model": name, "upstreams": [f"http://127.0.0.1:{9000 + number}"], "domains": [name], "price": price}
        for number, name in enumerate(SPECIALISTS, 1)
    }
    generalist = {"model": "g", "upstreams": ["http://127.0.0.1:9000"], "price": price, "context_length": 32_768}
    return Settings.model_validate({"generalist": generalist, "experts": experts})


def quality_csv(folder: Path) -> str:
    """Every specialist is a little better in its own domain."""
    lines = ["domain,expert,score,count"]
    for domain in LABELS:
        lines.append(f"{domain},generalist,0.7,1000")
        lines += [f"{domain},{name},{0.8 if name == domain else 0.6},1000" for name in SPECIALISTS]
    path = folder / "quality.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def decider(name: str, folder: Path) -> Callable[[], object]:
    """Return a call that decides once by the policy `name`."""
    config = settings()
    catalog = catalogs.build(config)
    fleet = Fleet(catalog, UpstreamClient(), Metrics(), config.health, config.timeouts)
    estimator = Estimator(
        catalog,
        LABELS,
        QualityTable.load(quality_csv(folder), experts=tuple(catalog.experts), labels=LABELS),
        Pace(),
        300,
    )
    policy, grant, demand = policies.load(name, {}), Grant(), Demand(Endpoint.CHAT, tokens=700)
    probabilities = np.full(len(LABELS), 0.01, dtype=np.float32)
    probabilities[1] = 0.92
    scores = DomainScores(LABELS, probabilities, 0.2, 0.0)
    features, thresholds = Features(text="x", turns=1, token_estimate=200), Thresholds()

    def decide() -> object:
        everybody = estimator.estimate(scores, 200, 500, 1, stream=True)
        candidates, excluded = eligible(everybody, demand, grant, fleet)
        reference = estimator.reference(everybody)
        return policy.choose(RoutingInput(features, scores, catalog, thresholds, candidates, reference, excluded))

    return decide


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in policies.names()}
    with tempfile.TemporaryDirectory() as folder:
        deciders = {name: decider(name, Path(folder)) for name in times}
        for _ in range(rounds):
            for name, decide in deciders.items():
                started = time.process_time()
                for _ in range(CALLS):
                    decide()
                times[name].append((time.process_time() - started) / CALLS * 1e6)
    print("| policy | us per decision, median | least to most |\n|---|---|---|")
    for name, found in times.items():
        print(f"| `{name}` | {statistics.median(found):.1f} | {min(found):.1f} to {max(found):.1f} |")


if __name__ == "__main__":
    main()
