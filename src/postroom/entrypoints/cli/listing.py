"""All messages of a campaign, page by page."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from postroom.errors import NotFound
from postroom.model.campaign import Home
from postroom.model.message import Message, MessageState
from postroom.wiring import Postroom

_PAGE = 1_000


def every_message(postroom: Postroom, home: Home, states: Collection[MessageState] = ()) -> Iterator[Message]:
    """Of these states (none named: all); none where nothing is imported yet."""
    cursor: str | None = None
    while True:
        try:
            page = postroom.messages.list(home, states=states, cursor=cursor, limit=_PAGE)
        except NotFound:
            return
        yield from page.messages
        cursor = page.cursor
        if cursor is None:
            return
