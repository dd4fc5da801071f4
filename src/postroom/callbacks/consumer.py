"""From changes to deliveries: a change that an endpoint wants to be told of is a request, durably, when this returns.

The same changes make the same deliveries, by the same ids, whoever makes them again after a kill: none is added twice. Of an
endpoint that takes many events in one request that holds where the same changes are handed in together again.

From the feed to deliveries: a change that an endpoint wants to be told of is a request, durably, before the reader goes on.

One process at a time follows, under a lease; another takes over when it is gone. How far it came stands with each shard, and is
saved after what was read has become deliveries. A kill between the two makes the same deliveries again, by the same ids, so none
is added twice. Shards in which nothing happens are looked at less and less often.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from postroom.callbacks.webhook_events import (
    EndpointEvents,
    WebhookEvent,
    build_deliveries,
    build_webhook_event,
    event_from_change,
)
from postroom.clock import Clock, Instant
from postroom.errors import Conflict, NotFound, Permanent
from postroom.ledger.callback_deliveries import CallbackDeliveries, EndpointRef
from postroom.ledger.callback_endpoints import CallbackEndpoints
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.ttl_cache import TtlCache
from postroom.model.callback import CallbackEndpoint
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event
from postroom.model.ids import Key
from postroom.model.stream import is_stream
from postroom.platform.ports.feed import RETENTION_MS, Feed, MessageChange
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.tables import Expect, ItemKey, Put, Tables

_ENDPOINTS_S: Final = 2.0


_CAMPAIGN_S: Final = 60.0


_REMEMBERED: Final = 10_000


class DeliveryBuilder:
    """See the module's text."""

    def __init__(
        self,
        messages: Messages,
        callbacks: CallbackEndpoints,
        deliveries: CallbackDeliveries,
        *,
        campaigns: Campaigns,
        clock: Clock,
    ) -> None:
        self._messages = messages
        self._callbacks = callbacks
        self._deliveries = deliveries
        self._campaigns = campaigns
        self._clock = clock
        self._endpoints: TtlCache[str, list[CallbackEndpoint]] = TtlCache(clock, most=_REMEMBERED)
        self._own: TtlCache[CampaignRef, list[CallbackEndpoint]] = TtlCache(clock, most=_REMEMBERED)

    def is_followed(self, ref: CampaignRef) -> bool:
        """Whether anybody wants to be told of what happens there."""
        return bool(self._endpoints_of(ref))

    def tell(self, lines: Collection[EndpointEvents]) -> list[EndpointRef]:
        """Who is owed something by then."""
        for line in lines:
            self._deliveries.add(list(build_deliveries(line, self._clock.now())))
        return [EndpointRef(line.endpoint.tenant, line.endpoint.id) for line in lines]

    def told(self, changes: Sequence[MessageChange]) -> Collection[EndpointEvents]:
        """Who is told of what of them."""
        wishes = list(self._wishes(changes))
        addresses = self._addresses([change for change, _, _ in wishes])
        told: dict[str, tuple[CallbackEndpoint, list[WebhookEvent]]] = {}
        for change, event, endpoints in wishes:
            if (content := build_webhook_event(change, event, addresses.get((change.ref, change.key)))) is not None:
                for endpoint in endpoints:
                    told.setdefault(endpoint.id, (endpoint, []))[1].append(content)
        return [EndpointEvents(endpoint, events) for endpoint, events in told.values()]

    def _wishes(self, changes: Sequence[MessageChange]) -> Iterator[tuple[MessageChange, Event, list[CallbackEndpoint]]]:
        """What is told at all, and to whom: to those that are switched on now, of what was heard since they are there."""
        for change in changes:
            event = event_from_change(change)
            if event is not None and (
                wanting := [each for each in self._endpoints_of(change.ref) if _wants(each, change, event)]
            ):
                yield change, event, wanting

    def _addresses(self, changes: Sequence[MessageChange]) -> dict[tuple[CampaignRef, Key], str]:
        """Of the messages that there are, a batch in one look."""
        wanted: dict[tuple[CampaignRef, int], set[Key]] = {}
        for change in changes:
            wanted.setdefault((change.ref, change.batch), set()).add(change.key)
        found: dict[tuple[CampaignRef, Key], str] = {}
        for (ref, batch), keys in wanted.items():
            with suppress(NotFound):  # deleted in this moment
                found |= {(ref, each.key): each.address for each in self._messages.find(ref, batch, sorted(keys))}
        return found

    def _endpoints_of(self, ref: CampaignRef) -> list[CallbackEndpoint]:
        """Who may be told of what happens there."""
        common = self._endpoints.get(ref.tenant)
        if common is None:
            common = self._callbacks.list(ref.tenant)
            self._endpoints.put(ref.tenant, common, seconds=_ENDPOINTS_S)
        return [*common, *self._own_of(ref)]

    def _own_of(self, ref: CampaignRef) -> list[CallbackEndpoint]:
        if is_stream(ref.campaign):
            return []
        own = self._own.get(ref)
        if own is None:
            campaign = self._campaigns.find(ref)
            endpoint = None if campaign is None else self._callbacks.of_campaign(campaign)
            own = [] if endpoint is None else [endpoint]
            self._own.put(ref, own, seconds=_CAMPAIGN_S)
        return own


