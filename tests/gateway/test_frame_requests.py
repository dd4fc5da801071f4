"""Request ids, the access log, header fields, origins and proxies."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from fastapi import APIRouter, FastAPI, Request, Response

from postroom.gateway.app import create_app
from postroom.gateway.middleware import client_network
from postroom.gateway.state import GatewayConfig
from postroom.telemetry.logs import write_logs
from tests.fakes.clock import ManualClock
from tests.gateway.frame_kit import EDITOR, Things, ask, door
from tests.gateway.kit import Believer


@pytest.mark.parametrize("given", ["k3v5p7xq", "8e03978e-40d5-43e8-bc93-6894a57f9324", "x" * 64])
def test_a_sane_request_id_is_taken_over(given: str) -> None:
    assert ask(door(Things()), "GET", "/v1/things/a", headers={"X-Request-Id": given}).fields["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "short", "x" * 65, "with space", 'quote"quote', "käse-käse"])
def test_any_other_is_replaced(given: str) -> None:
    made = ask(door(Things()), "GET", "/v1/things/a", headers={"X-Request-Id": given}).fields["x-request-id"]
    assert made != given
    assert len(made) == 16


def test_every_answer_has_a_request_id_of_its_own() -> None:
    app = door(Things())
    answers = [ask(app, "GET", path) for path in ("/v1/things/a", "/nothing", "/openapi.json")]
    assert len({answer.fields["x-request-id"] for answer in answers}) == 3


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    write_logs(stream)
    yield stream
    for handler in set(root.handlers) - set(before):
        root.removeHandler(handler)
    root.setLevel(level)


def test_a_request_leaves_one_line_that_says_who_and_what(log: io.StringIO, caplog: pytest.LogCaptureFixture) -> None:
    headers = {"Authorization": "Bearer editor acme ann", "X-Request-Id": "request-1"}
    ask(door(Things()), "GET", "/v1/things/key7?token=secret", headers=headers)
    (line,) = [line for line in log.getvalue().splitlines() if "gateway.access" in line]
    (record,) = [record for record in caplog.records if record.name == "postroom.gateway.access"]
    assert record.__dict__["event"] == "request.completed"
    assert record.__dict__["fields"] == {
        "method": "GET",
        "route": "/v1/things/{thing}",
        "status": 422,  # the parameter is unknown, and its value stays out of the log
        "ms": 0.0,
        "caller": "user:ann",
        "tenant": "acme",
        "address": "203.0.113.9",
        "request": "request-1",
    }
    assert "secret" not in line
    assert "key7" not in line


def test_lines_of_a_handler_in_its_thread_carry_the_request_id(log: io.StringIO) -> None:
    things = Things(before=lambda: logging.getLogger("some.service").warning("here"))
    ask(door(things), "GET", "/v1/things/a", headers={**EDITOR, "X-Request-Id": "request-2"})
    assert "WARNING some.service [request-2]: here" in log.getvalue()


def test_lines_outside_of_requests_carry_none(log: io.StringIO) -> None:
    ask(door(Things()), "GET", "/v1/things/a")
    logging.getLogger("some.worker").warning("there")
    assert "WARNING some.worker: there" in log.getvalue()


def test_what_nobody_caught_is_logged_under_the_id_that_is_answered(log: io.StringIO) -> None:
    router = APIRouter()

    @router.get("/broken")
    async def broken() -> None:
        raise ValueError("why")

    app = create_app(GatewayConfig(authenticator=Believer(), clock=ManualClock()), [router])
    answer = ask(app, "GET", "/broken")
    assert (answer.status, answer.json["type"]) == (500, "/problems/failed")
    assert b"why" not in answer.body
    assert f"[{answer.fields['x-request-id']}]: request.crashed" in log.getvalue()
    assert "ValueError: why" in log.getvalue()


def test_answers_are_not_sniffed_framed_or_kept() -> None:
    fields = ask(door(Things()), "GET", "/v1/things").fields
    assert fields["x-content-type-options"] == "nosniff"
    assert fields["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in fields["content-security-policy"]
    assert fields["cache-control"] == "no-store"
    assert "strict-transport-security" not in fields


def test_what_has_an_etag_may_be_kept_by_the_caller_alone() -> None:
    assert ask(door(Things()), "GET", "/v1/things/a", headers=EDITOR).fields["cache-control"] == "private, no-cache"


def test_a_handlers_own_field_stands_alone() -> None:
    router = APIRouter()

    @router.get("/v1/mine")
    async def mine() -> Response:
        return Response(headers={"Cache-Control": "private, max-age=5", "Content-Security-Policy": "default-src 'self'"})

    fields = ask(create_app(GatewayConfig(authenticator=Believer(), clock=ManualClock()), [router]), "GET", "/v1/mine").fields
    assert fields["cache-control"] == "private, max-age=5"
    assert fields["content-security-policy"] == "default-src 'self'"


def seen(trusted: tuple[str, ...], peer: str, headers: dict[str, str]) -> tuple[str, str, bool]:
    """Which caller and scheme a handler sees, and whether the answer speaks of HTTPS."""
    router = APIRouter()

    @router.get("/me")
    async def me(request: Request) -> list[str]:
        assert request.client
        return [request.client.host, request.url.scheme]

    frame = GatewayConfig(authenticator=Believer(), clock=ManualClock(), trusted_proxies=trusted)
    answer = ask(create_app(frame, [router]), "GET", "/me", headers=headers, client=peer)
    host, scheme = answer.json
    return host, scheme, "strict-transport-security" in answer.fields


FORWARDED = {"X-Forwarded-For": "198.51.100.7, 10.0.0.2", "X-Forwarded-Proto": "https"}


def test_a_trusted_proxy_is_believed() -> None:
    assert seen(("10.0.0.0/8",), "10.0.0.1", FORWARDED) == ("198.51.100.7", "https", True)


@pytest.mark.parametrize("trusted", [(), ("192.0.2.0/24",)])
def test_nobody_else_is(trusted: tuple[str, ...]) -> None:
    assert seen(trusted, "10.0.0.1", FORWARDED) == ("10.0.0.1", "http", False)


@pytest.mark.parametrize(
    ("chain", "caller"),
    [
        ("1.1.1.1, 198.51.100.7", "198.51.100.7"),  # what the caller itself claimed stands left
        ("10.9.9.9", "10.9.9.9"),  # all of them are ours: the first
        ("198.51.100.7, unknown, 10.0.0.2", "10.0.0.2"),
        ("nonsense", "10.0.0.1"),
        ("", "10.0.0.1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("198.51.100.7:5555", "198.51.100.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
    ],
)
def test_the_rightmost_address_that_is_no_proxy_calls(chain: str, caller: str) -> None:
    assert seen(("10.0.0.0/8",), "10.0.0.1", {"X-Forwarded-For": chain})[0] == caller


@pytest.mark.parametrize("scheme", ["ftp", "javascript:", ""])
def test_a_scheme_that_is_none_changes_nothing(scheme: str) -> None:
    assert seen(("10.0.0.0/8",), "10.0.0.1", {"X-Forwarded-Proto": scheme})[1] == "http"


@pytest.mark.parametrize(
    ("address", "counted"),
    [("198.51.100.7", "198.51.100.7"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"), ("testclient", "testclient")],
)
def test_an_ipv6_customer_counts_as_one(address: str, counted: str) -> None:
    assert client_network(address) == counted


def app_with_origin() -> FastAPI:
    return door(Things(), cors_origins=("https://app.example",))


def preflight(origin_: str) -> dict[str, str]:
    headers = {"Origin": origin_, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "idempotency-key"}
    return ask(app_with_origin(), "OPTIONS", "/v1/things", headers=headers).fields


def test_scripts_of_a_named_origin_may_call_without_credentials() -> None:
    fields = preflight("https://app.example")
    assert fields["access-control-allow-origin"] == "https://app.example"
    assert "POST" in fields["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in fields
    answer = ask(app_with_origin(), "GET", "/v1/things/a", headers={**EDITOR, "Origin": "https://app.example"})
    assert "X-Request-Id" in answer.fields["access-control-expose-headers"]


def test_scripts_of_any_other_may_not() -> None:
    assert "access-control-allow-origin" not in preflight("https://evil.example")
    answer = ask(door(Things()), "GET", "/v1/things/a", headers={**EDITOR, "Origin": "https://app.example"})
    assert "access-control-allow-origin" not in answer.fields
