"""Makes the secrets of keys and admin tokens. Stores and shows none."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field

from gateway.grants import digest
from gateway.stores.keys import SecretRow, Space

# Neither `-` nor `_`: a double click takes the whole part, and no shell or address changes it.
_ALPHABET = string.ascii_letters + string.digits
_PREFIX_LENGTH = 8
_SECRET_LENGTH = 32
"""190 bits."""
_KINDS = ((Space.KEY, "pm"), (Space.ADMIN, "pma"))


@dataclass(frozen=True, slots=True)
class Made:
    """A new secret. `token` is shown once and kept nowhere.

    Attributes:
        token: `pm-PREFIX-SECRET`, or `pma-PREFIX-SECRET` for the admin side.
        prefix: 8 letters and digits that tell it from others; no secret.
        digest: SHA-256 of the token.
    """

    token: str = field(repr=False)
    prefix: str
    digest: bytes = field(repr=False)

    def row(self, now: float) -> SecretRow:
        """Return what a store keeps of it as a key's first secret.

        Args:
            now: seconds since the epoch.
        """
        return SecretRow(self.digest, self.prefix, self.prefix, now)


def make(space: Space) -> Made:
    """Make a secret for this space from the operating system's random numbers."""
    prefix, secret = _random(_PREFIX_LENGTH), _random(_SECRET_LENGTH)
    token = f"{dict(_KINDS)[space]}-{prefix}-{secret}"
    return Made(token, prefix, digest(token))


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
