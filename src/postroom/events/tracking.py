"""Answers tracking pixels and links, and records opens and clicks.

Answers come from memory; only the first click of a campaign asks a store.

- Tokens are verified by their MAC, so only what was issued here is recorded or redirected.
- A client that requests the same twice within ten seconds (a pixel in two sizes, a double click) makes one event: the event's id
  is derived from its subject, these ten seconds, and the User-Agent, so that a scanner's request does not replace a person's
  after it.
- Nothing else about the client is kept, in particular not its IP address.
- `TenantSecretCache` keeps tenants' secrets, `LinkTableCache` the link tables of campaigns, which never change. Single messages
  share the table of their content, which their record names, so the first click of each message reads that record.
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
    """A `model.tokens.SecretOf` with a cache. A number's secret never changes. Thread-safe."""

    def __init__(self, tenants: Tenants, clock: Clock) -> None:
        self._tenants = tenants
        self._cache: TtlCache[int, bytes] = TtlCache(clock, most=_REMEMBERED)

    def known(self, number: int) -> bytes | None:
        """The secret if it is cached, else None."""
        return self._cache.get(number)

    def __call__(self, number: int) -> bytes:
        """The tenant's secret. Raises `NotFound`, which is not cached, or `Unavailable`."""
        secret = self._cache.get(number)
        if secret is None:
            secret = self._tenants.by_number(number).secret
            self._cache.put(number, secret, seconds=_REMEMBERED_S)
        return secret


MOST_BYTES: Final = 32_000_000
_OVERHEAD: Final = 100
_Name = tuple[int, str, Key | None]
_Table = tuple[str, ...]


class LinkTableCache:
    """The link tables last used, in memory. Thread-safe."""

    def __init__(self, tenants: Tenants, messages: Messages, objects: Objects, *, most: int = MOST_BYTES) -> None:
        self._tenants = tenants
        self._messages = messages
        self._objects = objects
        self._most = most
        self._lock = threading.Lock()
        self._cache: OrderedDict[_Name, _Table] = OrderedDict()
        self._weight = 0

    def known(self, ref: MessageRef) -> _Table | None:
        """The message's link table if it is cached, else None."""
        name = _name(ref)
        with self._lock:
            if (table := self._cache.get(name)) is not None:
                self._cache.move_to_end(name)
            return table

    def load(self, ref: MessageRef) -> None:
        """Load the table into the cache. Raises `NotFound` if the campaign was deleted or the person erased, `Unavailable`."""
        name = _name(ref)
        table = self._read(CampaignRef(self._tenants.by_number(ref.tenant).id, ref.campaign), ref)
        with self._lock:
            if name not in self._cache:
                self._cache[name] = table
                self._weight += _weight(table)
            while self._weight > self._most and len(self._cache) > 1:
                self._weight -= _weight(self._cache.popitem(last=False)[1])

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
        except Corrupt as error:  # only a trace of it is left
            raise NotFound("nothing of the message is left") from error


def _name(ref: MessageRef) -> _Name:
    return ref.tenant, ref.campaign, ref.key if is_stream(ref.campaign) else None


def _weight(table: _Table) -> int:
    """Approximate bytes."""
    return _OVERHEAD + sum(_OVERHEAD + len(url) for url in table)


SOURCE: Final = "tracking"
_SAME_EVENT_MS: Final = 10_000
_WEB: Final = ("http://", "https://")


class TrackingSink(Protocol):
    """Queues tracking events (events.tracking_buffer)."""

    def add(self, event: InboundEvent) -> None:
        """Add an event. Does not raise if the queue does not answer."""
        ...


class NotCached(Exception):
    """The answer needs a store: call `Tracking.prepare` first."""


class Tracking:
    """Answers tracking requests and records their events. Thread-safe."""

    def __init__(self, secrets: TenantSecretCache, links: LinkTableCache, sink: TrackingSink, clock: Clock) -> None:
        self._secrets = secrets
        self._links = links
        self._sink = sink
        self._clock = clock

    def opened(self, text: str, request: TrackingRequest) -> None:
        """Record the fetch of a pixel. Raises `Invalid` or `NotFound` if the token is not a pixel's, `NotCached`."""
        hit = parse_tracking_token(text, self._secret)
        if hit.link is not None or hit.url is not None:
            raise NotFound("a link's token is no pixel's")
        self._record(EventKind.OPENED, hit, request, url="")

    def clicked(self, text: str, request: TrackingRequest) -> str:
        """Record a click; returns the link's target. Raises `Invalid` or `NotFound` if it has none, `NotCached`."""
        hit = parse_tracking_token(text, self._secret)
        url = self._target(hit)
        self._record(EventKind.CLICKED, hit, request, url=url)
        return url

    def prepare(self, text: str) -> None:
        """Load into the caches what the answer needs. Raises `Invalid`, `NotFound`, `Unavailable`."""
        hit = parse_tracking_token(text, self._secrets)
        if hit.link is not None and self._links.known(hit.message) is None:
            self._links.load(hit.message)

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

    def _record(self, kind: EventKind, hit: TrackingHit, request: TrackingRequest, *, url: str) -> None:
        now = self._clock.now()
        machine = detect_machine(kind, request)
        what = "" if kind is EventKind.OPENED else f".{hit.link}" if hit.url is None else f".{_short(hit.url)}"
        event = Event(
            kind=kind,
            attempt=hit.message.attempt,
            at=now,
            id=f"{kind}{what}.{hit.message.attempt}.{now // _SAME_EVENT_MS}.{_short(f'{machine}/{request.agent}')}",
            source=SOURCE,
            machine=machine is not None,
            detail=f"{machine}: {request.agent}"[:MAX_DETAIL] if machine else request.agent,
            url=url[:MAX_URL],
        )
        self._sink.add(InboundEvent.from_message_ref(hit.message, event))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
