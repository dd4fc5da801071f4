"""Turns message changes from the feed into callback deliveries.

`DeliveryBuilder` makes the deliveries; they are durable when `create` returns. `FeedConsumer` reads the feed and hands it what it
reads. On AWS the table's stream takes the consumer's place, and only the builder is used.

- One process at a time consumes, under a lease of 15 s. Another takes over when the lease has run out.
- The position of each shard is saved after its changes have become deliveries. A crash between the two repeats the page.
- The same changes make the same deliveries, with the same ids, so a repetition adds none twice. For endpoints that take batches
  this holds when the same changes are handed in together again, so the page's size is saved before its deliveries are created.
- Shards without changes are polled less and less often.
"""

from __future__ import annotations

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
from postroom.telemetry.logs import event_logger

_ENDPOINTS_CACHED_S: Final = 2.0
_CAMPAIGN_CACHED_S: Final = 60.0
_CACHE_SIZE: Final = 10_000
_PAGE: Final = 500
_LIST_SHARDS_S: Final = 1.0
_LEASE_MS: Final = 15_000
_MIN_PAUSE_S: Final = 0.2
_MAX_PAUSE_S: Final = 2.0
_POLL_COST_S: Final = 0.005
"""Seconds added to the longest pause per shard, so that thousands of idle shards cost no more than tens."""
_LEASE: Final = ItemKey("#callback-follower", "lease")
_POSITIONS: Final = "#callback-positions"
_POSITION_MS: Final = 2 * RETENTION_MS
_UNREADABLE_PAUSE_S: Final = 30.0
_log = event_logger(__name__)


class DeliveryBuilder:
    """Creates the deliveries that endpoints get for message changes."""

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
        self._tenant_endpoints: TtlCache[str, list[CallbackEndpoint]] = TtlCache(clock, most=_CACHE_SIZE)
        self._campaign_endpoints: TtlCache[CampaignRef, list[CallbackEndpoint]] = TtlCache(clock, most=_CACHE_SIZE)

    def has_endpoints(self, ref: CampaignRef) -> bool:
        """Whether any endpoint may want events of this campaign."""
        return bool(self._endpoints(ref))

    def create(self, groups: Collection[EndpointEvents]) -> list[EndpointRef]:
        """Store the deliveries of these events, durably; returns the endpoints that now have something due."""
        for group in groups:
            self._deliveries.add(list(build_deliveries(group, self._clock.now())))
        return [EndpointRef(group.endpoint.tenant, group.endpoint.id) for group in groups]

    def group_by_endpoint(self, changes: Sequence[MessageChange]) -> Collection[EndpointEvents]:
        """The webhook events of these changes, by the endpoint that wants them."""
        wanted = list(self._wanted(changes))
        addresses = self._addresses([change for change, _, _ in wanted])
        groups: dict[str, tuple[CallbackEndpoint, list[WebhookEvent]]] = {}
        for change, event, endpoints in wanted:
            if (content := build_webhook_event(change, event, addresses.get((change.ref, change.key)))) is not None:
                for endpoint in endpoints:
                    groups.setdefault(endpoint.id, (endpoint, []))[1].append(content)
        return [EndpointEvents(endpoint, events) for endpoint, events in groups.values()]

    def _wanted(self, changes: Sequence[MessageChange]) -> Iterator[tuple[MessageChange, Event, list[CallbackEndpoint]]]:
        """Changes that are events at least one enabled endpoint subscribed to."""
        for change in changes:
            event = event_from_change(change)
            if event is not None and (wanting := [each for each in self._endpoints(change.ref) if _wants(each, change, event)]):
                yield change, event, wanting

    def _addresses(self, changes: Sequence[MessageChange]) -> dict[tuple[CampaignRef, Key], str]:
        """Recipient addresses of the messages that still exist, with one look-up per batch."""
        wanted: dict[tuple[CampaignRef, int], set[Key]] = {}
        for change in changes:
            wanted.setdefault((change.ref, change.batch), set()).add(change.key)
        found: dict[tuple[CampaignRef, Key], str] = {}
        for (ref, batch), keys in wanted.items():
            with suppress(NotFound):  # the campaign was deleted meanwhile
                found |= {(ref, each.key): each.address for each in self._messages.find(ref, batch, sorted(keys))}
        return found

    def _endpoints(self, ref: CampaignRef) -> list[CallbackEndpoint]:
        common = self._tenant_endpoints.get(ref.tenant)
        if common is None:
            common = self._callbacks.list(ref.tenant)
            self._tenant_endpoints.put(ref.tenant, common, seconds=_ENDPOINTS_CACHED_S)
        return [*common, *self._endpoints_of_campaign(ref)]

    def _endpoints_of_campaign(self, ref: CampaignRef) -> list[CallbackEndpoint]:
        if is_stream(ref.campaign):
            return []
        own = self._campaign_endpoints.get(ref)
        if own is None:
            campaign = self._campaigns.find(ref)
            endpoint = None if campaign is None else self._callbacks.of_campaign(campaign)
            own = [] if endpoint is None else [endpoint]
            self._campaign_endpoints.put(ref, own, seconds=_CAMPAIGN_CACHED_S)
        return own


