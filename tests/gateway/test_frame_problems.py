"""Every error is a problem: one shape, one table, nothing in it that is not the caller's."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter
from starlette.exceptions import HTTPException

from postroom import errors
from postroom.errors import (
    Conflict,
    Corrupt,
    Denied,
    Invalid,
    LeaseLost,
    NotFound,
    PostroomError,
    StorageFull,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from postroom.gateway.access import Viewer
from postroom.gateway.app import create_app
from postroom.gateway.errors import PROBLEM_TYPES, problem_type_of
from postroom.gateway.pipeline import Route
from postroom.gateway.state import GatewayConfig
from tests.fakes.clock import ManualClock
from tests.gateway.frame_kit import EDITOR, Answer, Things, ask, door
from tests.gateway.kit import Believer

PAGE = Path(__file__).parents[2] / "docs/reference/problems.md"


def failing(error: Exception) -> Answer:
    def happens() -> None:
        raise error

    return ask(door(Things(before=happens)), "GET", "/v1/things/a", headers=EDITOR)


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (Invalid("a"), 422, "invalid"),
        (TooLarge("a"), 413, "too-large"),
        (Unauthenticated("a"), 401, "not-signed-in"),
        (Denied("a"), 403, "not-allowed"),
        (NotFound("a"), 404, "not-found"),
        (Conflict("a"), 409, "conflict"),
        (LeaseLost("a"), 409, "conflict"),
        (Unsupported("a"), 422, "not-supported"),
        (HTTPException(413, "a"), 413, "too-large"),
        (HTTPException(400, "a"), 400, "malformed"),
        (HTTPException(418, "a"), 400, "malformed"),
    ],
)
def test_an_error_is_the_problem_of_its_kind_and_says_its_sentence(error: Exception, status: int, word: str) -> None:
    answer = failing(error)
    assert answer.fields["content-type"] == "application/problem+json"
    said = answer.json
    assert (answer.status, said["status"], said["type"], said["detail"]) == (status, status, f"/problems/{word}", "a")
    assert said["request_id"] == answer.fields["x-request-id"]


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (Unavailable("/data/control.db"), 503, "unavailable"),
        (StorageFull("/data/control.db"), 503, "storage-full"),
        (Corrupt("/data/control.db"), 500, "failed"),
        (PostroomError("/data/control.db"), 500, "failed"),
        (ValueError("/data/control.db"), 500, "failed"),
        (HTTPException(502, "/data/control.db"), 500, "failed"),
    ],
)
def test_what_is_ours_is_logged_with_the_request_and_not_told(
    error: Exception, status: int, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = failing(error)
    assert (answer.status, answer.json["type"]) == (status, f"/problems/{word}")
    assert b"control.db" not in answer.body
    assert "control.db" in caplog.text


def test_every_kind_of_error_has_its_own_row_or_its_parents() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PostroomError)]
    failed = {kind for kind in kinds if problem_type_of(kind("x")).word == "failed"}
    assert failed == {PostroomError, errors.Permanent, Corrupt}


def test_words_are_unique_and_fit_an_address() -> None:
    words = [kind.word for kind in PROBLEM_TYPES]
    assert len(set(words)) == len(words)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", word) for word in words)


@pytest.mark.parametrize("kind", PROBLEM_TYPES, ids=lambda kind: kind.word)
def test_each_kind_explains_itself_to_people_and_programs(kind: Any) -> None:
    app = door(Things())
    said = ask(app, "GET", f"/problems/{kind.word}").json
    assert (said["status"], said["meaning"]) == (kind.status, kind.meaning)
    page = ask(app, "GET", f"/problems/{kind.word}", headers={"Accept": "text/html"})
    assert page.fields["content-type"].startswith("text/html")
    assert kind.title.encode() in page.body


def test_the_page_of_problems_has_every_row() -> None:
    rows = re.findall(r"^\| (\d+) \| `/problems/([a-z-]+)` \| (.+?) \| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert rows == [(str(kind.status), kind.word, kind.title, kind.meaning) for kind in PROBLEM_TYPES]


def test_an_unknown_path_is_a_problem() -> None:
    answer = ask(door(Things()), "GET", "/v1/nothing/here")
    assert (answer.status, answer.json["type"]) == (404, "/problems/no-such-address")


def test_a_slash_too_many_is_not_redirected() -> None:
    assert ask(door(Things()), "POST", "/v1/things/", headers=EDITOR, json={"name": "a"}).status == 404


def test_a_wrong_method_names_all_that_the_path_takes() -> None:
    answer = ask(door(Things()), "DELETE", "/v1/things/a")
    assert (answer.status, answer.fields["allow"]) == (405, "GET, PUT")


def test_a_path_of_its_own_is_no_parameter_of_another() -> None:
    """Whatever the order in which they are declared."""
    answer = ask(door(Things()), "GET", "/v1/things/import", headers=EDITOR)
    assert (answer.status, answer.fields["allow"]) == (405, "POST")


def test_nobody_is_told_how_to_sign_in() -> None:
    app = door(Things())
    assert ask(app, "GET", "/v1/things/a").fields["www-authenticate"] == 'Bearer realm="postroom"'
    wrong = ask(app, "GET", "/v1/things/a", headers={"Authorization": "x"})
    assert (wrong.status, wrong.fields["www-authenticate"]) == (401, 'Bearer realm="postroom", error="invalid_token"')


def test_a_temporary_problem_says_when_to_come_again() -> None:
    assert int(failing(Unavailable("x")).fields["retry-after"]) >= 1


def test_faults_are_told_place_by_place_without_the_values() -> None:
    body = {"name": "", "parts": ["secret", 2], "odd/one~": 1}
    answer = ask(door(Things()), "POST", "/v1/things", headers=EDITOR, json=body)
    assert answer.status == 422
    assert b"secret" not in answer.body
    found = {(fault["in"], fault["pointer"]) for fault in answer.json["errors"]}
    assert found == {("body", "#/name"), ("body", "#/parts/0"), ("body", "#/odd~1one~0")}


def test_faults_of_a_field_are_told() -> None:
    answer = ask(door(Things()), "PUT", "/v1/things/a", headers={**EDITOR, "If-Match": "x" * 1_001}, json={"name": "a"})
    assert [(fault["in"], fault["pointer"]) for fault in answer.json["errors"]] == [("header", "#/If-Match")]


def test_thousands_of_faults_are_not_answered_with_as_many() -> None:
    answer = ask(door(Things()), "POST", "/v1/things", headers=EDITOR, json={f"x{n}": n for n in range(5_000)})
    assert len(answer.json["errors"]) <= 50
    assert len(answer.body) < 10_000


@pytest.mark.parametrize(("part", "status"), [("1", 201), ("1.0", 201), ("true", 422), ('"1"', 422), ("1.5", 422), ("1001", 422)])
def test_numbers_are_what_json_schema_calls_so(part: str, status: int) -> None:
    headers = {**EDITOR, "Content-Type": "application/json"}
    body = b'{"name": "a", "parts": [%s]}' % part.encode()
    assert ask(door(Things()), "POST", "/v1/things", headers=headers, body=body).status == status


def test_an_answer_that_is_not_as_declared_is_not_shown_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    router = APIRouter(prefix="/v1/odd", route_class=Route)

    @router.get("", response_model=int)
    def odd(who: Viewer) -> str:
        return "anna@mail.example"

    app = create_app(GatewayConfig(authenticator=Believer(), clock=ManualClock()), [router])
    assert ask(app, "GET", "/v1/odd", headers=EDITOR).status == 500
    assert "int_parsing" in caplog.text
    assert "anna" not in caplog.text
