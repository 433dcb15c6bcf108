"""Keys and admin tokens, in whichever database: the same statements for all. Makes no secret and judges none."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import structlog

from gateway.stores.keys.contract import (
    Database,
    KeyRow,
    NoSuchKey,
    SecretRow,
    Session,
    Space,
    Stored,
    StoreUnavailable,
)
from gateway.stores.sqlite import StoreError

log = structlog.get_logger(__name__)

NAME = "keys"
# Words that SQLite and PostgreSQL understand alike; digests are hexadecimal for the same reason.
STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE access_key (
            id TEXT PRIMARY KEY,
            space TEXT NOT NULL CHECK (space IN ('key', 'admin')),
            name TEXT NOT NULL,
            terms TEXT NOT NULL,
            created_at DOUBLE PRECISION NOT NULL,
            expires_at DOUBLE PRECISION,
            revoked_at DOUBLE PRECISION,
            last_used_at DOUBLE PRECISION,
            UNIQUE (space, name)
        )""",
        """CREATE TABLE access_secret (
            digest TEXT PRIMARY KEY CHECK (length(digest) = 64),
            id TEXT NOT NULL REFERENCES access_key (id),
            prefix TEXT NOT NULL UNIQUE,
            created_at DOUBLE PRECISION NOT NULL,
            expires_at DOUBLE PRECISION
        )""",
        "CREATE TABLE access_change (number INTEGER PRIMARY KEY CHECK (number = 1), mark TEXT NOT NULL)",
        "INSERT INTO access_change VALUES (1, 'new')",
    ),
)

_MARK = "SELECT mark FROM access_change"
_KEYS = (
    "SELECT id, space, name, terms, created_at, expires_at, revoked_at, last_used_at "
    "FROM access_key ORDER BY created_at, id"
)
_SECRETS = "SELECT digest, id, prefix, created_at, expires_at FROM access_secret ORDER BY created_at, digest"
_PUT_KEY = "INSERT INTO access_key (id, space, name, terms, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)"
_PUT_SECRET = "INSERT INTO access_secret (digest, id, prefix, created_at, expires_at) VALUES (?, ?, ?, ?, ?)"
_END_SECRETS = "UPDATE access_secret SET expires_at = ? WHERE id = ? AND (expires_at IS NULL OR expires_at > ?)"
_FIND = "SELECT id, expires_at, revoked_at FROM access_key WHERE space = ? AND name = ?"
_TOUCH = "UPDATE access_key SET last_used_at = ? WHERE id = ? AND (last_used_at IS NULL OR last_used_at < ?)"


class KeyStore:
    """Reads and writes keys. Every call opens the database anew and waits for it: not for the event loop.

    All methods raise what `Database` says, and what stands at them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def check(self) -> None:
        """Make sure that it can be used, and create what is not there; what may pass is no error here.

        Raises:
            StoreError: it cannot be used.
        """
        try:
            self.mark()
        except StoreUnavailable as error:
            log.warning("key_store_unavailable", error=str(error))

    def mark(self) -> str:
        """Return what is another one after every change; a look costs less than 1 ms in SQLite."""
        with self._database.reading() as session:
            return _mark(session)

    def load(self) -> Stored:
        """Read everything, 10,000 keys in about 0.2 s."""
        with self._database.reading() as session:
            # The mark first: what changes after it is seen at the next look.
            mark = _mark(session)
            keys, rows = session.run(_KEYS), session.run(_SECRETS)
        try:
            return Stored(mark, tuple(_key(*row) for row in keys), tuple(_secret(*row) for row in rows))
        except (TypeError, ValueError) as error:
            raise StoreError("the key store holds rows that this program does not write") from error

    def add(self, key: KeyRow, secret: SecretRow) -> None:
        """Keep a new key and its first secret.

        Raises:
            NameTaken: another one in its space has or had the name.
        """
        with self._database.writing() as session:
            session.run(_PUT_KEY, (key.id, key.space.value, key.name, key.terms, key.created_at, key.expires_at))
            _put(session, secret)
            _change(session)

    def rotate(
        self, space: Space, name: str, secret: SecretRow, *, grace_s: float, expires_at: float | None = None
    ) -> None:
        """Give a key a new secret; those it has are good for `grace_s` more, or less where they end before.

        Args:
            space: where the key is.
            name: the key's name.
            secret: the new one; its `id` is set here.
            grace_s: how long the old ones are good from the new one's creation on.
            expires_at: the key's new end; None leaves the one it has.

        Raises:
            NoSuchKey: no key has the name, or it was revoked or has ended.
        """
        now, until = secret.created_at, secret.created_at + grace_s
        with self._database.writing() as session:
            found = _find(session, space, name)
            if found[2] is not None:
                raise NoSuchKey(f"{name!r} was revoked; make another one")
            if expires_at is None and found[1] is not None and found[1] <= now:
                raise NoSuchKey(f"{name!r} has expired; say until when it is to be good")
            session.run(_END_SECRETS, (until, found[0], until))
            _put(session, SecretRow(secret.digest, found[0], secret.prefix, now, secret.expires_at))
            if expires_at is not None:
                session.run("UPDATE access_key SET expires_at = ? WHERE id = ?", (expires_at, found[0]))
            _change(session)

    def revoke(self, space: Space, name: str, now: float) -> bool:
        """End a key and all its secrets, for ever. Returns False when that was done before.

        Raises:
            NoSuchKey: no key has the name.
        """
        with self._database.writing() as session:
            found = _find(session, space, name)
            if found[2] is not None:
                return False
            session.run("UPDATE access_key SET revoked_at = ? WHERE id = ?", (now, found[0]))
            _change(session)
        return True

    def touch(self, used: Mapping[str, float]) -> None:
        """Note when keys were last used, by id; an earlier time than the one noted changes nothing."""
        if not used:
            return
        with self._database.writing() as session:
            # Always in the same order: two gateways that write at once wait for each other, and do not lock up.
            for identity, at in sorted(used.items()):
                session.run(_TOUCH, (at, identity, at))


def _key(identity: str, space: str, name: str, terms: str, created_at: float, *times: float | None) -> KeyRow:
    expires_at, revoked_at, last_used_at = map(_time, times)
    return KeyRow(str(identity), Space(space), str(name), str(terms), created_at, expires_at, revoked_at, last_used_at)


def _secret(digest: str, identity: str, prefix: str, created_at: float, expires_at: float | None) -> SecretRow:
    return SecretRow(bytes.fromhex(digest), str(identity), str(prefix), created_at, _time(expires_at))


def _time(value: float | None) -> float | None:
    return None if value is None else float(value)


def _mark(session: Session) -> str:
    return str(session.run(_MARK)[0][0])


def _change(session: Session) -> None:
    # Random, not a counter: a file that was put in the place of another has not counted as far by chance.
    session.run("UPDATE access_change SET mark = ?", (secrets.token_hex(16),))


def _put(session: Session, secret: SecretRow) -> None:
    session.run(_PUT_SECRET, (secret.digest.hex(), secret.id, secret.prefix, secret.created_at, secret.expires_at))


def _find(session: Session, space: Space, name: str) -> tuple[str, float | None, float | None]:
    rows = session.run(_FIND, (space.value, name))
    if not rows:
        raise NoSuchKey(f"there is no {name!r}")
    identity, expires_at, revoked_at = rows[0]
    return str(identity), expires_at, revoked_at
