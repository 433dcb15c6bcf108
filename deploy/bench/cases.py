"""What is measured: the cases, each a load that every arm gets. Starts no arm and computes no table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import bodies
import load
from arms import Arm
from bodies import Pace
from load import Load

CONNECTIONS = (1, 8, 32, 64)
LENGTHS_AT = 4
"""Connections at which prompts of a given length are sent."""
FULL = 15
"""Answers per connection from which on the requests that wrk leaves behind no longer count."""
LONGEST = 4.0
"""How many times longer a slow arm is measured at most."""
SHORT, LONG = Pace(4, 20), Pace(64, 20)
STREAMS = 32
STREAM_LIMIT_S = 60.0
MANY, MANY_STREAMS, MANY_RAMP_S = Pace(60, 100), 1000, 5.0


@dataclass(frozen=True, slots=True)
class Case:
    """One load: `length` names prompts of one length (`bodies.SIZES`), else the mixed ones; `pace` makes streams."""

    name: str
    connections: int
    length: str | None = None
    pace: Pace | None = None
    ramp_s: float = 0.0

    def send(self, arm: Arm, folder: Path, seconds: float, wrk: str | None) -> Load:
        """Send it to an arm for about so long.

        Raises:
            LoadFailed: the generator broke.
        """
        path = folder / f"{arm.name}-{self.name}.jsonl"
        if not path.is_file():
            prompts = bodies.mixed() if self.length is None else bodies.sized(bodies.SIZES[self.length])
            bodies.write(path, arm.model, prompts, self.pace)
        if self.pace is None:
            return load.plain(arm.target, path, self.connections, seconds, wrk)
        lasts_s = self.pace.chunks * self.pace.gap_ms / 1000
        each = 1 if self.ramp_s else max(1, round(seconds / lasts_s))
        plan = {"connections": self.connections, "each": each, "chunks": self.pace.chunks, "ramp_s": self.ramp_s}
        return load.client(arm.target, path, limit_s=STREAM_LIMIT_S, **plan)

    def seconds(self, seconds: float, answers_per_s: float) -> float:
        """Return how long to measure an arm that gives so many answers a second."""
        return max(seconds, min(LONGEST * seconds, FULL * self.connections / max(answers_per_s, 1.0)))


PLAIN = tuple(Case(f"c{connections}", connections) for connections in CONNECTIONS)
LENGTHS = tuple(Case(name, LENGTHS_AT, length=name) for name in bodies.SIZES)
STREAMED = (Case("short streams", STREAMS, pace=SHORT), Case("streams", STREAMS, pace=LONG))
CROWD = Case("1,000 streams", MANY_STREAMS, pace=MANY, ramp_s=MANY_RAMP_S)
SOAK = Case("soak", 8)
ROUND = (*PLAIN, *LENGTHS, *STREAMED)
