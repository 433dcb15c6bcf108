"""Finding keys: which let in, which do not, and that neither time nor memory tells of others. No socket, real files."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway import grants
from gateway.keyring import Keyring, make, read_access
from gateway.settings import KeySettings, Settings
from gateway.stores.keys import KeyRow, KeyStore, SecretRow, Space, Stored
from gateway.stores.keys.sqlite import SqliteKeys
from gateway.types import Endpoint, Grant

NOW = 1_000.0
GENERALIST = {"model": "g", "upstreams": ["http://127.0.0.1:1"]}


def stored(*keys: tuple[KeyRow, SecretRow]) -> Stored:
    return Stored("m", tuple(key for key, _ in keys), tuple(secret for _, secret in keys))


def a_key(
    name: str = "a", space: Space = Space.KEY, terms: str = "{}", **fields: float | None
) -> tuple[str, tuple[KeyRow, SecretRow]]:
    """Make a key. Returns its secret and its rows."""
    made = make(space)
    key = replace(KeyRow(made.prefix, space, name, terms, 0.0), **fields)  # type: ignore[arg-type]  # times only
    return made.token, (key, made.row(0.0))


def ring(*keys: tuple[KeyRow, SecretRow], named: dict[str, Grant] | None = None, now: float = NOW) -> Keyring:
    found = Keyring({grants.digest(key): grant for key, grant in (named or {}).items()}, lambda: now)
    found.change_stored(read_access(stored(*keys)))
    return found


def test_made_keys_have_their_space_a_prefix_and_190_bits() -> None:
    made = [make(space) for space in Space for _ in range(200)]
    assert len({one.token for one in made}) == len({one.prefix for one in made}) == 400
    for one in made:
        word, prefix, secret = one.token.split("-")
        assert word in ("pm", "pma")
        assert (prefix, len(prefix), len(secret)) == (one.prefix, 8, 32)
        assert secret.isalnum()
        assert secret.isascii()
        assert secret not in repr(one)


def test_stored_key_lets_in_with_all_its_terms() -> None:
    terms = (
        '{"experts":["math"],"policies":["modem"],"policy":"modem","endpoints":["chat"],"price_cap":1.0,'
        '"daily_budget":2.0,"monthly_budget":3.0,"requests_per_minute":4,"tokens_per_minute":5,'
        '"concurrent_requests":6,"tags":["x","y"]}'
    )
    token, key = a_key(terms=terms, expires_at=NOW + 1)
    assert ring(key).find(token) == Grant(
        name="a",
        experts=frozenset({"math"}),
        policies=frozenset({"modem"}),
        policy="modem",
        price_cap=1.0,
        daily_budget=2.0,
        endpoints=frozenset({Endpoint.CHAT}),
        expires_at=NOW + 1,
        rpm=4,
        tpm=5,
        concurrent=6,
        monthly_budget=3.0,
        tags=("x", "y"),
    )


@pytest.mark.parametrize(
    "over",
    [
        {"expires_at": NOW},
        {"expires_at": NOW - 1},
        {"revoked_at": NOW + 5},
        {"revoked_at": 0.0},
        {"expires_at": float("nan")},
        {"expires_at": float("-inf")},
    ],
)
def test_key_that_is_over_lets_nobody_in(over: dict[str, float]) -> None:
    token, key = a_key(**over)  # type: ignore[arg-type]  # times only
    assert ring(key).find(token) is None


def test_key_ends_at_its_time_without_a_look_at_the_store() -> None:
    token, key = a_key(expires_at=NOW)
    now = [NOW - 1]
    found = Keyring({}, lambda: now[0])
    found.change_stored(read_access(stored(key)))
    assert found.find(token) is not None
    now[0] = NOW
    assert found.find(token) is None
    assert len(found) == 0


@pytest.mark.parametrize(
    "terms",
    ["", "[]", "null", '{"experts": "all"}', '{"future_limit": 1}', '{"policy": "no-such-policy"}', "{" * 50_000],
)
def test_terms_that_cannot_be_read_let_nobody_in(terms: str) -> None:
    token, key = a_key(terms=terms)
    good, other = a_key("b")
    found = ring(key, other)
    assert found.find(token) is None
    assert found.find(good) is not None


def test_admin_token_is_no_key_even_if_the_settings_say_so() -> None:
    token, key = a_key("boss", Space.ADMIN, '{"role":"admin"}')
    assert ring(key).find(token) is None
    assert ring(key, named={token: Grant("smuggled")}).find(token) is None


def test_revoked_key_stays_revoked_even_if_the_settings_have_it() -> None:
    token, key = a_key(revoked_at=1.0)
    assert ring(key, named={token: Grant("env")}).find(token) is None


def test_stored_key_with_the_name_of_one_in_the_settings_opens_nothing() -> None:
    token, key = a_key("team")
    found = ring(key, named={"their-own-key": Grant("team", price_cap=0.1)})
    assert found.find(token) is None
    assert found.find("their-own-key") == Grant("team", price_cap=0.1)
    found.change_named({})
    assert found.find(token) is not None


def test_rotated_key_lets_in_with_both_secrets_until_the_grace_is_over() -> None:
    token, (key, secret) = a_key()
    new = make(Space.KEY)
    secrets = (replace(secret, expires_at=NOW), SecretRow(new.digest, key.id, new.prefix, 1.0))
    now = [NOW - 1]
    found = Keyring({}, lambda: now[0])
    found.change_stored(read_access(Stored("m", (key,), secrets)))
    assert found.find(token) == found.find(new.token) == Grant("a")
    now[0] = NOW
    assert (found.find(token), found.find(new.token)) == (None, Grant("a"))


def test_use_is_noted_for_stored_keys_that_let_in_and_taken_once() -> None:
    (token, key), (gone, other) = a_key(), a_key("b", revoked_at=1.0)
    found = ring(key, other, named={"plain": Grant("c")})
    for one in (token, gone, "plain", "unknown"):
        found.find(one)
    assert found.take_used() == {key[0].id: NOW}
    assert found.take_used() == {}


def test_ring_is_required_with_keys_or_with_a_store_that_has_none() -> None:
    assert not Keyring({}).required
    assert Keyring({grants.digest("k"): Grant("k")}).required
    locked = Keyring({})
    locked.lock()
    assert locked.required
    assert locked.find("anything") is None


@given(st.binary(max_size=200) | st.text(st.characters(), max_size=100))
def test_no_other_token_is_found(token: bytes | str) -> None:
    assert ONE.find(token) is None


TOKEN, KEY = a_key()
ONE = ring(KEY)


@given(st.integers(0, len(TOKEN) - 1), st.characters(min_codepoint=33, max_codepoint=126))
def test_one_other_character_is_another_key(place: int, character: str) -> None:
    token = TOKEN[:place] + character + TOKEN[place + 1 :]
    assert (ONE.find(token) is not None) == (token == TOKEN)


@pytest.mark.parametrize(  # The key is another one in every process; names of tests must not be.
    "token",
    ["", " ", TOKEN + " ", TOKEN.upper(), TOKEN[:-1], TOKEN * 2, f"Bearer {TOKEN}"],
    ids=("empty", "blank", "blank_behind", "capitals", "cut", "twice", "with_scheme"),
)
def test_near_misses_are_not_found(token: str) -> None:
    assert ONE.find(token) is None


def ten_thousand(tmp_path: Path) -> tuple[KeyStore, list[str]]:
    """A real file with 10,000 keys, filled in one transaction."""
    database = SqliteKeys(str(tmp_path / "keys.db"))
    tokens = []
    with database.writing() as session:
        for number in range(10_000):
            token, (key, secret) = a_key(f"k{number}", terms=f'{{"tags":["t{number % 50}"]}}')
            tokens.append(token)
            values = (key.id, "key", key.name, key.terms, key.created_at)
            session.run("INSERT INTO access_key (id, space, name, terms, created_at) VALUES (?, ?, ?, ?, ?)", values)
            row = (secret.digest.hex(), secret.id, secret.prefix, secret.created_at)
            session.run("INSERT INTO access_secret (digest, id, prefix, created_at) VALUES (?, ?, ?, ?)", row)
    return KeyStore(database), tokens


def per_call_us(call: Callable[[], object], times: int = 3_000) -> float:
    """The best of a few rounds: what else the machine does only adds."""
    rounds = []
    for _ in range(7):
        started = time.perf_counter()
        for _ in range(times):
            call()
        rounds.append((time.perf_counter() - started) / times * 1e6)
    return min(rounds)


def test_ten_thousand_keys_are_read_fast_and_found_as_fast_as_one(tmp_path: Path) -> None:
    store, tokens = ten_thousand(tmp_path)
    started = time.perf_counter()
    access = read_access(store.load())
    seconds = time.perf_counter() - started
    found = Keyring({})
    found.change_stored(access)
    assert all(found.find(token) is not None for token in tokens)
    assert len(found) == 10_000
    assert seconds < 5
    assert per_call_us(lambda: found.find(tokens[5_000])) < 50  # about 2 on an idle core


def test_h4_wrong_prefix_and_wrong_secret_take_the_same_time() -> None:
    found = ring(*(a_key(f"k{number}")[1] for number in range(500)), KEY)
    wrong_secret, wrong_prefix = TOKEN[:-1] + "~", "pm-~~~~~~~~" + TOKEN[11:]
    gc.collect()
    differences = [
        per_call_us(lambda: found.find(wrong_secret), 300) - per_call_us(lambda: found.find(wrong_prefix), 300)
        for _ in range(15)
    ]
    assert abs(statistics.median(differences)) < 0.5, differences


def test_no_secret_is_in_memory_after_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    # Built at run time, so that no constant of this module holds it; the environment does, and is not looked at.
    secret = "-".join(["canary", "key", "of", "the", "environment"])
    monkeypatch.setenv("A_KEY", secret)
    found = Keyring(
        grants.build(
            Settings.model_validate(
                {"generalist": GENERALIST, "keys": {"a": {"key_env": "A_KEY"}}, "server": {"api_keys_env": None}}
            )
        )
    )
    assert found.find(secret) == Grant("a")
    assert secret not in repr([vars(found), [repr(entry) for entry in found._entries.values()]])


def test_key_in_the_settings_that_is_an_admin_token_too_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "one-and-the-same-secret-everywhere")
    settings = {
        "generalist": GENERALIST,
        "keys": {"a": {"key_env": "A_KEY"}},
        "admin": {"port": 0, "token_env": "A_KEY"},
    }
    with pytest.raises(grants.SameKey) as caught:
        grants.build(Settings.model_validate(settings))
    assert "everywhere" not in str(caught.value)


def test_store_closes_the_door_that_no_keys_would_leave_open() -> None:
    public: dict[str, object] = {"generalist": GENERALIST, "server": {"host": "0.0.0.0"}}
    with pytest.raises(grants.OpenDoor, match="key_store"):
        grants.refuse_open_door(Settings.model_validate(public))
    grants.refuse_open_door(Settings.model_validate(public | {"key_store": {"database": "keys.db"}}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoints": ["chats"]},
        {"requests_per_minute": 0},
        {"tags": ["a b"]},
        {"tags": ["x\n"]},
        {"daily_budget": -1},
        {"monthly_budget": float("nan")},
    ],
)
def test_terms_in_the_settings_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        KeySettings.model_validate({"key_env": "A_KEY", **wrong})