def _wants(endpoint: CallbackEndpoint, change: MessageChange, event: Event) -> bool:
    """Compares when the change was recorded, not the event's own time: a report may carry the time of a slow clock."""
    return endpoint.enabled and event.kind in endpoint.kinds and change.noted_at >= endpoint.created_at


class _ShardPoll(NamedTuple):
    """When to poll a shard next (monotonic seconds), and the pause before that."""

    next_at: float
    pause: float


class FeedConsumer:
    """Reads the feed of all campaigns and creates callback deliveries from it."""

    def __init__(
        self,
        feed: Feed,
        builder: DeliveryBuilder,
        *,
        tables: Tables,
        campaign_of: Callable[[str], CampaignRef | None],
        owner: str,
        clock: Clock,
    ) -> None:
        """`campaign_of`: the campaign of a shard that holds only one campaign's changes, else None. Shards of campaigns without
        endpoints are not read. `owner`: unique to this process; names the holder of the lease."""
        self._feed = feed
        self._builder = builder
        self._tables = tables
        self._campaign_of = campaign_of
        self._owner = owner
        self._clock = clock
        self._shards: dict[str, _ShardPoll] = {}
        self._listed_until = 0.0
        self._leased_until = 0.0

    def once(self) -> bool:
        """Read one page of each shard that is due; returns whether there were changes. Does nothing without the lease."""
        if not self._holds_lease():
            return False
        self._list_shards()
        now = self._clock.monotonic()
        due = [shard for shard, poll in self._shards.items() if poll.next_at <= now]
        return sum(map(self._consume, due)) > 0

    def _holds_lease(self) -> bool:
        """Takes the lease, or renews it after half of its time."""
        if self._clock.monotonic() < self._leased_until - _LEASE_MS / 2000:
            return True
        begun, now = self._clock.monotonic(), self._clock.now()
        item = self._tables.get(_LEASE)
        if item is not None and item.data["owner"] != self._owner and item.data["until"] > now:
            return False
        lease = {"owner": self._owner, "until": now + _LEASE_MS}
        try:
            self._tables.write([Put(_LEASE, lease, Expect.ABSENT if item is None else item.version)])
        except Conflict:  # another process took it first
            return False
        self._leased_until = begun + _LEASE_MS / 1000
        return True

    def _list_shards(self) -> None:
        now = self._clock.monotonic()
        if now < self._listed_until:
            return
        listed = set(self._feed.shards())
        for shard in self._shards.keys() - listed:
            del self._shards[shard]
        for shard in listed - self._shards.keys():
            self._shards[shard] = _ShardPoll(now, _MIN_PAUSE_S)
        self._listed_until = now + max(_LIST_SHARDS_S, _POLL_COST_S * len(listed))

    def _consume(self, shard: str) -> bool:
        """Read one page; returns whether there was one. A shard that cannot be read does not stop the others."""
        try:
            moved = self._is_wanted(shard) and self._read(shard)
        except Permanent as error:
            _log.error("callback.shard_unreadable", shard=shard, reason=str(error))
            self._shards[shard] = _ShardPoll(self._clock.monotonic() + _UNREADABLE_PAUSE_S, _UNREADABLE_PAUSE_S)
            return False
        longest = max(_MAX_PAUSE_S, _POLL_COST_S * len(self._shards))
        pause = _MIN_PAUSE_S if moved else min(longest, 2 * self._shards[shard].pause)
        self._shards[shard] = _ShardPoll(self._clock.monotonic() + (0 if moved else pause), pause)
        return moved

    def _is_wanted(self, shard: str) -> bool:
        ref = self._campaign_of(shard)
        return ref is None or self._builder.has_endpoints(ref)

    def _read(self, shard: str) -> bool:
        key = ItemKey(_POSITIONS, shard)
        item = self._tables.get(key)
        known = {} if item is None else item.data
        try:
            page = self._feed.read(shard, known.get("position"), limit=known.get("taking", _PAGE))
        except NotFound:  # deleted meanwhile
            return False
        if not page.changes:
            return False
        groups = self._builder.group_by_endpoint(page.changes)
        expected: Expect | int = Expect.ABSENT if item is None else item.version
        try:
            if any(group.endpoint.batch for group in groups):
                # After a crash the same page is read again, even if more has happened since, and makes the same batches.
                expected = self._save(key, {**known, "taking": len(page.changes)}, expected)
            self._builder.create(groups)
            self._save(key, {"position": page.position}, expected)
        except Conflict:  # another process consumes by now, and does the same
            return False
        return True

    def _save(self, key: ItemKey, data: Mapping[str, Any], expected: Expect | int) -> int:
        ends = Instant(self._clock.now() + _POSITION_MS)
        (version,) = self._tables.write([Put(key, data, expected, expires_at=ends)])
        return version
