"""Tenants' secrets by the numbers on the wire, remembered: a token that comes back is checked without asking a store.

A number's secret never changes, so it is remembered until others make room. A number that nobody has is asked for each time.

Where a link's number leads: each campaign's own table, as it was written when the campaign was made, and never changed.

The tables used last stay in memory, so that a click asks no store but for the first of its campaign. Single messages share the
table of their content, which their record names: the first click of each asks for that.

What an open or a click is answered with, and what is told of it: from memory alone, but for what has to be learned first.

Tokens are checked by their MAC, so nothing that was not sealed here is recorded or leads anywhere. A program that asks twice for
the same within ten seconds (a picture in two sizes, a double click) has made one event: its id is made of what it is about, of
these ten seconds, and of what the program says of itself, so that no scanner's hit stands for the person's after it. Nothing else
is kept of whoever asked, least of all their address.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Final, Protocol

import msgspec

from postroom.clock import Clock
from postroom.delivery import tracking, transactional
from postroom.errors import Corrupt, NotFound
from postroom.events.machine_detection import TrackingRequest, detect_machine
from postroom.ledger.inbound_events import InboundEvent
from postroom.ledger.tenants import Tenants
from postroom.ledger.ttl_cache import TtlCache
from postroom.model.campaign import CampaignRef
from postroom.model.event import MAX_DETAIL, MAX_URL, Event, EventKind
from postroom.model.ids import Key
from postroom.model.stream import TransactionalValues, is_stream
from postroom.model.tokens import MessageRef, TrackingHit, parse_tracking_token
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects

_REMEMBERED: Final = 10_000
_REMEMBERED_S: Final = 3_600.0


class TenantSecretCache:
    """A `model.wire.SecretOf`, safe to share between threads."""

    def __init__(self, tenants: Tenants, clock: Clock) -> None:
        self._tenants = tenants
        self._recent: TtlCache[int, bytes] = TtlCache(clock, most=_REMEMBERED)

    def known(self, number: int) -> bytes | None:
        """The secret, where it is in memory."""
        return self._recent.get(number)

    def __call__(self, number: int) -> bytes:
        """The secret; `NotFound`, `Unavailable`."""
        secret = self._recent.get(number)
        if secret is None:
            secret = self._tenants.by_number(number).secret
            self._recent.put(number, secret, seconds=_REMEMBERED_S)
        return secret


MOST_BYTES: Final = 32_000_000
_OVERHEAD: Final = 100
_Name = tuple[int, str, Key | None]
_Table = tuple[str, ...]


class LinkTableCache:
    """Those of all tenants. For several threads."""

    def __init__(self, tenants: Tenants, messages: Messages, objects: Objects, *, most: int = MOST_BYTES) -> None:
        self._tenants = tenants
        self._messages = messages
        self._objects = objects
        self._most = most
        self._guard = threading.Lock()
        self._kept: OrderedDict[_Name, _Table] = OrderedDict()
        self._weight = 0

    def known(self, ref: MessageRef) -> _Table | None:
        """The table of the message's links, where it is in memory."""
        name = _name(ref)
        with self._guard:
            if (table := self._kept.get(name)) is not None:
                self._kept.move_to_end(name)
            return table

    def learn(self, ref: MessageRef) -> None:
        """Bring it to memory. `NotFound`: it is gone, with its campaign or for who was erased; `Unavailable`."""
        name = _name(ref)
        table = self._read(CampaignRef(self._tenants.by_number(ref.tenant).id, ref.campaign), ref)
        with self._guard:
            if name not in self._kept:
                self._kept[name] = table
                self._weight += _weight(table)
            while self._weight > self._most and len(self._kept) > 1:
                self._weight -= _weight(self._kept.popitem(last=False)[1])

    def _read(self, campaign_ref: CampaignRef, ref: MessageRef) -> _Table:
        key = self._single(campaign_ref, ref) if is_stream(campaign_ref.campaign) else tracking.links_key(campaign_ref)
        try:
            return msgspec.json.decode(self._objects.get(key), type=_Table)
        except msgspec.DecodeError as error:
            raise Corrupt(f"the link table {key} cannot be read: {error}") from error

    def _single(self, campaign_ref: CampaignRef, ref: MessageRef) -> str:
        record = self._messages.get(campaign_ref, ref.batch, ref.key)
        if record is None:
            raise NotFound("there is no such message")
        try:
            return transactional.content_links_key(campaign_ref, TransactionalValues.parse(record.values).digest)
        except Corrupt as error:  # nothing but that it was there is left of it
            raise NotFound("nothing of the message is left") from error


def _name(ref: MessageRef) -> _Name:
    return ref.tenant, ref.campaign, ref.key if is_stream(ref.campaign) else None


def _weight(table: _Table) -> int:
    """Bytes, about."""
    return _OVERHEAD + sum(_OVERHEAD + len(url) for url in table)


SOURCE: Final = "tracking"
_TOGETHER_MS: Final = 10_000
_WEB: Final = ("http://", "https://")


class TrackingSink(Protocol):
    """Who brings hits to the queue: `events.hits`, or `events.hits_at_once`."""

    def add(self, hit: InboundEvent) -> None:
        """Take one. Never raises for a queue that does not answer."""
        ...


class NotCached(Exception):
    """A store has to be asked first: `Tracking.prepare`."""


class Tracking:
    """See the module's text. For several threads."""

    def __init__(self, secrets: TenantSecretCache, links: LinkTableCache, hits: TrackingSink, clock: Clock) -> None:
        self._secrets = secrets
        self._links = links
        self._hits = hits
        self._clock = clock

    def opened(self, text: str, fetch: TrackingRequest) -> None:
        """A pixel was fetched. `Invalid`: not one of ours; `NotCached`."""
        hit = parse_tracking_token(text, self._secret)
        if hit.link is not None or hit.url is not None:
            raise NotFound("a link's token is no pixel's")
        self._tell(EventKind.OPENED, hit, fetch, url="")

    def clicked(self, text: str, fetch: TrackingRequest) -> str:
        """Where the link leads. `Invalid`, `NotFound`: nowhere; `NotCached`."""
        hit = parse_tracking_token(text, self._secret)
        url = self._target(hit)
        self._tell(EventKind.CLICKED, hit, fetch, url=url)
        return url

    def prepare(self, text: str) -> None:
        """Learn what the answer needs. Asks stores; `Invalid`, `NotFound`, `Unavailable`."""
        hit = parse_tracking_token(text, self._secrets)
        if hit.link is not None and self._links.known(hit.message) is None:
            self._links.learn(hit.message)

    def _secret(self, number: int) -> bytes:
        secret = self._secrets.known(number)
        if secret is None:
            raise NotCached
        return secret

    def _target(self, hit: TrackingHit) -> str:
        if hit.link is None and hit.url is None:
            raise NotFound("a pixel's token is no link's")
        url = hit.url or self._fixed(hit)
        if not url.lower().startswith(_WEB):
            raise NotFound("the link leads to no web site")
        return url

    def _fixed(self, hit: TrackingHit) -> str:
        table = self._links.known(hit.message)
        if table is None:
            raise NotCached
        if hit.link is None or hit.link >= len(table):
            raise NotFound("the campaign has no such link")
        return table[hit.link]

    def _tell(self, kind: EventKind, hit: TrackingHit, fetch: TrackingRequest, *, url: str) -> None:
        now = self._clock.now()
        machine = detect_machine(kind, fetch)
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
        self._hits.add(InboundEvent.of(hit.message, event))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
