"""Access tokens: a good one says who calls; one that is forged in any way says nothing, in one sentence for all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey

from postroom.errors import Denied, Unauthenticated
from postroom.model.access import Membership, Principal, PrincipalKind, Role
from tests.gateway.token_kit import ISSUER, RSA_KEY, Gate, encoded, new_key, open_gate, signed

ANN = Principal(PrincipalKind.USER, "ann", "ann@a.example", "acme", Role.ADMIN)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with open_gate(tmp_path) as made:
        yield made


def refused(gate: Gate, token: str) -> None:
    for _ in range(2):  # also when it comes again
        with pytest.raises(Unauthenticated, match="not valid here, or no longer"):
            gate.who(token)


def test_a_good_token_says_who_calls(gate: Gate) -> None:
    assert gate.who(gate.issuer.token()) == ANN
    assert gate.who(gate.issuer.token(key=RSA_KEY)) == ANN


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR", "Bearer  "])
def test_the_scheme_is_taken_in_any_case(gate: Gate, scheme: str) -> None:
    assert gate.who(gate.issuer.token(), scheme) == ANN


def test_a_program_with_its_own_token_is_a_client(gate: Gate) -> None:
    gate.members.grant(Membership(ISSUER, "nightly", "acme", Role.SENDER, "nightly job"))
    who = gate.who(gate.issuer.token(sub="nightly", client_id="nightly"))
    assert (who.kind, who.id, who.role, who.operator) == (PrincipalKind.CLIENT, "nightly", Role.SENDER, False)


def test_an_operator_is_one_by_membership_alone(gate: Gate) -> None:
    gate.members.grant(Membership(ISSUER, "root", "acme", Role.ADMIN, "root", operator=True))
    assert gate.who(gate.issuer.token(sub="root")).operator
    assert not gate.who(gate.issuer.token(operator=True, role="admin")).operator


def test_a_stranger_with_a_good_token_is_denied(gate: Gate) -> None:
    with pytest.raises(Denied, match="eve is signed in, but belongs to no tenant"):
        gate.who(gate.issuer.token(sub="eve"))


def test_a_cognito_access_token_is_taken_by_its_client(gate: Gate) -> None:
    cognito: dict[str, Any] = {"aud": None, "client_id": "postroom", "token_use": "access"}
    assert gate.who(gate.issuer.token(key=RSA_KEY, header={"typ": None}, **cognito)) == ANN
    refused(gate, gate.issuer.token(key=RSA_KEY, header={"typ": None}, **(cognito | {"client_id": "other"})))
    refused(gate, gate.issuer.token(key=RSA_KEY, header={"typ": None}, **(cognito | {"token_use": "id"})))
    refused(gate, gate.issuer.token(key=RSA_KEY, header={"typ": None}, **(cognito | {"token_use": "id", "aud": "postroom"})))


def test_a_keycloak_access_token_is_taken_and_its_id_token_is_not(gate: Gate) -> None:
    assert gate.who(gate.issuer.token(key=RSA_KEY, header={"typ": "JWT"}, typ="Bearer", aud=["account", "postroom"])) == ANN
    refused(gate, gate.issuer.token(key=RSA_KEY, header={"typ": "JWT"}, typ="ID"))


@pytest.mark.parametrize("typ", [None, "JWT", "id+jwt", "logout+jwt", 1, ["at+jwt"]])
def test_what_does_not_say_that_it_is_an_access_token_is_refused(gate: Gate, typ: object) -> None:
    """Such as an ID token, whose audience may well be the same."""
    refused(gate, gate.issuer.token(header={"typ": typ}, nonce="n"))


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://id.example"},
        {"iss": ISSUER + "/"},
        {"iss": ISSUER.upper()},
        {"iss": [ISSUER]},
        {"iss": None},
        {"aud": "other"},
        {"aud": ["other", "Postroom"]},
        {"aud": [["postroom"]]},
        {"aud": {"postroom": 1}},
        {"aud": []},
        {"aud": "other", "client_id": "postroom"},
        {"sub": None},
        {"sub": ""},
        {"sub": "a" * 201},
        {"sub": "ann\x00"},
        {"sub": ["ann"]},
        {"sub": 7},
        {"exp": None},
        {"exp": "9999999999"},
        {"exp": True},
        {"exp": -1},
        {"exp": 1e300},
        {"exp": [1]},
        {"nbf": "soon"},
        {"iat": {}},
        {"iat": True},
        {"nbf": False},
        {"token_use": "id"},
        {"client_id": 5},
    ],
    ids=str,
)
def test_a_claim_that_is_not_as_it_must_be_is_refused(gate: Gate, claims: dict[str, Any]) -> None:
    refused(gate, gate.issuer.token(**claims))


def test_times_count_with_half_a_minute_of_difference(gate: Gate) -> None:
    now = gate.clock.now() // 1_000
    assert gate.who(gate.issuer.token(exp=now - 29)) == ANN
    assert gate.who(gate.issuer.token(nbf=now + 29, iat=now + 29)) == ANN
    refused(gate, gate.issuer.token(exp=now - 31))
    refused(gate, gate.issuer.token(nbf=now + 31))
    refused(gate, gate.issuer.token(iat=now + 31))


def test_a_token_without_a_signature_is_refused(gate: Gate) -> None:
    head, payload, signature = gate.issuer.token().split(".")
    for alg in ("none", "None", "NONE", ""):
        bare = encoded(json.dumps({"alg": alg, "kid": "one", "typ": "at+jwt"}).encode())
        for end in ("", signature):
            refused(gate, f"{bare}.{payload}.{end}")
    refused(gate, f"{head}.{payload}.")
    refused(gate, f"{head}.{payload}")


def test_the_public_key_is_no_shared_secret(gate: Gate) -> None:
    """The classic: HS256 with the published key as the secret."""
    for key in gate.issuer.keys:
        for secret in (key.as_pem(private=False), key.as_der(private=False), json.dumps(key.as_dict(private=False)).encode()):
            head = {"alg": "HS256", "kid": key.kid, "typ": "at+jwt"}
            refused(gate, signed(head, json.dumps(gate.issuer.claims()).encode(), secret, "HS256"))


def test_a_key_of_the_issuer_verifies_its_own_algorithm_only(gate: Gate) -> None:
    refused(gate, gate.issuer.token(header={"kid": "rsa"}))
    refused(gate, gate.issuer.token(key=RSA_KEY, header={"kid": "one"}))
    for alg in ("RS256", "ES384", "PS256", "RS512", "EdDSA", "HS256", "es256"):
        refused(gate, gate.issuer.token(header={"alg": alg}))


def test_another_key_under_the_same_id_is_refused(gate: Gate) -> None:
    refused(gate, gate.issuer.token(key=new_key("one")))
    refused(gate, gate.issuer.token(key=RSAKey.generate_key(2048, {"kid": "rsa"})))


def test_a_key_that_the_token_brings_along_is_refused(gate: Gate) -> None:
    mine = new_key("one")
    public = mine.as_dict(private=False)
    for name, value in {
        "jwk": public,
        "jku": "https://evil.example/jwks",
        "x5u": "https://evil.example/cert",
        "x5c": ["MII"],
        "crit": ["exp"],
        "b64": False,
        "zip": "DEF",
    }.items():
        refused(gate, gate.issuer.token(key=mine, header={name: value}))
        refused(gate, gate.issuer.token(header={name: value}))
    assert gate.issuer.asked == 0


@pytest.mark.parametrize(
    "kid", [None, "", "../../../dev/null", "one\x00", "one' OR '1'='1", "ONE", " one", "k" * 201, 1, ["one"], {}]
)
def test_a_key_id_is_only_ever_looked_up(gate: Gate, kid: object) -> None:
    refused(gate, gate.issuer.token(header={"kid": kid}))


def test_anything_changed_after_signing_is_noticed(gate: Gate) -> None:
    head, payload, signature = gate.issuer.token().split(".")
    grander = encoded(json.dumps(gate.issuer.claims(sub="root")).encode())
    refused(gate, f"{head}.{grander}.{signature}")
    refused(gate, f"{head}.{payload}.{signature[:-8]}AAAAAAAA")
    refused(gate, f"{head}.{payload}.{encoded(bytes(64))}")


@pytest.mark.parametrize(
    "credential",
    [
        "x",
        "..",
        "a.b.c",
        "e30.e30.e30",
        "bnVsbA.bnVsbA.bnVsbA",
        "W10.W10.W10",
        encoded(b'{"alg":"ES256","kid":"one"}') + ".!!.??",
        encoded(b"[" * 6_000) + ".e30.e30",
        encoded(b'{"a":' * 300) + ".e30.e30",
        encoded(b'{"alg":"ES256","kid":"\xff"}') + ".e30.e30",
        encoded(b'{"alg":"ES256","kid":"\\ud800"}') + ".e30.e30",
        "a" * 8_193,
        "a." * 4_000,
        "tökén",
        "a b",
        "a,b",
        "a\tb",
        "a\x00b",
        "pr_",
        "pr_aaaa_bbbb",
    ],
    ids=lambda text: text[:24].encode("unicode_escape").decode(),
)
def test_rubbish_is_refused(gate: Gate, credential: str) -> None:
    refused(gate, credential)


def test_payloads_that_are_no_object_or_too_deep_are_refused(gate: Gate) -> None:
    key, head = gate.issuer.keys[0], {"alg": "ES256", "kid": "one", "typ": "at+jwt"}
    for payload in (b"[]", b"null", b"x", b"\xff", b"[" * 4_000, b'{"a":' * 1_100 + b"1" + b"}" * 1_100):
        refused(gate, signed(head, payload, key, "ES256"))


def test_a_huge_token_is_refused_before_it_is_read(gate: Gate) -> None:
    refused(gate, gate.issuer.token(padding="p" * 8_192))


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Token x", "bearer\tx", "Bearerx"])
def test_no_bearer_no_caller(gate: Gate, authorization: str | None) -> None:
    with pytest.raises(Unauthenticated):
        gate.field(authorization)


def test_a_short_or_foreign_key_of_the_issuer_is_passed_over(gate: Gate) -> None:
    gate.issuer.keys = [ECKey.generate_key("P-384", {"kid": "big"}), new_key("good")]
    assert gate.who(gate.issuer.token(key=gate.issuer.keys[1])) == ANN
    refused(gate, gate.issuer.token(header={"kid": "big"}, key=gate.issuer.keys[1]))
