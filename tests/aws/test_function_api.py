"""The API's functions over a stack's own engines: what one of them keeps, another finds; and a person of Cognito comes in."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from postroom.entrypoints.lambdas.authorizer import decide
from postroom.events.tracking_buffer import SyncTrackingSink
from postroom.model.access import Membership, Principal, PrincipalKind, Role
from postroom.settings import Platform, Settings
from postroom.wiring import Container, open_app
from tests.contract.aws_backend import TABLE, AwsBackend
from tests.lambdas.rest_kit import Service, said

METHOD = "arn:aws:execute-api:us-east-1:123456789012:abc123/test/GET/v1/templates"
PASSWORD = "Seven-quiet-otters-7"
CSV = b"email,name\nann@mail.example,Ann\n"


@pytest.fixture
def signed_in(backend: AwsBackend) -> tuple[str, str, str]:
    """Pool, client and access token of a person."""
    with closing(backend.account.cognito()) as cognito:
        pool = cognito.create_user_pool(PoolName="people")["UserPool"]["Id"]
        client = cognito.create_user_pool_client(
            UserPoolId=pool, ClientName="console", ExplicitAuthFlows=["ALLOW_ADMIN_USER_PASSWORD_AUTH"]
        )["UserPoolClient"]["ClientId"]
        cognito.admin_create_user(UserPoolId=pool, Username="ann", MessageAction="SUPPRESS")
        cognito.admin_set_user_password(UserPoolId=pool, Username="ann", Password=PASSWORD, Permanent=True)
        given = cognito.admin_initiate_auth(
            UserPoolId=pool,
            ClientId=client,
            AuthFlow="ADMIN_USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": "ann", "PASSWORD": PASSWORD},
        )
    return pool, client, given["AuthenticationResult"]["AccessToken"]


@pytest.fixture
def postroom(backend: AwsBackend, signed_in: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Container]:
    account, (pool, client, _) = backend.account, signed_in
    variables = {
        "AWS_ENDPOINT_URL": account.endpoint,
        "AWS_DEFAULT_REGION": account.region,
        "AWS_ACCESS_KEY_ID": account.access_key,
        "AWS_SECRET_ACCESS_KEY": account.secret_key,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    backend.table()
    backend.secrets()
    settings = Settings(
        platform=Platform.AWS,
        aws_table=TABLE,
        aws_bucket=backend._bucket()[1],
        aws_queues=f"arn:aws:sqs:{account.region}:{account.access_key}:test-",
        aws_key=backend.kms_keys[0],
        aws_schedules="test",
        aws_schedule_role=f"arn:aws:iam::{account.access_key}:role/test",
        aws_machines=f"arn:aws:states:{account.region}:{account.access_key}:stateMachine:test-",
        issuer=f"https://cognito-idp.us-east-1.amazonaws.com/{pool}",
        jwks_url=f"{account.endpoint}/{pool}/.well-known/jwks.json",
        audience=(client,),
        mail="ses://us-east-1",
        api_url="https://api.example/test",
    )
    with open_app(settings) as opened:
        yield opened


def test_a_person_of_cognito_comes_in_by_an_access_token_alone(postroom: Container, signed_in: tuple[str, str, str]) -> None:
    event: dict[str, Any] = {"authorizationToken": f"Bearer {signed_in[2]}", "methodArn": METHOD}
    subject = _subject(signed_in[2])
    denied = decide(event, postroom.authenticator, None)
    assert denied["policyDocument"]["Statement"][0]["Effect"] == "Deny"
    assert postroom.settings.issuer is not None
    postroom.memberships.grant(Membership(postroom.settings.issuer, subject, "default", Role.EDITOR, "ann@a.example"))
    allowed = decide(event, postroom.authenticator, None)
    assert allowed["context"] == {"tenant": "default", "subject": subject, "kind": "user", "role": "editor"}
    said(Service(postroom, "templates", signed_in[2])("GET", "/v1/templates"), 200)


def test_an_upload_goes_past_the_api_and_an_export_comes_past_it(postroom: Container) -> None:
    maker = Principal(PrincipalKind.OPERATOR, "root", "root", "default", Role.ADMIN, operator=True)
    key = postroom.api_keys.create(maker, "nightly", role=Role.ADMIN).text
    uploads, email = Service(postroom, "uploads", key), Service(postroom, "email", key)

    new = {"kind": "recipients", "filename": "people.csv", "content_type": "text/csv", "size": len(CSV)}
    first, again = (said(uploads("POST", "/v1/uploads", body=new, fields={"Idempotency-Key": ["k"]}), 201) for _ in range(2))
    assert first == again
    put = urllib.request.Request(first["url"], data=CSV, headers=first["headers"], method=first["method"])
    with urllib.request.urlopen(put, timeout=10) as answer:
        assert answer.status == 200
    assert said(uploads("GET", f"/v1/uploads/{first['id']}"), 200)["status"] == "ready"

    said(email("POST", "/v1/suppressions", body={"address": "bob@mail.example"}), 201)
    export = email("GET", "/v1/suppressions/export.csv")
    assert export["statusCode"] == 307
    with urllib.request.urlopen(export["headers"]["location"], timeout=10) as answer:
        assert b"bob@mail.example" in answer.read()


def test_hits_wait_in_no_memory(postroom: Container) -> None:
    assert isinstance(postroom.tracking_sink, SyncTrackingSink)


def _subject(token: str) -> str:
    payload = token.split(".")[1]
    subject: str = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"]
    return subject
