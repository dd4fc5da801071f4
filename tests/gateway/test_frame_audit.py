"""Audit records: one a change, begun before it and ended after it; none for what changes nothing; denials counted."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI

from postroom.errors import Conflict, Unavailable
from postroom.gateway.access import Editor
from postroom.gateway.app import create_app
from postroom.gateway.audit import AuditCall, AuditEnd, content_digest
from postroom.gateway.pipeline import Route
from postroom.gateway.state import GatewayConfig
from postroom.model.access import Principal
from tests.fakes.clock import START, ManualClock
from tests.gateway.frame_kit import EDITOR, Things, ask, door
from tests.gateway.kit import Believer


class Book:
    """A recorder that remembers, in order."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Any]] = []
        self.begins: Exception | None = None
        self.ends: Exception | None = None

    def begin(self, call: AuditCall) -> str:
        if self.begins:
            raise self.begins
        self.lines.append(("begin", call))
        return "token"

    def finish(self, token: str, end: AuditEnd) -> None:
        assert token == "token"
        if self.ends:
            raise self.ends
        self.lines.append(("finish", end))

    def denied(self, principal: Principal | None, address: str, reason: str) -> None:
        self.lines.append(("denied", (principal and principal.name, address, reason)))

    @property
    def words(self) -> list[str]:
        return [word for word, _ in self.lines]


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def things(book: Book) -> Things:
    return Things(after=lambda: book.lines.append(("change", None)))


@pytest.fixture
def app(book: Book, things: Things) -> FastAPI:
    return door(things, audit=book)


def make(app: FastAPI, **how: Any) -> int:
    return ask(app, "POST", "/v1/things", **{"headers": EDITOR, "json": {"name": "a"}} | how).status


def test_the_record_is_begun_before_the_change_and_ended_after_it(app: FastAPI, book: Book) -> None:
    assert make(app) == 201
    assert book.words == ["begin", "change", "finish"]


def test_it_says_who_did_what_when_and_from_where(app: FastAPI, book: Book) -> None:
    make(app, headers={**EDITOR, "X-Request-Id": "request-1"})
    call = book.lines[0][1]
    assert (call.principal.name, call.principal.tenant, call.address) == ("editor@acme.example", "acme", "203.0.113.9")
    assert (call.method, call.route, call.request_id, call.at) == ("POST", "/v1/things", "request-1", START)


def test_its_end_names_the_record_and_digests_what_it_was_and_is(app: FastAPI, book: Book) -> None:
    ask(app, "PUT", "/v1/things/a", headers=EDITOR, json={"name": "new"})
    digests = [hashlib.sha256(text).hexdigest() for text in (b'{"name":"old"}', b'{"name":"new"}')]
    assert book.lines[-1] == ("finish", AuditEnd(200, "thing/a", *digests))


def test_digests_do_not_depend_on_order() -> None:
    assert content_digest({"a": 1, "b": [{"c": 1, "d": 2}]}) == content_digest({"b": [{"d": 2, "c": 1}], "a": 1})
    assert content_digest(None) == ""


def test_a_change_that_fails_is_ended_with_its_status(app: FastAPI, book: Book, things: Things) -> None:
    def fails() -> None:
        raise Conflict("other state")

    things.before = fails
    assert make(app) == 409
    assert book.lines[-1][1].status == 409


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/things/a"), ("POST", "/v1/things/preview"), ("DELETE", "/v1/things/a")]
)
def test_what_changes_nothing_leaves_no_record(app: FastAPI, book: Book, method: str, path: str) -> None:
    ask(app, method, path, headers=EDITOR, json={"name": "a"})
    assert "begin" not in book.words


def test_what_is_not_valid_leaves_no_record(app: FastAPI, book: Book) -> None:
    assert make(app, json={"name": ""}) == 422
    assert book.lines == []


def test_single_messages_leave_no_record(book: Book) -> None:
    router = APIRouter(prefix="/v1/messages", tags=["messages"], route_class=Route)

    @router.post("")
    def send(who: Editor) -> int:
        return 1

    frame = GatewayConfig(authenticator=Believer(), clock=ManualClock(), audit=book)
    assert ask(create_app(frame, [router]), "POST", "/v1/messages", headers=EDITOR).status == 200
    assert book.lines == []


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/things"), ("PUT", "/v1/things/a")])
def test_what_cannot_be_recorded_is_not_done(app: FastAPI, book: Book, method: str, path: str) -> None:
    book.begins = Unavailable("away")
    assert ask(app, method, path, headers=EDITOR, json={"name": "a"}).status == 503
    assert book.lines == []


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/v1/things", 201), ("PUT", "/v1/things/a", 200)])
def test_what_is_done_is_answered_though_its_record_cannot_be_ended(
    app: FastAPI, book: Book, method: str, path: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    book.ends = Unavailable("away")
    assert ask(app, method, path, headers=EDITOR, json={"name": "a"}).status == status
    assert "token" in caplog.text


def test_denials_are_counted_by_who_and_where(app: FastAPI, book: Book) -> None:
    assert make(app, headers={"Authorization": "Bearer viewer acme"}) == 403
    assert make(app, headers={}) == 401
    assert make(app, headers={"Authorization": "secret"}) == 401
    assert book.lines == [
        ("denied", ("viewer@acme.example", "203.0.113.9", "POST /v1/things: Denied")),
        ("denied", (None, "203.0.113.9", "POST /v1/things: Unauthenticated")),
        ("denied", (None, "203.0.113.9", "POST /v1/things: Unauthenticated")),
    ]
