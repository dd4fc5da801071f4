"""The API behind API Gateway is the same API: each service in its function, and nothing that a caller writes is taken for more."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.entrypoints.lambdas.api import MAX_ANSWER, RestCall, rest_handler
from postroom.errors import Invalid
from postroom.gateway.paging import redirected
from postroom.gateway.routes.recipients import suppression_routes
from postroom.model.access import Principal, PrincipalKind, Role
from postroom.services.exports import ExportFiles, exports_prefix
from postroom.settings import Settings
from postroom.wiring import Container, open_app
from tests.fakes.clock import ManualClock
from tests.gateway.kit import app_of
from tests.lambdas.rest_kit import SOURCE, Service, event_of, said

TEMPLATE = {"name": "Hello", "subject": "Hello {{ name }}", "body": "# Hello", "format": "markdown"}


@pytest.fixture
def postroom(tmp_path: Path) -> Iterator[Container]:
    with open_app(Settings(data=tmp_path, api_url="https://api.example/test")) as opened:
        yield opened


@pytest.fixture
def credential(postroom: Container) -> str:
    maker = Principal(PrincipalKind.OPERATOR, "root", "root", "default", Role.ADMIN, operator=True)
    return postroom.api_keys.create(maker, "nightly", role=Role.ADMIN).text


def test_a_service_answers_for_itself_and_for_no_other(postroom: Container, credential: str) -> None:
    uploads = Service(postroom, "uploads", credential)
    assert said(uploads("GET", "/v1/uploads"), 200)["items"] == []
    assert said(uploads("GET", "/v1/templates"), 404)["type"] == "/problems/no-such-address"


def test_what_stands_before_the_paths_in_the_apis_address_is_taken_away(postroom: Container, credential: str) -> None:
    uploads = Service(postroom, "uploads", credential)
    assert said(uploads("GET", "/test/v1/uploads"), 200)["items"] == []
    assert uploads("GET", "/testing/v1/uploads")["statusCode"] == 404


def test_a_post_is_made_once_by_its_key(postroom: Container, credential: str) -> None:
    uploads = Service(postroom, "uploads", credential)
    new = {"kind": "recipients", "filename": "people.csv", "content_type": "text/csv", "size": 5}
    first, again = (uploads("POST", "/v1/uploads", body=new, fields={"Idempotency-Key": ["k1"]}) for _ in range(2))
    assert said(first, 201) == said(again, 201)
    assert again["headers"]["idempotent-replayed"] == "true"


def test_a_body_in_base64_is_the_same_body(postroom: Container, credential: str) -> None:
    raw = b'{"kind": "recipients", "filename": "p.csv", "content_type": "text/csv", "size": 5}'
    answer = Service(postroom, "uploads", credential)(
        "POST", "/v1/uploads", body=base64.b64encode(raw).decode(), isBase64Encoded=True
    )
    assert said(answer, 201)["method"] == "PUT"


@pytest.mark.parametrize(
    ("body", "media", "status"),
    [("x" * 1_000_001, "application/json", 413), ('{"size": 5}', "text/plain", 415)],
    ids=["too large", "no JSON"],
)
def test_a_body_is_limited_though_api_gateway_announces_none(
    postroom: Container, credential: str, body: str, media: str, status: int
) -> None:
    answer = Service(postroom, "uploads", credential)("POST", "/v1/uploads", body=body, fields={"Content-Type": [media]})
    said(answer, status)


def test_two_credentials_are_none(postroom: Container, credential: str) -> None:
    twice = {"Authorization": [f"Bearer {credential}", f"Bearer {credential}"]}
    said(Service(postroom, "uploads")("GET", "/v1/uploads", fields=twice), 401)


def test_the_caller_is_who_api_gateway_saw_whatever_they_write(postroom: Container, credential: str) -> None:
    forged = {"X-Forwarded-For": ["1.2.3.4"], "X-Real-Ip": ["1.2.3.4"], "Forwarded": ["for=1.2.3.4"]}
    new = {"kind": "recipients", "filename": "people.csv", "content_type": "text/csv", "size": 5}
    said(Service(postroom, "uploads", credential)("POST", "/v1/uploads", body=new, fields=forged), 201)
    assert {entry.address for entry in postroom.audit.list("default").items} == {SOURCE}


def test_queries_come_as_they_were_asked(postroom: Container) -> None:
    event = event_of("GET", "/", multiValueQueryStringParameters={"status": ["sent", "failed"], "name": ["a b&c=ü"]})
    config = {"api_gateway_base_path": "/", "text_mime_types": [], "exclude_headers": []}
    scope = RestCall(event, None, config).scope  # type: ignore[arg-type]  # as Mangum calls it
    assert scope["query_string"] == b"status=sent&status=failed&name=a+b%26c%3D%C3%BC"


def test_a_list_that_is_too_large_says_so(postroom: Container, credential: str) -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b'"' * (MAX_ANSWER // 2)})  # type: ignore[operator]

    problem = said(rest_handler(app)(event_of("GET", "/"), None), 422)
    assert "limit" in problem["detail"]


def test_the_openapi_document_is_of_the_whole_api(postroom: Container) -> None:
    document = said(Service(postroom, "status")("GET", "/openapi.json"), 200)
    assert {"/v1/templates", "/v1/campaigns", "/v1/keys"} <= document["paths"].keys()


def test_no_line_of_a_log_holds_a_token(postroom: Container, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    logging.getLogger("mangum").setLevel(logging.WARNING)  # as observing has it
    Service(postroom, "tracking")("GET", "/t/o/secrettoken")
    assert "secrettoken" not in caplog.text


def test_an_export_is_a_redirect_to_a_file_that_ends(postroom: Container) -> None:
    suppressions = postroom.suppressions
    suppressions.for_tenant("default").add("ann@mail.example", topic=None)
    files = ExportFiles(postroom.objects, postroom.stores.transfers, postroom.clock)
    app = app_of(suppression_routes(suppressions, redirected(files)))
    fields = {"Authorization": ["Bearer admin default"]}
    answer = rest_handler(app)(event_of("GET", "/v1/suppressions/export.csv", fields=fields), None)
    assert (answer["statusCode"], answer["body"]) == (307, "")
    assert "ann@mail.example" in postroom.objects.get(f"{exports_prefix('default')}suppressions.csv").decode()
    assert answer["headers"]["location"].startswith("https://api.example/test/transfers/")


def test_an_export_that_takes_too_long_leaves_nothing(postroom: Container) -> None:
    clock = ManualClock()

    def slow() -> Iterator[bytes]:
        while True:
            clock.advance(1)
            yield b"x" * 300_000

    files = ExportFiles(postroom.objects, postroom.stores.transfers, clock, within_s=5)
    with pytest.raises(Invalid, match="page by page"):
        files.written("default", slow(), "all.csv", content_type="text/csv")
    assert postroom.objects.info(f"{exports_prefix('default')}all.csv") is None
