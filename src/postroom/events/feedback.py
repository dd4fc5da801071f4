"""Whether a campaign is being sent: then what came back can wait, for what is to leave cannot.

Takes what came back off its queue and makes it part of the records (ledger.incoming).

Any number of processes may do it. An item is deleted once all of it is applied; whoever is killed before leaves it to be handled
again when its lease has run out. Items are taken together, since most are small and a write to the disk costs the same for one
as for many; where they cannot be applied together, each is tried alone, so that none spoils another. One that cannot be applied
becomes a dead letter in the end, and is kept with its count for whoever looks into it.

What came back can wait, what is to leave cannot: while a campaign is being sent, the worker rests three times as long as it
worked.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from postroom.clock import Clock
from postroom.errors import Corrupt, LeaseLost, PostroomError, Temporary
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.event_applier import AppliedEvent, EventApplier
from postroom.ledger.inbound_events import FEEDBACK_QUEUE, InboundEvent, parse_inbound_events
from postroom.model.campaign import CampaignRef, CampaignStatus
from postroom.platform.ports.queues import MAX_PER_CALL, Queues, Received

_MOMENT_S: Final = 1.0


class Backpressure:
    """As of a moment ago."""

    def __init__(self, campaigns: Campaigns, clock: Clock) -> None:
        self._campaigns = campaigns
        self._clock = clock
        self._known_until = 0.0
        self._known = False

    def __call__(self) -> bool:
        now = self._clock.monotonic()
        if now >= self._known_until:
            self._known = any(self._is_sent(ref) for ref in self._campaigns.unfinished())
            self._known_until = now + _MOMENT_S
        return self._known

    def _is_sent(self, ref: CampaignRef) -> bool:
        try:
            campaign = self._campaigns.find(ref)
        except Corrupt:  # nobody can send it
            return False
        return campaign is not None and campaign.status is CampaignStatus.SENDING


_LOOK_S: Final = 0.05
_LEASE_S: Final = 20
_REST: Final = 3.0
_log = logging.getLogger(__name__)


class FeedbackWorker:
    """One worker."""

    def __init__(
        self,
        queues: Queues,
        incoming: EventApplier,
        observe: Callable[[AppliedEvent], None],
        gives_way: Callable[[], bool] = lambda: False,
    ) -> None:
        """`observe` is told of each event that was new, once; after a crash of some not at all. `gives_way`: whether others
        need the machine more."""
        self._queues = queues
        self._incoming = incoming
        self._observe = observe
        self._gives_way = gives_way

    def run(self, stopped: threading.Event) -> None:
        """Until stopped. Errors of the stores that do not pass are raised."""
        while not stopped.is_set():
            began = time.monotonic()
            if not self.once():
                stopped.wait(_LOOK_S)
            elif self._gives_way():
                stopped.wait(_REST * (time.monotonic() - began))

    def once(self) -> bool:
        """Handle what waits; whether there was something."""
        items = self._queues.receive(FEEDBACK_QUEUE, limit=MAX_PER_CALL, lease_s=_LEASE_S)
        for item, problem in zip(items, self.record([_read(item) for item in items]), strict=True):
            if problem is None:
                with suppress(LeaseLost):  # somebody else has it now, and finds it applied
                    self._queues.delete(FEEDBACK_QUEUE, item.receipt)
            elif not isinstance(problem, Temporary):
                _log.error("item %s of queue %s cannot be applied (try %d)", item.id, FEEDBACK_QUEUE, item.receives)
        return bool(items)

    def record(self, items: Sequence[Sequence[InboundEvent] | PostroomError]) -> list[PostroomError | None]:
        """Make what came back part of the records, all together or, where that fails, each by itself; what is wrong with each.
        None: it is done with. `Temporary`: it is to come again. Recording again is harmless. One that could not even be read
        stays as it is."""
        arrivals = [arrival for item in items if not isinstance(item, PostroomError) for arrival in item]
        try:
            applied = self._incoming.apply(arrivals)
        except Temporary as error:
            _log.warning("what came back waits: %s", error)
            return [item if isinstance(item, PostroomError) else error for item in items]
        except PostroomError as error:
            _log.warning("what came back cannot be applied: %s", error)
            readable = sum(not isinstance(item, PostroomError) for item in items)
            if readable == 1:
                return [item if isinstance(item, PostroomError) else error for item in items]
            return [self.record([item])[0] for item in items]
        for each in applied:
            self._observe(each)
        return [item if isinstance(item, PostroomError) else None for item in items]


def _read(item: Received) -> list[InboundEvent] | PostroomError:
    try:
        return parse_inbound_events(item.body)
    except PostroomError as error:
        _log.warning("what came back cannot be read: %s", error)
        return error
