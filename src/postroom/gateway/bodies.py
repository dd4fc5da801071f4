"""Request bodies as strict JSON, and limits on them, the same for every route.

- 422: not JSON (RFC 8259: no NaN, no byte order mark, UTF-8 only), lone surrogates, the character NUL, nesting deeper than
  1,024.
- 415: a media type that the route does not read.
- 413: more bytes than the route takes (1 MB unless `@accepts` says otherwise): by `Content-Length` before anything is read, by
  count afterwards.
- 408: bytes that do not arrive in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import orjson
from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

from postroom.errors import Invalid
from postroom.gateway.errors import UnsupportedMediaType

Handler = TypeVar("Handler", bound=Callable[..., Any])
_MOST = "_postroom_max_body"
_BODY = "postroom.body"
_CLOSE = {"Connection": "close"}
"""The rest of the body is not read."""


def accepts(max_body: int | None) -> Callable[[Handler], Handler]:
    """Sets a route's body limit in bytes; None: the handler counts while streaming."""

    def mark(handler: Handler) -> Handler:
        setattr(handler, _MOST, max_body)
        return handler

    return mark


class StrictRequest(Request):
    """A request with a strictly parsed, cached JSON body."""

    async def prepare(self, handler: Callable[..., Any], *, json: bool) -> None:
        """Check path, query and body before the handler runs. `json`: the handler reads JSON.

        Raises `Invalid` for U+0000 in path or query and for invalid JSON; `UnsupportedMediaType`."""
        scope = self.scope
        if "\x00" in scope["path"] or b"%00" in scope["query_string"]:
            raise Invalid("the address holds the character U+0000, which no text may")
        body: LimitedBody | None = scope.get(_BODY)
        if body is None:
            return
        body.most = getattr(handler, _MOST, body.most)
        if json:
            media = media_type(self)
            if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
                raise UnsupportedMediaType(f"the body must be application/json, not {media or 'without a Content-Type'}")
            await self.json()

    async def json(self) -> Any:
        """Raises `Invalid`."""
        if not hasattr(self, "_strict"):
            self._strict = _parsed(await self.body())
        return self._strict


def media_type(request: Request) -> str:
    """The body's media type in lower case, without parameters; empty if there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


class LimitedBody:
    """A request body, counted and timed while it is read."""

    def __init__(self, receive: Receive, length: int | None, *, most: int | None, seconds: float) -> None:
        self.most = most
        self._receive = receive
        self._length = length
        self._seconds = seconds
        self._deadline: float | None = None
        self._seen = 0
        self._ended = False

    async def receive(self) -> Message:
        """The ASGI callable. Raises 413 and 408."""
        if self._ended:
            return await self._receive()
        if self._length is not None:
            self._demand_room(self._length)
        try:
            async with asyncio.timeout_at(self._until()):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, f"the body did not come within {self._seconds:g} s", _CLOSE) from None
        self._seen += len(message.get("body", b""))
        self._demand_room(self._seen)
        self._ended = not message.get("more_body", False)
        return message

    def _until(self) -> float:
        """For the whole body; where it may have any size, for its next part."""
        if self._deadline is None or self.most is None:
            self._deadline = asyncio.get_running_loop().time() + self._seconds
        return self._deadline

    def _demand_room(self, size: int) -> None:
        if self.most is not None and size > self.most:
            raise HTTPException(413, f"the body may have {self.most:,} bytes at most", _CLOSE)


def limited(scope: Scope, receive: Receive, *, most: int | None, seconds: float) -> Receive:
    """`receive` with limits, where a body is announced."""
    length: int | None = None
    coming = False
    for name, value in scope["headers"]:
        if name == b"content-length":
            coming = True
            length = int(value) if value.isdigit() else None
        elif name == b"transfer-encoding":
            coming = True
    if not coming or length == 0:
        return receive
    body = scope[_BODY] = LimitedBody(receive, length, most=most, seconds=seconds)
    return body.receive


def _parsed(body: bytes) -> Any:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"the body is not JSON: {error}") from error
    if b"\\u0000" in body and _holds_nul(value):
        raise Invalid("the body holds the character U+0000, which no text may")
    return value


def _holds_nul(value: object) -> bool:
    """Depth is bounded by the parser."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str) and "\x00" in one:
            return True
        if isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            waiting += one
    return False
