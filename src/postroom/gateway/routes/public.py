"""Unauthenticated recipient endpoints: `/t/o/…` (pixel), `/t/c/…` (links) and `/u/…` (unsubscribe page). The token is the
credential.

- Errors are pages for people, not problems. An unknown token is counted by address, like any request without credentials; so is
  one whose campaign has to be loaded first. A valid token is not: behind one address of an image proxy or of a mail provider are
  millions of people. Changes by a token are counted by token.
- Tracking is called more often than everything else together, so it is bare ASGI inside the same middleware: FastAPI's parameters
  and threads would cost more than the response. What is not in memory is loaded in a thread.
- The pixel is returned for every token: a response never shows whether a token is valid, and no mail shows a broken picture.
- Unsubscribe: GET shows the status and changes nothing, because scanners follow links. POST changes it: at once for one-click
  unsubscribe (RFC 8058), else as the page's form says, then back to the page (303) so that reloading repeats nothing. A form that
  cannot be parsed has no fields and counts as one click.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Final, TypeVar
from urllib.parse import parse_qsl, quote

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from postroom.errors import Invalid, NotFound, PostroomError, Temporary, TooLarge, Unavailable
from postroom.events.machine_detection import TrackingRequest, tracking_request
from postroom.events.tracking import NotCached, Tracking
from postroom.events.unsubscribe import BY_BUTTON, BY_LINK, SubscriptionState, UnsubscribeService
from postroom.gateway.errors import TooManyRequests
from postroom.gateway.middleware import Raw
from postroom.gateway.recipient_pages import GONE, LATER, RecipientPage, render_page
from postroom.gateway.state import GatewayState
from postroom.ledger.suppression import RECIPIENT_REASONS, SuppressionReason
from postroom.telemetry.logs import event_logger

MAX_FORM_BYTES = 16_384
_MOST_FIELDS = 50
_BOUNDARY = re.compile(r"""multipart/form-data\s*;.*?\bboundary=(?:"([^"]{1,70})"|([^\s;",]{1,70}))""", re.IGNORECASE | re.DOTALL)
_NAME = re.compile(rb"""^content-disposition:[^\r\n]*;\s*name=(?:"([^"\r\n]*)"|([^\s;"]+))""", re.IGNORECASE | re.MULTILINE)


async def read_form(request: Request) -> Mapping[str, str]:
    """The form's fields; the last of a repeated name. Raises `TooLarge`."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise TooLarge(f"the form is larger than {MAX_FORM_BYTES:,} bytes")
    return parse_form(request.headers.get("content-type", ""), bytes(body))


