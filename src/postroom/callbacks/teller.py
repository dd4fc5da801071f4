"""From changes to deliveries: a change that an endpoint wants to be told of is a request, durably, when this returns.

The same changes make the same deliveries, by the same ids, whoever makes them again after a kill: none is added twice. Of an
endpoint that takes many events in one request that holds where the same changes are handed in together again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Final

from postroom.callbacks.telling import Happened, Line, deliveries, event_in, happened
from postroom.clock import Clock
from postroom.errors import NotFound
from postroom.ledger.callbacks import Callbacks
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.deliveries import Deliveries, Lane
from postroom.ledger.recent import Recent
from postroom.model.callback import Endpoint
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event
from postroom.model.shard import Key
from postroom.model.stream import is_stream
from postroom.platform.ports.feed import Change
from postroom.platform.ports.messages import Messages

_ENDPOINTS_S: Final = 2.0
_CAMPAIGN_S: Final = 60.0
_REMEMBERED: Final = 10_000


class Teller:
    """See the module's text."""

    def __init__(
        self, messages: Messages, callbacks: Callbacks, deliveries: Deliveries, *, campaigns: Campaigns, clock: Clock
    ) -> None:
        self._messages = messages
        self._callbacks = callbacks
        self._deliveries = deliveries
        self._campaigns = campaigns
        self._clock = clock
        self._endpoints: Recent[str, list[Endpoint]] = Recent(clock, most=_REMEMBERED)
        self._own: Recent[CampaignRef, list[Endpoint]] = Recent(clock, most=_REMEMBERED)

    def is_followed(self, ref: CampaignRef) -> bool:
        """Whether anybody wants to be told of what happens there."""
        return bool(self._endpoints_of(ref))

    def tell(self, lines: Collection[Line]) -> list[Lane]:
        """Who is owed something by then."""
        for line in lines:
            self._deliveries.add(list(deliveries(line, self._clock.now())))
        return [Lane(line.endpoint.tenant, line.endpoint.id) for line in lines]

    def told(self, changes: Sequence[Change]) -> Collection[Line]:
        """Who is told of what of them."""
        wishes = list(self._wishes(changes))
        addresses = self._addresses([change for change, _, _ in wishes])
        told: dict[str, tuple[Endpoint, list[Happened]]] = {}
        for change, event, endpoints in wishes:
            if (content := happened(change, event, addresses.get((change.ref, change.key)))) is not None:
                for endpoint in endpoints:
                    told.setdefault(endpoint.id, (endpoint, []))[1].append(content)
        return [Line(endpoint, events) for endpoint, events in told.values()]

    def _wishes(self, changes: Sequence[Change]) -> Iterator[tuple[Change, Event, list[Endpoint]]]:
        """What is told at all, and to whom: to those that are switched on now, of what was heard since they are there."""
        for change in changes:
            event = event_in(change)
            if event is not None and (
                wanting := [each for each in self._endpoints_of(change.ref) if _wants(each, change, event)]
            ):
                yield change, event, wanting

    def _addresses(self, changes: Sequence[Change]) -> dict[tuple[CampaignRef, Key], str]:
        """Of the messages that there are, a batch in one look."""
        wanted: dict[tuple[CampaignRef, int], set[Key]] = {}
        for change in changes:
            wanted.setdefault((change.ref, change.batch), set()).add(change.key)
        found: dict[tuple[CampaignRef, Key], str] = {}
        for (ref, batch), keys in wanted.items():
            with suppress(NotFound):  # deleted in this moment
                found |= {(ref, each.key): each.address for each in self._messages.find(ref, batch, sorted(keys))}
        return found

    def _endpoints_of(self, ref: CampaignRef) -> list[Endpoint]:
        """Who may be told of what happens there."""
        common = self._endpoints.get(ref.tenant)
        if common is None:
            common = self._callbacks.list(ref.tenant)
            self._endpoints.put(ref.tenant, common, seconds=_ENDPOINTS_S)
        return [*common, *self._own_of(ref)]

    def _own_of(self, ref: CampaignRef) -> list[Endpoint]:
        if is_stream(ref.campaign):
            return []
        own = self._own.get(ref)
        if own is None:
            campaign = self._campaigns.find(ref)
            endpoint = None if campaign is None else self._callbacks.of_campaign(campaign)
            own = [] if endpoint is None else [endpoint]
            self._own.put(ref, own, seconds=_CAMPAIGN_S)
        return own


def _wants(endpoint: Endpoint, change: Change, event: Event) -> bool:
    """By when it was heard: a report may be dated by a slow clock, or have been on its way when the endpoint was made."""
    return endpoint.enabled and event.kind in endpoint.kinds and change.noted_at >= endpoint.created_at