def _wants(endpoint: CallbackEndpoint, change: MessageChange, event: Event) -> bool:
    """By when it was heard: a report may be dated by a slow clock, or have been on its way when the endpoint was made."""
    return endpoint.enabled and event.kind in endpoint.kinds and change.noted_at >= endpoint.created_at


_PAGE: Final = 500


_SHARDS_EVERY_S: Final = 1.0


_LEASE_MS: Final = 15_000


_SOON_S: Final = 0.2


_LATE_S: Final = 2.0


_A_SHARD_S: Final = 0.005


"""What a look at an idle shard may cost of the time until the next, so that thousands of them cost no more than tens."""


_LEASE: Final = ItemKey("#callback-follower", "lease")


_POSITIONS: Final = "#callback-positions"


_POSITION_MS: Final = 2 * RETENTION_MS


_BROKEN_S: Final = 30.0


_log = logging.getLogger(__name__)


class _Shard(NamedTuple):
    """When to look at one again."""

    next_look: float
    pause: float


class FeedConsumer:
    """See the module's text."""

    def __init__(
        self,
        feed: Feed,
        teller: DeliveryBuilder,
        *,
        tables: Tables,
        home_of: Callable[[str], CampaignRef | None],
        owner: str,
        clock: Clock,
    ) -> None:
        """`home_of`: whose changes a shard holds, where it holds one home's alone: those that nobody follows are not read."""
        self._feed = feed
        self._teller = teller
        self._tables = tables
        self._home_of = home_of
        self._owner = owner
        self._clock = clock
        self._shards: dict[str, _Shard] = {}
        self._listed_until = 0.0
        self._leads_until = 0.0

    def once(self) -> bool:
        """Read on where it is time to; whether anything was told."""
        if not self._leads():
            return False
        self._list_shards()
        now = self._clock.monotonic()
        due = [shard for shard, status in self._shards.items() if status.next_look <= now]
        return sum(map(self._follow, due)) > 0

    def _leads(self) -> bool:
        """Whether this one follows: a lease that is renewed at half of its time."""
        if self._clock.monotonic() < self._leads_until - _LEASE_MS / 2000:
            return True
        begun, now = self._clock.monotonic(), self._clock.now()
        item = self._tables.get(_LEASE)
        if item is not None and item.data["owner"] != self._owner and item.data["until"] > now:
            return False
        lease = {"owner": self._owner, "until": now + _LEASE_MS}
        try:
            self._tables.write([Put(_LEASE, lease, Expect.ABSENT if item is None else item.version)])
        except Conflict:  # somebody else was first
            return False
        self._leads_until = begun + _LEASE_MS / 1000
        return True

    def _list_shards(self) -> None:
        now = self._clock.monotonic()
        if now < self._listed_until:
            return
        there = set(self._feed.shards())
        for shard in self._shards.keys() - there:
            del self._shards[shard]
        for shard in there - self._shards.keys():
            self._shards[shard] = _Shard(now, _SOON_S)
        self._listed_until = now + max(_SHARDS_EVERY_S, _A_SHARD_S * len(there))

    def _follow(self, shard: str) -> bool:
        """One page; whether there was one. A shard that cannot be read stops no other."""
        try:
            moved = self._wanted(shard) and self._read(shard)
        except Permanent as error:
            _log.error("what happened in %s cannot be told: %s", shard, error)
            self._shards[shard] = _Shard(self._clock.monotonic() + _BROKEN_S, _BROKEN_S)
            return False
        longest = max(_LATE_S, _A_SHARD_S * len(self._shards))
        pause = _SOON_S if moved else min(longest, 2 * self._shards[shard].pause)
        self._shards[shard] = _Shard(self._clock.monotonic() + (0 if moved else pause), pause)
        return moved

    def _wanted(self, shard: str) -> bool:
        ref = self._home_of(shard)
        return ref is None or self._teller.is_followed(ref)

    def _read(self, shard: str) -> bool:
        place = ItemKey(_POSITIONS, shard)
        item = self._tables.get(place)
        known = {} if item is None else item.data
        try:
            page = self._feed.read(shard, known.get("position"), limit=known.get("taking", _PAGE))
        except NotFound:  # deleted in this moment
            return False
        if not page.changes:
            return False
        told = self._teller.told(page.changes)
        expected: Expect | int = Expect.ABSENT if item is None else item.version
        try:
            if any(line.endpoint.batch for line in told):
                expected = self._save(place, {**known, "taking": len(page.changes)}, expected)
            self._teller.tell(told)
            self._save(place, {"position": page.position}, expected)
        except Conflict:  # somebody else follows by now, and does the same
            return False
        return True

    def _save(self, place: ItemKey, data: Mapping[str, Any], expected: Expect | int) -> int:
        """How far it came, and of how many changes the page is that is being told: read again after a kill it is the same page,
        even where more has happened since, and so makes the same batches."""
        ends = Instant(self._clock.now() + _POSITION_MS)
        (version,) = self._tables.write([Put(place, data, expected, expires_at=ends)])
        return version
