"""The rows of the fault table in our words, and what cannot be tested yet. Runs nothing; `table` fills it in."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SECTIONS: Mapping[str, str] = MappingProxyType(
    {
        "A": "Servers that fail",
        "B": "Clients that leave or dawdle",
        "C": "Bad input",
        "D": "Start, stop and change of the configuration",
        "E": "Stores",
        "F": "Classifier and policy",
        "G": "Load",
    }
)

CASES: Mapping[str, str] = MappingProxyType(
    {
        "A1": "connection refused: another server answers within 100 ms, counted; 503 when there is none",
        "A2": "connection swallowed (SYN dropped): left after `timeouts.connect_s`, then as A1",
        "A3": "server's name unknown: error `upstream_dns`, other servers untouched",
        "A4": "closed before headers: one further try, else 502 `upstream_reset`",
        "A5": "closed between headers and body: one clean answer from elsewhere",
        "A6": "dies within the stream, FIN or RST: error event, no `[DONE]`, no retry, tokens so far in the record",
        "A7": "silent before headers: given up after `first_token_s`, another expert or 504",
        "A8": "silent within the stream: error event after `idle_s`, connection to the server closed",
        "A9": "byte by byte: ends at `total_s`, memory flat",
        "A10": "malformed events: relayed as they are, nothing raises",
        "A11": "stream cut at any byte: the same bytes come out",
        "A12": "truncated JSON with status 200: 502, counts as a failure",
        "A13": "line without end: cut at `limits.event_bytes`, memory bounded",
        "A14": "web page with status 200: 502, never relayed",
        "A15": "content-length too small or too large: never a whole answer, connection not used again",
        "A16": "429 and 503 with `retry-after` in seconds or as a date: the server rests, its breaker stays closed",
        "A17": "500 five times: breaker opens, the next requests lose less than 5 ms, one probe, then back",
        "A18": "503 while a model loads: left alone, no storm of retries",
        "A19": "401 or 403: 502 `upstream_auth`, counted for an alert, no retry",
        "A20": "400 and other mistakes of clients: passed through, no effect on the breaker",
        "A21": "redirect: not followed, 502",
        "A22": "compressed bomb: not unpacked, 502",
        "A23": "reset of an idle connection: one further try, nobody notices",
        "A24": "all specialists down: the generalist answers; then that too: 503 within 50 ms",
        "A25": "`/health` is fine and generating fails: the breaker stays open",
        "A26": "flapping: ejected for longer each time, its share of traffic does not swing",
        "B1": "client leaves before the server's headers: generation stops within 1.5 s, record 499",
        "B2": "client leaves within the stream: the same, tokens so far in the record",
        "B3": "client does not read: the server is slowed down, little is buffered, cut after `client_write_s`",
        "B4": "request's head byte by byte: 408",
        "B5": "request's body byte by byte: 408",
        "B6": "half-closed connection: the answer still comes",
        "B7": "pipelined requests: answered in order, never mixed",
        "B8": "`expect: 100-continue` with too large a body: 413 without reading it",
        "B9": "idle connections are kept longer than a load balancer's 60 s",
        "C1": "body over the limit, with a length or in chunks: 413, memory flat",
        "C2": "nesting of thousands: 400 within 50 ms",
        "C3": "invalid UTF-8, UTF-16, byte order mark, lone surrogate: 400",
        "C4": "NaN, infinities, endless numbers: 400",
        "C5": "duplicate keys: forwarded as they were classified",
        "C6": "NUL, bidi, zero width, stacked accents, look-alikes: forwarded unchanged",
        "C7": "a million characters: a bounded part is classified",
        "C8": "messages missing, malformed, or thousands: 400 with `param`, or answered",
        "C9": "nothing to classify: the generalist, with a reason",
        "C10": "unknown, odd and huge model names: 404, never a metric's label",
        "C11": "`n`, `max_tokens`, `logprobs` and their like out of range: 400 before any server",
        "C12": "images, sound and files: only to experts that take them, never fetched here",
        "C13": "fields that reach into the server: 400 by name",
        "C14": "wrong method, path or content type: 405, 404, 415",
        "C15": "ambiguous framing, hosts and paths: 400",
        "C16": "header too long, too many, with underscores: 431 or 400",
        "C17": "fuzzing: no server error, no leak, nothing left behind",
        "D1": "SIGTERM with 200 streams: all end well or with an error event, exit 0",
        "D2": "second signal: ends at once",
        "D3": "SIGKILL and restart: back on its port, the store whole, at most a moment lost",
        "D4": "one of several processes is killed: replaced, sums go on",
        "D5": "reload of a wrong file: the old configuration stays, breakers and rests too",
        "D6": "half-written file, swapped symbolic link: never a partial configuration",
        "D7": "fifty reloads under traffic: the last valid one wins, no request lost",
        "D8": "expert removed under its streams: they end on the old configuration",
        "D9": "back to an earlier configuration",
        "D10": "clock jumps by an hour: limits, ejections and order of records stand",
        "D11": "start with servers down: starts, ready when one is up",
        "D12": "public address without keys: refuses to start",
        "D13": "older and newer file of a store: brought up to date, or refused with a clear line",
        "E1": "disk full: requests unaffected, drops counted, recovers",
        "E2": "file of records read-only, deleted, corrupt: moved aside or made anew, with an event",
        "E3": "PostgreSQL down at the start or meanwhile: served on, every row once",
        "E4": "slow store: requests wait for nothing",
        "E5": "shared limits' store down: limits of the process",
        "E6": "ten million rows: every page's query below 300 ms",
        "E7": "retention under load: memory and locks bounded",
        "E8": "reader holds a snapshot: the log's growth is bounded",
        "E9": "two gateways on one file: the second is refused",
        "F1": "classifier raises: the generalist, `scorer_error`; left alone after ten in a row",
        "F2": "classifier hangs: the generalist after the deadline, the event loop not held up",
        "F3": "classifier returns NaN, nothing, the wrong shape or labels: as F1",
        "F4": "artifact missing or damaged: that configuration is refused",
        "F5": "two thousand classifications at once: those in time are classified, all are answered",
        "F6": "the same prompt a thousand times, two gateways, a restart: the same decision",
        "F7": "tie, exact threshold, all scores equal: as documented",
        "F8": "conversation that changes its subject: stays or moves as configured",
        "F9": "prompts made to move the route: the rate is reported, a key's spending bounded",
        "G1": "ten thousand idle connections: little memory, the others not slower",
        "G2": "a thousand streams: no error, memory flat",
        "G3": "twice the capacity: goodput stays, the rest is refused within 20 ms, recovers",
        "G4": "short requests: the gateway adds less than 5 ms",
        "G5": "one noisy key: its limit trips, the others wait no longer",
        "G6": "one expert busy: the others not slower",
        "G7": "hours of random faults: no connection, task, place, memory or row is left",
        "G8": "dashboard open in fifty tabs: the data plane unchanged",
    }
)

NOT_YET: Mapping[str, str] = MappingProxyType(
    {
        "E6": "dashboard",
        "G8": "dashboard",
    }
)
"""Rows that no test can prove before something else exists."""

PARTLY: Mapping[str, str] = MappingProxyType(
    {
        "A26": "short form: 6 s of the 10 minutes; `make soak` has random outages",
        "D10": "not yet the dashboard's gap",
        "F9": "rate of the shipped classifier: the evaluation's report",
        "G2": "short form: 300 in one process; `make soak` for the memory's slope",
        "G3": "short form: 3 s",
        "G4": "one connection; under load: `make bench`",
        "G7": "short form; `make soak` for minutes or hours",
    }
)
"""What a row's tests leave out."""
