"""What an open or a click is answered with, and what is told of it: from memory alone, but for what has to be learned first.

Tokens are checked by their MAC, so nothing that was not sealed here is recorded or leads anywhere. A program that asks twice for
the same within ten seconds (a picture in two sizes, a double click) has made one event: its id is made of what it is about, of
these ten seconds, and of what the program says of itself, so that no scanner's hit stands for the person's after it. Nothing else
is kept of whoever asked, least of all their address.
"""

from __future__ import annotations

import hashlib
from typing import Final, Protocol

from postroom.clock import Clock
from postroom.errors import NotFound
from postroom.events.links import LinkTables
from postroom.events.machines import Fetch, machine_of
from postroom.events.tenant_secrets import TenantSecrets
from postroom.ledger.arrivals import Arrival
from postroom.model.event import MAX_DETAIL, MAX_URL, Event, EventKind
from postroom.model.wire import Hit, open_hit

SOURCE: Final = "tracking"
_TOGETHER_MS: Final = 10_000
_WEB: Final = ("http://", "https://")


class Taker(Protocol):
    """Who brings hits to the queue: `events.hits`, or `events.hits_at_once`."""

    def add(self, hit: Arrival) -> None:
        """Take one. Never raises for a queue that does not answer."""
        ...


class Unprepared(Exception):
    """A store has to be asked first: `Tracking.prepare`."""


class Tracking:
    """See the module's text. For several threads."""

    def __init__(self, secrets: TenantSecrets, links: LinkTables, hits: Taker, clock: Clock) -> None:
        self._secrets = secrets
        self._links = links
        self._hits = hits
        self._clock = clock

    def opened(self, text: str, fetch: Fetch) -> None:
        """A pixel was fetched. `Invalid`: not one of ours; `Unprepared`."""
        hit = open_hit(text, self._secret)
        if hit.link is not None or hit.url is not None:
            raise NotFound("a link's token is no pixel's")
        self._tell(EventKind.OPENED, hit, fetch, url="")

    def clicked(self, text: str, fetch: Fetch) -> str:
        """Where the link leads. `Invalid`, `NotFound`: nowhere; `Unprepared`."""
        hit = open_hit(text, self._secret)
        url = self._target(hit)
        self._tell(EventKind.CLICKED, hit, fetch, url=url)
        return url

    def prepare(self, text: str) -> None:
        """Learn what the answer needs. Asks stores; `Invalid`, `NotFound`, `Unavailable`."""
        hit = open_hit(text, self._secrets)
        if hit.link is not None and self._links.known(hit.message) is None:
            self._links.learn(hit.message)

    def _secret(self, number: int) -> bytes:
        secret = self._secrets.known(number)
        if secret is None:
            raise Unprepared
        return secret

    def _target(self, hit: Hit) -> str:
        if hit.link is None and hit.url is None:
            raise NotFound("a pixel's token is no link's")
        url = hit.url or self._fixed(hit)
        if not url.lower().startswith(_WEB):
            raise NotFound("the link leads to no web site")
        return url

    def _fixed(self, hit: Hit) -> str:
        table = self._links.known(hit.message)
        if table is None:
            raise Unprepared
        if hit.link is None or hit.link >= len(table):
            raise NotFound("the campaign has no such link")
        return table[hit.link]

    def _tell(self, kind: EventKind, hit: Hit, fetch: Fetch, *, url: str) -> None:
        now = self._clock.now()
        machine = machine_of(kind, fetch)
        what = "" if kind is EventKind.OPENED else f".{hit.link}" if hit.url is None else f".{_short(hit.url)}"
        event = Event(
            kind=kind,
            attempt=hit.message.attempt,
            at=now,
            id=f"{kind}{what}.{hit.message.attempt}.{now // _TOGETHER_MS}.{_short(f'{machine}/{fetch.agent}')}",
            source=SOURCE,
            machine=machine is not None,
            detail=f"{machine}: {fetch.agent}"[:MAX_DETAIL] if machine else fetch.agent,
            url=url[:MAX_URL],
        )
        self._hits.add(Arrival.of(hit.message, event))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
