"""An issuer's keys: rotated without a stop, asked for rarely, good for a while when the issuer is down; fetched safely."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from joserfc.jwk import ECKey, OctKey

from postroom.errors import Unauthenticated, Unavailable
from postroom.gateway.jwks import FRESH_S, LIMIT_BYTES, LIMIT_S, PAUSE_S, STALE_S, Jwks, fetch_jwks, is_safe
from tests.fakes.clock import ManualClock
from tests.gateway.token_kit import ISSUER, RSA_KEY, Gate, Issuer, new_key, open_gate


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with open_gate(tmp_path) as made:
        yield made


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Flaky:
    """An issuer that can be down."""

    def __init__(self, clock: ManualClock) -> None:
        self.issuer = Issuer(clock)
        self.down = False
        self.asked = 0

    def __call__(self) -> Mapping[str, Any]:
        self.asked += 1
        if self.down:
            raise Unavailable("down")
        return self.issuer.jwks()


def test_a_rotated_key_is_taken_at_once(gate: Gate) -> None:
    gate.who(gate.issuer.token())
    gate.clock.advance(PAUSE_S)
    gate.issuer.keys = [new_key("two"), *gate.issuer.keys]
    assert gate.who(gate.issuer.token()).id == "ann"
    assert gate.who(gate.issuer.token(key=gate.issuer.keys[1])).id == "ann"
    assert gate.issuer.asked == 2


def test_made_up_key_ids_do_not_make_us_ask(gate: Gate) -> None:
    gate.who(gate.issuer.token())
    for number in range(50):
        with pytest.raises(Unauthenticated):
            gate.who(gate.issuer.token(header={"kid": f"k{number}"}))
    assert gate.issuer.asked == 1
    gate.clock.advance(PAUSE_S)
    for number in range(50):
        with pytest.raises(Unauthenticated):
            gate.who(gate.issuer.token(header={"kid": f"k{number}"}))
    assert gate.issuer.asked == 2


def test_fifty_at_once_ask_once(clock: ManualClock) -> None:
    """All of them are there before the answer is, and all of them get the key."""
    flaky, arrived = Flaky(clock), threading.Semaphore(0)

    def slow() -> Mapping[str, Any]:
        for _ in range(50):
            assert arrived.acquire(timeout=10)
        return flaky()

    jwks = Jwks(slow, clock)

    def ask(_: int) -> bool:
        arrived.release()
        return jwks.key("one") is not None

    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(ask, range(50)))
    assert flaky.asked == 1


def test_while_one_refreshes_the_others_go_on_with_what_is_known(clock: ManualClock) -> None:
    flaky, asking, go_on = Flaky(clock), threading.Event(), threading.Event()

    def slow() -> Mapping[str, Any]:
        if flaky.asked:
            asking.set()
            assert go_on.wait(10)
        return flaky()

    jwks = Jwks(slow, clock)
    jwks.key("one")
    clock.advance(FRESH_S + 1)
    with ThreadPoolExecutor(1) as pool:
        refreshing = pool.submit(jwks.key, "one")
        assert asking.wait(10)
        assert jwks.key("one") is not None
        assert flaky.asked == 1
        go_on.set()
        assert refreshing.result(10) is not None
    assert flaky.asked == 2


def test_keys_stay_good_while_the_issuer_is_down_but_not_for_ever(clock: ManualClock) -> None:
    flaky = Flaky(clock)
    jwks = Jwks(flaky, clock)
    assert jwks.key("one") is not None
    flaky.down = True
    clock.advance(STALE_S - 1)
    assert jwks.key("one") is not None
    assert jwks.key("other") is None
    clock.advance(2)
    with pytest.raises(Unavailable):
        jwks.key("one")


def test_an_issuer_that_is_down_is_asked_rarely(clock: ManualClock) -> None:
    flaky = Flaky(clock)
    flaky.down = True
    jwks = Jwks(flaky, clock)
    for _ in range(20):
        with pytest.raises(Unavailable):
            jwks.key("one")
    assert flaky.asked == 1
    clock.advance(PAUSE_S)
    flaky.down = False
    assert jwks.key("one") is not None


def test_a_withdrawn_key_is_gone_with_the_next_look(clock: ManualClock) -> None:
    flaky = Flaky(clock)
    jwks = Jwks(flaky, clock)
    assert jwks.key("one") is not None
    flaky.issuer.keys = flaky.issuer.keys[1:]
    clock.advance(FRESH_S + 1)
    assert jwks.key("one") is None


def published(*jwks: object) -> Jwks:
    return Jwks(lambda: {"keys": list(jwks)}, ManualClock())


def test_only_keys_that_can_verify_are_taken() -> None:
    good, rsa = new_key("good").as_dict(private=False), RSA_KEY.as_dict(private=False)
    small = {"kty": "RSA", "kid": "small", "n": "w" * 171, "e": "AQAB"}
    jwks = published(
        "rubbish",
        None,
        {},
        {"kty": "oct", "kid": "oct", "k": "c2VjcmV0"},
        OctKey.generate_key(256, {"kid": "oct2"}).as_dict(private=True),
        ECKey.generate_key("P-521", {"kid": "big"}).as_dict(private=False),
        good | {"kid": "enc", "use": "enc"},
        good | {"kid": "other", "alg": "ES384"},
        good | {"kid": "off the curve", "x": good["y"]},
        good | {"kid": "half", "y": None},
        good | {"kid": 5},
        rsa | {"kid": "pss", "alg": "PS256"},
        rsa | {"kid": "no n", "n": ""},
        small,
        good,
        rsa,
    )
    assert jwks.key("good") is not None
    assert jwks.key("rsa") is not None
    assert set(jwks._keys) == {"good", "rsa"}


@pytest.mark.parametrize("answer", [{}, {"keys": None}, {"keys": {}}, {"keys": []}])
def test_an_issuer_without_keys_is_one_that_does_not_answer(answer: dict[str, Any]) -> None:
    with pytest.raises(Unavailable):
        Jwks(lambda: answer, ManualClock()).key("one")


Handle = Callable[[httpx.Request], httpx.Response]
GOOD = {"issuer": ISSUER, "jwks_uri": "https://keys.example/jwks"}


def fetched(documents: Mapping[str, object], clock: ManualClock | None = None, issuer: str = ISSUER) -> Mapping[str, Any]:
    """What is fetched where these addresses answer so."""

    def handle(request: httpx.Request) -> httpx.Response:
        found = documents[str(request.url)]
        status, headers, content = found if isinstance(found, tuple) else (200, {}, json.dumps(found).encode())
        return httpx.Response(status, headers=headers, content=iter([content]) if isinstance(content, bytes) else content)

    return fetch_jwks(issuer, clock or ManualClock(), transport=httpx.MockTransport(handle))


WELL_KNOWN = ISSUER + "/.well-known/openid-configuration"


def test_keys_are_found_through_discovery() -> None:
    assert fetched({WELL_KNOWN: GOOD, "https://keys.example/jwks": {"keys": []}}) == {"keys": []}


@pytest.mark.parametrize(
    "document",
    [
        GOOD | {"issuer": "https://evil.example"},
        GOOD | {"issuer": ISSUER + "/"},
        {"issuer": ISSUER},
        GOOD | {"jwks_uri": 5},
        GOOD | {"jwks_uri": "http://keys.example/jwks"},
        GOOD | {"jwks_uri": "file:///etc/passwd"},
        GOOD | {"jwks_uri": "//keys.example/jwks"},
        GOOD | {"jwks_uri": "https://[::1/jwks"},
        [],
        (404, {}, b""),
        (302, {"Location": "https://keys.example/jwks"}, b""),
        (200, {}, b"not JSON"),
        (200, {}, b"[" * 100_000),
        (200, {}, json.dumps(GOOD | {"padding": "p" * LIMIT_BYTES}).encode()),
        (200, {"Content-Encoding": "gzip"}, gzip.compress(json.dumps(GOOD).encode(), mtime=0)),
    ],
    ids=lambda document: str(document)[:70],
)
def test_an_answer_that_is_not_as_it_must_be_is_none(document: object) -> None:
    with pytest.raises(Unavailable):
        fetched({WELL_KNOWN: document, "https://keys.example/jwks": {"keys": []}})


def test_an_issuer_that_trickles_is_let_go(clock: ManualClock) -> None:
    def drops() -> Iterator[bytes]:
        while True:
            clock.advance(LIMIT_S / 4)
            yield b" "

    with pytest.raises(Unavailable, match="too slowly"):
        fetched({WELL_KNOWN: (200, {}, drops())}, clock)


def test_an_issuer_that_cannot_be_reached_is_unavailable(clock: ManualClock) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route", request=request)

    with pytest.raises(Unavailable, match="ConnectError"):
        fetch_jwks(ISSUER, clock, transport=httpx.MockTransport(handle))


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://id.example", True),
        ("http://127.0.0.1:8400/x", True),
        ("http://[::1]:8400/x", True),
        ("http://localhost:8400/x", True),
        ("http://id.example", False),
        ("http://localhost.evil.example", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://127.0.0.1@evil.example", False),
        ("ftp://127.0.0.1", False),
        ("https://", False),
        ("", False),
    ],
)
def test_nobody_on_the_way_may_change_the_keys(url: str, safe: bool) -> None:
    assert is_safe(url) == safe
