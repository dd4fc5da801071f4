"""`/u/…`: where people say that they want no more mail. From outside, without credentials: the token is all there is.

GET shows how they stand, and changes nothing: scanners follow links. POST does it: at once for a mail program's button (RFC
8058), else as the page's form says, back at the page then (303), so that reloading it repeats nothing. A form without a choice
is the button, or something that means the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from postroom.errors import PostroomError
from postroom.events.unsubscribe import BY_BUTTON, BY_LINK, SubscriptionState, UnsubscribeService
from postroom.gateway.forms import fields_of
from postroom.gateway.leaflets import Leaflet, shown
from postroom.gateway.strangers import charge_link, refusal
from postroom.ledger.suppression import RECIPIENT_REASONS, SuppressionReason


class Choice(StrEnum):
    """What the page's buttons say."""

    STOP_TOPIC = "stop-topic"
    STOP_ALL = "stop-all"
    UNDO_TOPIC = "undo-topic"
    UNDO_ALL = "undo-all"


def unsubscribe_routes(
    unsubscribing: UnsubscribeService, sender_of: Callable[[SubscriptionState], str], prefixes: Sequence[str] = ("",)
) -> APIRouter:
    """`sender_of`: whose mail it was, for people; empty: nobody in particular. `prefixes`: what may stand before `/u/`, as the
    public URL has it."""
    router = APIRouter(include_in_schema=False)

    async def show(token: str, request: Request) -> Response:
        """How they stand, and what they can choose."""
        try:
            return await to_thread.run_sync(look, token, request)
        except PostroomError as error:
            return refusal(error, request)

    async def choose(token: str, request: Request) -> Response:
        """Do as the form says."""
        choice = (await fields_of(request)).get("choice")
        try:
            charge_link(request.scope, token)
            await to_thread.run_sync(_act(unsubscribing, token, choice))
            if choice is None:
                return await to_thread.run_sync(look, token, request)
        except PostroomError as error:
            return refusal(error, request)
        return Response(status_code=303, headers={"Location": token, "Cache-Control": "no-store"})

    def look(token: str, request: Request) -> Response:
        wish = unsubscribing.look(token)
        accepted = request.headers.get("accept-language", "")
        return shown(leaflet_of(wish), accepted, sender=sender_of(wish), topic=wish.topic or "")

    for prefix in prefixes:
        router.add_api_route(f"{prefix}/u/{{token}}", show, methods=["GET", "HEAD"])
        router.add_api_route(f"{prefix}/u/{{token}}", choose, methods=["POST"])
    return router


def leaflet_of(wish: SubscriptionState) -> Leaflet:
    """The page that shows how somebody stands."""
    if wish.no_mail is not None and wish.no_mail.reason in RECIPIENT_REASONS:
        undo = [(Choice.UNDO_ALL, "undo")] if wish.no_mail.reason is SuppressionReason.UNSUBSCRIBE else []
        return Leaflet(title="done", texts=["done_all"], buttons=undo, note="note", is_done=True)
    if wish.no_topic is not None and wish.no_topic.reason in RECIPIENT_REASONS:
        buttons = [(Choice.UNDO_TOPIC, "undo"), (Choice.STOP_ALL, "stop_all")]
        return Leaflet(title="done", texts=["done_topic"], buttons=buttons, note="note", is_done=True)
    if wish.topic is None:
        return Leaflet(title="ask", texts=["ask_all"], buttons=[(Choice.STOP_ALL, "stop")])
    buttons = [(Choice.STOP_TOPIC, "stop_topic"), (Choice.STOP_ALL, "stop_all")]
    return Leaflet(title="ask", texts=["ask_topic"], buttons=buttons)


def _act(unsubscribing: UnsubscribeService, token: str, choice: str | None) -> Callable[[], SubscriptionState]:
    if choice is None:
        return partial(unsubscribing.unsubscribe, token, source=BY_BUTTON)
    if choice in {Choice.UNDO_TOPIC, Choice.UNDO_ALL}:
        return partial(unsubscribing.resubscribe, token, everything=choice == Choice.UNDO_ALL, source=BY_LINK)
    if choice in {Choice.STOP_TOPIC, Choice.STOP_ALL}:
        return partial(unsubscribing.unsubscribe, token, everything=choice == Choice.STOP_ALL, source=BY_LINK)
    return partial(unsubscribing.look, token)
