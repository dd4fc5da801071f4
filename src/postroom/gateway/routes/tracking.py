"""`/t/o/…` and `/t/c/…`: the pixel in a mail, and its links. From outside, without credentials: the token is all there is.

They are called more often than all other addresses, so they are no FastAPI routes, whose parameters and threads cost more than
the answer: bare ASGI, inside the same frame. What is not in memory is learned in a thread.

A pixel is a pixel whatever its token: nobody learns by it whether a token is good, and no mail shows a broken picture.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar
from urllib.parse import quote

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from postroom.errors import Invalid, NotFound, PostroomError, Unavailable
from postroom.events.machine_detection import TrackingRequest, tracking_request
from postroom.events.tracking import NotCached, Tracking
from postroom.gateway.headers import Raw
from postroom.gateway.refusals import TooMany
from postroom.gateway.strangers import charge, refusal

PIXEL: Final = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
"""A GIF of one transparent point."""
_NOT_KEPT = (b"cache-control", b"no-store, no-cache, must-revalidate, private, max-age=0")
_PIXEL_FIELDS = [(b"content-type", b"image/gif"), (b"content-length", str(len(PIXEL)).encode()), _NOT_KEPT]
_SAFE = "!#$%&'()*+,/:;=?@[]~"
"""What stays as it is in an address (RFC 3986); all else that is no letter or digit is percent-encoded."""
_Answer = Callable[[str, Scope, Receive, Send], Awaitable[None]]
_log = logging.getLogger(__name__)
T = TypeVar("T")


def tracking_routes(tracking: Tracking, prefixes: Sequence[str] = ("",)) -> APIRouter:
    """`prefixes`: what may stand before `/t/`, as the public URL has it."""
    router, answers = APIRouter(), _Answers(tracking)
    for prefix in prefixes:
        router.routes += [_Token(f"{prefix}/t/o/", answers.pixel), _Token(f"{prefix}/t/c/", answers.link)]
    return router


class _Token(BaseRoute):
    """Everything that begins so."""

    def __init__(self, head: str, answer: _Answer) -> None:
        self.path = f"{head}{{token}}"
        self._head = head
        self._answer = answer

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        found = scope["type"] == "http" and scope["path"].startswith(self._head)
        return (Match.FULL, {"route": self}) if found else (Match.NONE, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in {"GET", "HEAD"}:
            raise HTTPException(405, "a mail's pixel and links are fetched by GET", {"Allow": "GET, HEAD"})
        await self._answer(scope["path"][len(self._head) :], scope, receive, send)


class _Answers:
    """The token's."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    async def pixel(self, token: str, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._prepared(self._tracking.opened, token, scope)
        except (Invalid, NotFound, TooMany):  # nothing to record
            pass
        except PostroomError as error:
            _log.warning("an open is not recorded: %s", error)
        await _send(send, 200, _PIXEL_FIELDS, PIXEL)

    async def link(self, token: str, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            url = await self._prepared(self._tracking.clicked, token, scope)
        except PostroomError as error:
            await refusal(error, Request(scope))(scope, receive, send)
            return
        where = quote(url, safe=_SAFE).encode()
        fields = [(b"location", where), (b"content-length", b"0"), _NOT_KEPT, (b"x-robots-tag", b"noindex, nofollow")]
        await _send(send, 302, fields)

    async def _prepared(self, answer: Callable[[str, TrackingRequest], T], token: str, scope: Scope) -> T:
        """From memory, or once what it needs has come to memory."""
        fetch = tracking_request(scope["method"], scope["headers"])
        try:
            return answer(token, fetch)
        except NotCached:
            charge(scope)
        await to_thread.run_sync(self._tracking.prepare, token)
        try:
            return answer(token, fetch)
        except NotCached as error:  # so many others were learned meanwhile that it is forgotten again
            raise Unavailable("too many campaigns are asked for at once") from error


async def _send(send: Send, status: int, fields: Raw, body: bytes = b"") -> None:
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
