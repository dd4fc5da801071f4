"""What is too much: bodies, depth, time, calls at once; and what no text may hold."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from functools import partial

import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.types import Message

from postroom.gateway.access import Viewer
from postroom.gateway.app import create_app
from postroom.gateway.limits import RequestLimits
from postroom.gateway.pipeline import Route
from postroom.gateway.state import GatewayConfig
from tests.fakes.clock import ManualClock
from tests.gateway.frame_kit import EDITOR, Answer, Things, ask, call, door
from tests.gateway.kit import Believer

JSON = {**EDITOR, "Content-Type": "application/json"}
MB = 1_000_000


def post(body: bytes | list[bytes], *, media: str = "application/json", path: str = "/v1/things") -> Answer:
    return ask(door(Things()), "POST", path, headers={**EDITOR, "Content-Type": media}, body=body)


def test_a_body_of_the_limit_is_read() -> None:
    head = b'{"name":"'
    assert post(head + b"x" * (MB - len(head) - 2) + b'"}').status == 422  # read, and its name too long


def test_a_larger_body_is_refused_by_its_length_before_it_comes() -> None:
    headers = {**JSON, "Content-Length": str(MB + 1)}
    answer = ask(door(Things()), "POST", "/v1/things", headers=headers, body=b"", stalls=True)
    assert (answer.status, answer.fields["connection"]) == (413, "close")
    assert "1,000,000" in answer.json["detail"]


def test_a_larger_body_without_a_length_is_refused_when_it_has_passed_the_limit() -> None:
    assert post([b"x" * 400_000] * 3).status == 413


def test_a_length_that_lies_does_not_help() -> None:
    headers = {**JSON, "Content-Length": "10"}
    assert ask(door(Things()), "POST", "/v1/things", headers=headers, body=b"x" * (MB + 1)).status == 413


def test_a_route_may_take_more() -> None:
    assert post(b"x" * 2_900_000, path="/v1/things/import").status == 200
    assert post(b"x" * 3_000_001, path="/v1/things/import").status == 413


def test_a_body_under_a_streaming_path_may_have_any_size() -> None:
    router = APIRouter()

    @router.put("/transfers/x")
    async def take(request: Request) -> int:
        return sum([len(part) async for part in request.stream()])

    app = create_app(GatewayConfig(authenticator=Believer(), clock=ManualClock()), [router])
    assert ask(app, "PUT", "/transfers/x", body=[b"x" * MB] * 3).json == 3 * MB


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    app = door(Things(), limits=RequestLimits(body_s=0.02))
    answer = ask(app, "POST", "/v1/things", headers=JSON, body=[b'{"na'], stalls=True)
    assert (answer.status, answer.json["type"]) == (408, "/problems/too-slow")


def test_a_handler_that_takes_too_long_is_answered_for_and_goes_on() -> None:
    """The answer is out while the handler still holds its thread."""
    answered, done = threading.Event(), []
    sent: list[Message] = []
    things = Things(before=partial(_wait, answered), after=lambda: done.append(True))
    app = door(things, limits=RequestLimits(handle_s=0.02))

    async def patient() -> Answer:
        waiting = asyncio.create_task(call(app, "POST", "/v1/things", headers=EDITOR, json={"name": "a"}, sent=sent))
        _, late = await asyncio.wait([waiting], timeout=0.2)
        assert late, "it holds its thread"
        assert sent[0]["status"] == 503
        assert done == []
        answered.set()
        return await waiting

    answer = asyncio.run(patient())
    assert (answer.status, answer.json["type"]) == (503, "/problems/unavailable")
    assert "retry-after" in answer.fields
    assert done == [True]


def test_no_more_than_so_many_calls_are_in_progress() -> None:
    app = door(Things(), limits=RequestLimits(in_progress=1))

    async def two() -> tuple[Answer, Answer]:
        first = asyncio.create_task(call(app, "POST", "/v1/things", headers=JSON, body=[b"{"], stalls=True))
        await asyncio.sleep(0)
        second = await call(app, "GET", "/v1/things/a", headers=EDITOR)
        first.cancel()
        await asyncio.wait([first])
        return second, await call(app, "GET", "/v1/things/a", headers=EDITOR)

    refused, later = asyncio.run(two())
    assert (refused.status, refused.json["type"]) == (503, "/problems/overloaded")
    assert later.status == 200


async def beside(app: FastAPI, slow: dict[str, str], *calls: dict[str, str]) -> list[Answer]:
    """The answers to calls that come while another, with the fields `slow`, sends its body slowly."""
    first = asyncio.create_task(call(app, "POST", "/v1/things", headers=JSON | slow, body=[b"{"], stalls=True))
    await asyncio.sleep(0)
    answers = [await call(app, "GET", "/v1/things/a", headers=fields) for fields in calls]
    first.cancel()
    await asyncio.wait([first])
    return answers


def test_a_tenant_alone_cannot_fill_the_door() -> None:
    app, other = door(Things(), limits=RequestLimits(per_tenant=1)), {"Authorization": "Bearer editor other"}
    own, others = asyncio.run(beside(app, EDITOR, EDITOR, other))
    assert (own.status, own.json["type"], others.status) == (503, "/problems/overloaded", 200)
    assert asyncio.run(beside(app, other, EDITOR))[0].status == 200


def test_a_place_of_a_tenant_is_free_when_its_answer_has_ended() -> None:
    router, ended = APIRouter(prefix="/v1/slow", tags=["slow"], route_class=Route), asyncio.Event()

    async def parts() -> AsyncIterator[bytes]:
        yield b"a"
        await ended.wait()

    @router.get("")
    async def slow(who: Viewer) -> StreamingResponse:
        return StreamingResponse(parts())

    frame = GatewayConfig(authenticator=Believer(), clock=ManualClock(), limits=RequestLimits(per_tenant=1))
    app = create_app(frame, [router])

    async def two() -> tuple[int, int]:
        sent: list[Message] = []
        first = asyncio.create_task(call(app, "GET", "/v1/slow", headers=EDITOR, stalls=True, sent=sent))
        while len(sent) < 2:
            await asyncio.sleep(0)
        second = await call(app, "GET", "/v1/slow", headers=EDITOR)
        ended.set()
        await first
        return second.status, (await call(app, "GET", "/v1/slow", headers=EDITOR, stalls=True)).status

    assert asyncio.run(two()) == (503, 200)


def test_who_shows_no_credentials_cannot_fill_the_door() -> None:
    app, nobody = door(Things(), limits=RequestLimits(unauthenticated=1)), {"Content-Type": "application/json"}

    async def three() -> list[int]:
        first = asyncio.create_task(call(app, "POST", "/v1/things", headers=nobody, body=[b"{"], stalls=True))
        await asyncio.sleep(0)
        rest = [
            await call(app, "GET", path, headers=fields) for path, fields in (("/openapi.json", {}), ("/v1/things/a", EDITOR))
        ]
        first.cancel()
        await asyncio.wait([first])
        return [each.status for each in rest]

    assert asyncio.run(three()) == [503, 200]
    assert ask(app, "GET", "/openapi.json").status == 200


def test_no_more_than_so_many_handlers_wait_for_a_thread() -> None:
    answered, started = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        _wait(answered)

    app = door(Things(before=hold), limits=RequestLimits(handlers=1))

    async def two() -> Answer:
        first = asyncio.create_task(call(app, "GET", "/v1/things/a", headers=EDITOR))
        await asyncio.to_thread(started.wait, 10)
        second = await call(app, "GET", "/v1/things/a", headers=EDITOR)
        answered.set()
        assert (await first).status == 200
        return second

    assert asyncio.run(two()).json["type"] == "/problems/overloaded"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"",
        b'{"name": NaN}',
        b'{"name": "\\ud800"}',
        b'{"name": "a\\u0000b"}',
        b'{"a\\u0000b": "a"}',
        b'{"parts": [[["\\u0000"]]]}',
        b'{"name": "\xff"}',
        b'\xef\xbb\xbf{"name": "a"}',
        b"[" * 100_000,
        b"[" * 5_000 + b"]" * 5_000,
        b'{"name":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"parts": [1e999]}',
        b'{"parts": [' + b"9" * 5_000 + b"]}",
        b'{"name": "a", "name": 1}',
    ],
    ids=lambda body: str(body[:20]),
)
def test_what_no_store_could_keep_is_not_valid(body: bytes) -> None:
    answer = post(body)
    assert (answer.status, answer.json["type"]) == (422, "/problems/invalid")


def test_a_backslash_before_u0000_is_no_such_character() -> None:
    assert post(b'{"name": "\\\\u0000"}').status == 201


@pytest.mark.parametrize("path", ["/v1/things/a\x00b", "/v1/things/a?limit=%00"])
def test_an_address_holds_no_nul(path: str) -> None:
    assert ask(door(Things()), "GET", path, headers=EDITOR).status == 422


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json", ""]
)
def test_another_media_type_is_not_read(media: str) -> None:
    answer = post(b'{"name": "a"}', media=media)
    assert (answer.status, answer.json["type"]) == (415, "/problems/unsupported-media-type")


@pytest.mark.parametrize("media", ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"])
def test_json_by_any_of_its_names_is_read(media: str) -> None:
    assert post(b'{"name": "a"}', media=media).status == 201


def _wait(event: threading.Event) -> None:
    assert event.wait(10)
