"""Admin tokens, sessions and the brake on trying them: who is let in, until when, and that nothing grows. No socket."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway import grants
from gateway.errors import Forbidden, Unauthenticated
from gateway.keyring import (
    AdminSessions,
    AdminTokens,
    Keyring,
    LoginThrottle,
    Principal,
    Role,
    Unauthorized,
    make,
    read_access,
)
from gateway.keyring.throttle import FORGET_S, FREE, GLOBAL_FREE, LONGEST_WAIT_S
from gateway.stores.keys import KeyRow, SecretRow, Space, Stored
from gateway.types import Grant

ADMIN, VIEWER = '{"role":"admin"}', '{"role":"viewer"}'


class Clock:
    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def rows(
    name: str, terms: str = ADMIN, space: Space = Space.ADMIN, expires_at: float | None = None
) -> tuple[str, KeyRow, SecretRow]:
    made = make(space)
    return made.token, KeyRow(made.prefix, space, name, terms, 0.0, expires_at), made.row(0.0)


def tokens_with(*made: tuple[str, KeyRow, SecretRow], clock: Clock | None = None) -> AdminTokens:
    tokens = AdminTokens({}, clock or Clock())
    tokens.change_stored(read_access(Stored("m", tuple(key for _, key, _ in made), tuple(s for _, _, s in made))))
    return tokens


def test_token_has_its_name_role_and_prefix() -> None:
    ada, vic = rows("ada"), rows("vic", VIEWER)
    tokens = tokens_with(ada, vic)
    assert tokens.find(ada[0]) == Principal("ada", Role.ADMIN, ada[2].prefix)
    assert tokens.find(vic[0]).role is Role.VIEWER
    assert tokens.take_used() == {ada[1].id: 1_000.0, vic[1].id: 1_000.0}


def test_roles_let_their_own_and_lower_pass() -> None:
    Principal("a", Role.ADMIN).require(Role.ADMIN)
    Principal("a", Role.ADMIN).require(Role.VIEWER)
    Principal("v", Role.VIEWER).require(Role.VIEWER)
    with pytest.raises(Forbidden) as caught:
        Principal("v", Role.VIEWER).require(Role.ADMIN)
    assert caught.value.code == "role_forbidden"


@given(st.text(st.characters(), max_size=60) | st.binary(max_size=60))
def test_h3_whatever_is_no_token_raises(token: str | bytes) -> None:
    for tokens in (AdminTokens({}), TOKENS):
        with pytest.raises(Unauthorized) as caught:
            tokens.find(token)
        assert isinstance(caught.value, Unauthenticated)
        assert caught.value.status == 401


TOKENS = tokens_with(rows("ada"))


@pytest.mark.parametrize(
    "terms", ["", "{}", "null", "[]", '"admin"', '{"role":"root"}', '{"role":null}', '{"role":["admin"]}']
)
def test_token_whose_role_cannot_be_read_raises(terms: str) -> None:
    bad = rows("bad", terms)
    with pytest.raises(Unauthorized):
        tokens_with(bad).find(bad[0])


def test_callers_key_opens_nothing_even_if_the_environment_has_it() -> None:
    key = rows("team", "{}", Space.KEY)
    tokens = tokens_with(key)
    tokens.change_fixed({grants.digest(key[0]): Principal("admin", Role.ADMIN)})
    with pytest.raises(Unauthorized):
        tokens.find(key[0])
    ring = Keyring({})
    ring.change_stored(read_access(Stored("m", (key[1],), (key[2],))))
    assert ring.find(key[0]) == Grant("team")


def test_token_of_the_environment_stays_when_the_store_changes() -> None:
    tokens = AdminTokens({grants.digest("from-the-environment-0123"): Principal("admin", Role.ADMIN)}, Clock())
    tokens.change_stored(None)
    found = tokens.find("from-the-environment-0123")
    assert (found.name, found.role) == ("admin", Role.ADMIN)
    assert tokens.current(found.id) == found
    tokens.change_fixed({})
    with pytest.raises(Unauthorized):
        tokens.current(found.id)


def test_token_ends_at_its_time() -> None:
    clock = Clock(99.0)
    ada = rows("ada", expires_at=100.0)
    tokens = tokens_with(ada, clock=clock)
    found = tokens.find(ada[0])
    clock.now = 100.0
    with pytest.raises(Unauthorized):
        tokens.find(ada[0])
    with pytest.raises(Unauthorized):
        tokens.current(found.id)


def test_session_is_found_until_it_is_closed() -> None:
    ada = rows("ada")
    tokens = tokens_with(ada)
    sessions = AdminSessions(tokens, clock=Clock())
    cookies = [sessions.open(tokens.find(ada[0])) for _ in range(3)]
    assert len(set(cookies)) == 3
    assert all(len(cookie) == 43 for cookie in cookies)  # 256 bits
    assert sessions.find(cookies[0]).name == "ada"
    sessions.close(cookies[0])
    sessions.close("none")
    with pytest.raises(Unauthorized):
        sessions.find(cookies[0])
    sessions.close_all(ada[2].prefix)
    assert len(sessions) == 0
    assert cookies[1] not in repr(vars(sessions))


@pytest.mark.parametrize("cookie", ["", "x", "é", "\0", "a" * 100_000])
def test_session_that_never_was_raises(cookie: str) -> None:
    with pytest.raises(Unauthorized):
        AdminSessions(TOKENS).find(cookie)


def test_h10_session_ends_with_its_token_and_has_the_role_of_now() -> None:
    ada = rows("ada")
    tokens = tokens_with(ada)
    sessions = AdminSessions(tokens, clock=Clock())
    cookie = sessions.open(tokens.find(ada[0]))
    lowered = KeyRow(ada[1].id, Space.ADMIN, "ada", VIEWER, 0.0)
    tokens.change_stored(read_access(Stored("n", (lowered,), (ada[2],))))
    assert sessions.find(cookie).role is Role.VIEWER
    revoked = KeyRow(ada[1].id, Space.ADMIN, "ada", VIEWER, 0.0, revoked_at=1.0)
    tokens.change_stored(read_access(Stored("o", (revoked,), (ada[2],))))
    with pytest.raises(Unauthorized):
        sessions.find(cookie)
    tokens.change_stored(read_access(Stored("m", (ada[1],), (ada[2],))))
    with pytest.raises(Unauthorized):
        sessions.find(cookie)  # what has ended does not come back


def test_h10_session_ends_when_its_token_is_rotated() -> None:
    ada, new = rows("ada"), make(Space.ADMIN)
    clock = Clock(50.0)
    tokens = tokens_with(ada, clock=clock)
    sessions = AdminSessions(tokens, clock=Clock())
    cookie = sessions.open(tokens.find(ada[0]))
    old = SecretRow(ada[2].digest, ada[1].id, ada[2].prefix, 0.0, expires_at=60.0)
    secrets = (old, SecretRow(new.digest, ada[1].id, new.prefix, 50.0))
    tokens.change_stored(read_access(Stored("n", (ada[1],), secrets)))
    assert sessions.find(cookie).name == "ada"
    clock.now = 60.0
    with pytest.raises(Unauthorized):
        sessions.find(cookie)
    assert tokens.find(new.token).name == "ada"


class Sessions(RuleBasedStateMachine):
    """Against a model: a session is good exactly until it is idle, old, closed, or pushed out."""

    idle_s, absolute_s, per_token, most = 10.0, 25.0, 3, 5

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.made = [rows(name) for name in "abc"]
        self.tokens = tokens_with(*self.made)
        self.sessions = AdminSessions(
            self.tokens,
            idle_s=self.idle_s,
            absolute_s=self.absolute_s,
            per_token=self.per_token,
            most=self.most,
            clock=self.clock,
        )
        # cookie: whose, opened, used; longest unused first.
        self.model: dict[str, tuple[str, float, float]] = {}

    def good(self) -> dict[str, tuple[str, float, float]]:
        now = self.clock.now
        return {
            cookie: (name, opened, used)
            for cookie, (name, opened, used) in self.model.items()
            if now - used < self.idle_s and now - opened < self.absolute_s
        }

    @rule(who=st.integers(0, 2))
    def open(self, who: int) -> None:
        self.model = self.good()
        principal = self.tokens.find(self.made[who][0])
        own = [cookie for cookie, (name, _, _) in self.model.items() if name == principal.name]
        if len(own) >= self.per_token:
            del self.model[own[0]]
        elif len(self.model) >= self.most:
            del self.model[next(iter(self.model))]
        self.model[self.sessions.open(principal)] = (principal.name, self.clock.now, self.clock.now)

    @rule(which=st.integers(0, 20))
    def use(self, which: int) -> None:
        if not self.model:
            return
        cookie = list(self.model)[which % len(self.model)]
        good = cookie in self.good()
        name, opened, _ = self.model.pop(cookie)
        if good:
            assert self.sessions.find(cookie).name == name
            self.model[cookie] = (name, opened, self.clock.now)
        else:
            with pytest.raises(Unauthorized):
                self.sessions.find(cookie)

    @rule(which=st.integers(0, 20))
    def close(self, which: int) -> None:
        if self.model:
            cookie = list(self.model)[which % len(self.model)]
            del self.model[cookie]
            self.sessions.close(cookie)

    @rule(seconds=st.floats(0, 12))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def bounded(self) -> None:
        assert len(self.sessions) <= self.most


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


def test_h11_address_waits_longer_after_every_failure_and_not_for_ever() -> None:
    clock = Clock()
    throttle = LoginThrottle(clock=clock)
    waits = []
    for _ in range(40):
        clock.now += throttle.wait_s("10.0.0.1")
        assert throttle.wait_s("10.0.0.1") == 0
        throttle.failed("10.0.0.1")
        waits.append(throttle.wait_s("10.0.0.1"))
    assert waits[: FREE - 1] == [0] * (FREE - 1)
    assert waits[FREE - 1 : FREE + 3] == [1, 2, 4, 8]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT_S
    assert throttle.wait_s("10.0.0.2") == 0
    clock.now += FORGET_S + 1
    throttle.failed("10.0.0.1")
    assert throttle.wait_s("10.0.0.1") == 0


def test_h11_success_forgets_the_failures() -> None:
    throttle = LoginThrottle(clock=Clock())
    for _ in range(FREE):
        throttle.failed("a")
    assert throttle.wait_s("a") > 0
    throttle.succeeded("a")
    assert throttle.wait_s("a") == 0


def test_h11_many_addresses_are_slowed_down_together_but_not_those_let_in_before() -> None:
    clock = Clock()
    throttle = LoginThrottle(clock=clock)
    throttle.succeeded("10.9.9.9")
    for number in range(GLOBAL_FREE * 10):
        throttle.failed(f"10.0.{number // 250}.{number % 250}")
    assert 0 < throttle.wait_s("192.0.2.1") <= GLOBAL_FREE + 1
    assert throttle.wait_s("10.9.9.9") == 0
    clock.now += throttle.wait_s("192.0.2.1")
    assert throttle.wait_s("192.0.2.1") == 0


def test_addresses_of_one_customer_are_one() -> None:
    throttle = LoginThrottle(clock=Clock())
    for number in range(FREE):
        throttle.failed(f"2001:db8:1:2::{number:x}")
    assert throttle.wait_s("2001:db8:1:2:ffff::1") > 0
    assert throttle.wait_s("2001:db8:1:3::1") == 0
    for _ in range(FREE):
        throttle.failed("::ffff:192.0.2.7")
    assert throttle.wait_s("192.0.2.7") > 0


@given(
    st.lists(st.tuples(st.sampled_from(["fail", "ok", "wait"]), st.text(max_size=80), st.floats(0, 4_000)), max_size=60)
)
def test_throttle_is_bounded_and_its_waits_end(steps: list[tuple[str, str, float]]) -> None:
    clock = Clock()
    throttle = LoginThrottle(most=5, clock=clock)
    for what, address, seconds in steps:
        if what == "wait":
            clock.now += seconds
        else:
            (throttle.failed if what == "fail" else throttle.succeeded)(address)
        assert len(throttle) <= 5
        assert 0 <= throttle.wait_s(address) <= LONGEST_WAIT_S
    clock.now += LONGEST_WAIT_S
    assert all(throttle.wait_s(address) == 0 for _, address, _ in steps)
