"""What a caller's key allows. A value only: it checks nothing, and holds no secret."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class Grant:
    """What a caller's key allows. `name` identifies the key in records; it is not the secret.

    Attributes:
        name: "" when the gateway is open.
        experts: names it may use; None means all.
        policies: policies it may ask for; None means all.
        policy: its own policy when the request names none.
        price_cap: most that one request of it may be expected to cost.
        daily_budget: most that it may spend in a day (UTC).
        endpoints: data-plane endpoints it may use (words of `Endpoint`); None means all.
        expires_at: when it ends, seconds since the epoch; None means never. `Keyring.find` looks at it.
        rpm: most requests in a minute.
        tpm: most tokens in a minute.
        concurrent: most requests at once.
        monthly_budget: most that it may spend in a calendar month (UTC).
        tags: the operator's own words for it.
    """

    name: str = ""
    experts: frozenset[str] | None = None
    policies: frozenset[str] | None = None
    policy: str | None = None
    price_cap: float | None = None
    daily_budget: float | None = None
    endpoints: frozenset[str] | None = None
    expires_at: float | None = None
    rpm: int | None = None
    tpm: int | None = None
    concurrent: int | None = None
    monthly_budget: float | None = None
    tags: tuple[str, ...] = ()


def draw_of(name: str) -> float:
    """Return a number from 0 to below 1 that is always the same for a name."""
    digest = blake2b(b"draw:" + name.encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 256**6