def parse_form(content_type: str, body: bytes) -> Mapping[str, str]:
    boundary = _BOUNDARY.match(content_type.strip())
    if boundary is not None:
        return _multipart(body, (boundary[1] or boundary[2]).encode())
    try:
        return dict(parse_qsl(body.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        return {}


def _multipart(body: bytes, boundary: bytes) -> Mapping[str, str]:
    found = {}
    for part in body.split(b"--" + boundary)[1 : _MOST_FIELDS + 1]:
        head, gap, value = part.replace(b"\r\n", b"\n").partition(b"\n\n")
        name = _NAME.search(head)
        if gap and name is not None:
            found[(name[1] or name[2] or b"").decode("utf-8", "replace")] = value.strip(b"\n").decode("utf-8", "replace")
    return found


_RETRY_AFTER_S = 2
_log = event_logger(__name__)


def charge_client(scope: Scope) -> None:
    """Count a call by its address. Raises `TooManyRequests`."""
    gateway: GatewayState = scope["app"].state.gateway
    client = scope.get("client")
    gateway.rates.charge_address(client[0] if client else "unknown")


def charge_link(scope: Scope, token: str) -> None:
    """Count a change by its token. Raises `TooManyRequests`."""
    gateway: GatewayState = scope["app"].state.gateway
    gateway.rates.charge_link(token)


def error_page(error: PostroomError, request: Request) -> Response:
    """The page for an error. Errors on our side are raised."""
    accepted = request.headers.get("accept-language", "")
    if isinstance(error, Invalid | NotFound):
        try:
            charge_client(request.scope)
        except TooManyRequests as too_many:
            error = too_many
        else:
            return render_page(GONE, accepted, status=404)
    if isinstance(error, TooManyRequests):
        return render_page(LATER, accepted, status=429, headers={"Retry-After": str(error.retry_after_s)})
    if not isinstance(error, Temporary):
        raise error
    _log.warning("recipient_page.unavailable", reason=str(error))
    return render_page(LATER, accepted, status=503, headers={"Retry-After": str(_RETRY_AFTER_S)})


PIXEL: Final = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
"""A transparent GIF of one pixel."""
_NOT_KEPT = (b"cache-control", b"no-store, no-cache, must-revalidate, private, max-age=0")
_PIXEL_FIELDS = [(b"content-type", b"image/gif"), (b"content-length", str(len(PIXEL)).encode()), _NOT_KEPT]
_URL_SAFE = "!#$%&'()*+,/:;=?@[]~"
"""Characters kept in a URL (RFC 3986) besides letters and digits; others are percent-encoded."""
_Answer = Callable[[str, Scope, Receive, Send], Awaitable[None]]
T = TypeVar("T")


def tracking_routes(tracking: Tracking, prefixes: Sequence[str] = ("",)) -> APIRouter:
    """`prefixes`: paths before `/t/`, from the public URL."""
    router, answers = APIRouter(), _TrackingEndpoints(tracking)
    for prefix in prefixes:
        router.routes += [_TokenRoute(f"{prefix}/t/o/", answers.pixel), _TokenRoute(f"{prefix}/t/c/", answers.link)]
    return router


class _TokenRoute(BaseRoute):
    """Matches every path under a prefix."""

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


class _TrackingEndpoints:
    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    async def pixel(self, token: str, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._prepared(self._tracking.opened, token, scope)
        except (Invalid, NotFound, TooManyRequests):  # nothing to record
            pass
        except PostroomError as error:
            _log.warning("tracking.open_not_recorded", reason=str(error))
        await _send(send, 200, _PIXEL_FIELDS, PIXEL)

    async def link(self, token: str, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            url = await self._prepared(self._tracking.clicked, token, scope)
        except PostroomError as error:
            await error_page(error, Request(scope))(scope, receive, send)
            return
        where = quote(url, safe=_URL_SAFE).encode()
        fields = [(b"location", where), (b"content-length", b"0"), _NOT_KEPT, (b"x-robots-tag", b"noindex, nofollow")]
        await _send(send, 302, fields)

    async def _prepared(self, answer: Callable[[str, TrackingRequest], T], token: str, scope: Scope) -> T:
        """The answer from memory, or after loading what it needs."""
        fetch = tracking_request(scope["method"], scope["headers"])
        try:
            return answer(token, fetch)
        except NotCached:
            charge_client(scope)
        await to_thread.run_sync(self._tracking.prepare, token)
        try:
            return answer(token, fetch)
        except NotCached as error:  # evicted again by many other loads
            raise Unavailable("too many campaigns are asked for at once") from error


async def _send(send: Send, status: int, fields: Raw, body: bytes = b"") -> None:
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


class PageChoice(StrEnum):
    """Values of the page's buttons."""

    STOP_TOPIC = "stop-topic"
    STOP_ALL = "stop-all"
    UNDO_TOPIC = "undo-topic"
    UNDO_ALL = "undo-all"


def unsubscribe_routes(
    unsubscribing: UnsubscribeService, sender_of: Callable[[SubscriptionState], str], prefixes: Sequence[str] = ("",)
) -> APIRouter:
    """`sender_of`: the sender's display name; empty: unknown. `prefixes`: paths before `/u/`, from the public URL."""
    router = APIRouter(include_in_schema=False)

    async def show(token: str, request: Request) -> Response:
        """Show the subscription status and the choices."""
        try:
            return await to_thread.run_sync(look, token, request)
        except PostroomError as error:
            return error_page(error, request)

    async def choose(token: str, request: Request) -> Response:
        """Change the subscription as the form says."""
        choice = (await read_form(request)).get("choice")
        try:
            charge_link(request.scope, token)
            await to_thread.run_sync(_act(unsubscribing, token, choice))
            if choice is None:
                return await to_thread.run_sync(look, token, request)
        except PostroomError as error:
            return error_page(error, request)
        return Response(status_code=303, headers={"Location": token, "Cache-Control": "no-store"})

    def look(token: str, request: Request) -> Response:
        subscription = unsubscribing.state(token)
        accepted = request.headers.get("accept-language", "")
        return render_page(page_for(subscription), accepted, sender=sender_of(subscription), topic=subscription.topic or "")

    for prefix in prefixes:
        router.add_api_route(f"{prefix}/u/{{token}}", show, methods=["GET", "HEAD"])
        router.add_api_route(f"{prefix}/u/{{token}}", choose, methods=["POST"])
    return router


def page_for(subscription: SubscriptionState) -> RecipientPage:
    """The page for a subscription status."""
    if subscription.no_mail is not None and subscription.no_mail.reason in RECIPIENT_REASONS:
        undo = [(PageChoice.UNDO_ALL, "undo")] if subscription.no_mail.reason is SuppressionReason.UNSUBSCRIBE else []
        return RecipientPage(title="done", texts=["done_all"], buttons=undo, note="note", is_done=True)
    if subscription.no_topic is not None and subscription.no_topic.reason in RECIPIENT_REASONS:
        buttons = [(PageChoice.UNDO_TOPIC, "undo"), (PageChoice.STOP_ALL, "stop_all")]
        return RecipientPage(title="done", texts=["done_topic"], buttons=buttons, note="note", is_done=True)
    if subscription.topic is None:
        return RecipientPage(title="ask", texts=["ask_all"], buttons=[(PageChoice.STOP_ALL, "stop")])
    buttons = [(PageChoice.STOP_TOPIC, "stop_topic"), (PageChoice.STOP_ALL, "stop_all")]
    return RecipientPage(title="ask", texts=["ask_topic"], buttons=buttons)


def _act(unsubscribing: UnsubscribeService, token: str, choice: str | None) -> Callable[[], SubscriptionState]:
    if choice is None:
        return partial(unsubscribing.unsubscribe, token, source=BY_BUTTON)
    if choice in {PageChoice.UNDO_TOPIC, PageChoice.UNDO_ALL}:
        return partial(unsubscribing.resubscribe, token, everything=choice == PageChoice.UNDO_ALL, source=BY_LINK)
    if choice in {PageChoice.STOP_TOPIC, PageChoice.STOP_ALL}:
        return partial(unsubscribing.unsubscribe, token, everything=choice == PageChoice.STOP_ALL, source=BY_LINK)
    return partial(unsubscribing.state, token)
