"""Who comes in at API Gateway, and with which word of it the others stay out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from postroom.entrypoints.lambdas.authorizer import Unauthorized, decide
from postroom.errors import Unavailable
from postroom.gateway.auth import TokenAuthenticator
from postroom.gateway.jwks import Jwks, fetch_jwks_at
from postroom.model.access import Principal, PrincipalKind, Role
from postroom.services.keys import ApiKeyService
from tests.fakes.clock import ManualClock
from tests.gateway.token_kit import AUDIENCE, ISSUER, Gate, open_gate

METHOD = "arn:aws:execute-api:us-east-1:123456789012:abc123/test/GET/v1/templates"
STAGE = "arn:aws:execute-api:us-east-1:123456789012:abc123/test/*"


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with open_gate(tmp_path) as opened:
        yield opened


def asked(gate: Gate, authorization: str | None, usage_key: str | None = None) -> Any:
    event = {"type": "TOKEN", "authorizationToken": authorization, "methodArn": METHOD}
    return decide(event, gate.authenticator, usage_key)


def effect(answer: Mapping[str, Any]) -> tuple[str, str]:
    (statement,) = answer["policyDocument"]["Statement"]
    assert statement["Action"] == "execute-api:Invoke"
    return statement["Effect"], statement["Resource"]


def test_whose_token_is_good_comes_in_at_every_method_of_the_stage(gate: Gate) -> None:
    answer = asked(gate, f"Bearer {gate.issuer.token()}")
    assert effect(answer) == ("Allow", STAGE)
    assert answer["principalId"] == "user:ann"
    assert answer["context"] == {"tenant": "acme", "subject": "ann", "kind": "user", "role": "admin"}
    assert "usageIdentifierKey" not in answer


def test_a_token_of_cognito_needs_no_audience_but_its_client(gate: Gate) -> None:
    cognito: dict[str, Any] = {"aud": None, "client_id": AUDIENCE, "token_use": "access"}
    assert effect(asked(gate, f"Bearer {gate.issuer.token(header={'typ': None}, **cognito)}"))[0] == "Allow"
    with pytest.raises(Unauthorized):
        asked(gate, f"Bearer {gate.issuer.token(header={'typ': None}, **cognito | {'token_use': 'id'})}")
    with pytest.raises(Unauthorized):
        asked(gate, f"Bearer {gate.issuer.token(header={'typ': None}, **cognito | {'client_id': 'another'})}")


def test_an_api_key_comes_in_under_the_installations_usage_plan(gate: Gate) -> None:
    maker = Principal(PrincipalKind.USER, "ann", "ann", "acme", Role.ADMIN)
    text = ApiKeyService(gate.keys, gate.clock).create(maker, "nightly", role=Role.SENDER).text
    answer = asked(gate, f"Bearer {text}", "a-key-of-the-stage-0001")
    assert answer["usageIdentifierKey"] == "a-key-of-the-stage-0001"
    assert answer["context"]["role"] == "sender"


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer pr_nothing", "Basic YTpi", "Bearer a.b.c"])
def test_whom_nobody_knows_is_answered_401_by_the_word_that_means_it(gate: Gate, authorization: str | None) -> None:
    with pytest.raises(Unauthorized) as refused:
        asked(gate, authorization)
    assert str(refused.value) == "Unauthorized"


def test_who_is_known_and_of_no_tenant_is_denied(gate: Gate) -> None:
    answer = asked(gate, f"Bearer {gate.issuer.token(sub='bob')}", "a-key-of-the-stage-0001")
    assert effect(answer) == ("Deny", STAGE)
    assert "context" not in answer
    assert "usageIdentifierKey" not in answer


def test_what_cannot_be_told_now_is_no_401(gate: Gate) -> None:
    def away() -> Mapping[str, Any]:
        raise Unavailable("the issuer is away")

    authenticator = TokenAuthenticator(
        gate.members, gate.keys, gate.tenants, Jwks(away, gate.clock), issuer=ISSUER, audiences=(AUDIENCE,), clock=gate.clock
    )
    event = {"authorizationToken": f"Bearer {gate.issuer.token()}", "methodArn": METHOD}
    with pytest.raises(Unavailable):
        decide(event, authenticator, None)


def test_keys_are_fetched_where_the_setting_says(gate: Gate) -> None:
    fetched: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        fetched.append(str(request.url))
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps(gate.issuer.jwks()).encode()))

    at = "http://127.0.0.1:4566/pool/.well-known/jwks.json"
    found = fetch_jwks_at(at, ManualClock(), transport=httpx.MockTransport(answer))
    assert (len(found["keys"]), fetched) == (2, [at])


def test_keys_over_an_open_line_are_refused() -> None:
    with pytest.raises(Unavailable, match="https"):
        fetch_jwks_at("http://keys.example/jwks.json", ManualClock())
