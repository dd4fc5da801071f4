"""Applies queued inbound events to the records (`ledger`).

Any number of workers may run. An item is deleted once all of it is applied; if a worker is killed before, the item comes again
when its lease has run out, and applying it twice changes nothing. Items are applied together, because most are small and a disk
write costs the same for one as for many. If that fails each is tried alone, so that none blocks the others. An item that can
never be applied ends as a dead letter.

Events can wait, mail to send cannot: while a campaign is being sent, a worker pauses three times as long as it worked.
"""

from __future__ import annotations

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
from postroom.telemetry.logs import event_logger

_CACHED_S: Final = 1.0


class Backpressure:
    """Whether a campaign is being sent, as of at most a second ago. Applying events then yields to sending."""

    def __init__(self, campaigns: Campaigns, clock: Clock) -> None:
        self._campaigns = campaigns
        self._clock = clock
        self._cached_until = 0.0
        self._cached = False

    def __call__(self) -> bool:
        now = self._clock.monotonic()
        if now >= self._cached_until:
            self._cached = any(self._is_sending(ref) for ref in self._campaigns.unfinished())
            self._cached_until = now + _CACHED_S
        return self._cached

    def _is_sending(self, ref: CampaignRef) -> bool:
        try:
            campaign = self._campaigns.find(ref)
        except Corrupt:  # such a campaign cannot be sent
            return False
        return campaign is not None and campaign.status is CampaignStatus.SENDING


_POLL_S: Final = 0.05
_LEASE_S: Final = 20
_REST_FACTOR: Final = 3.0
_log = event_logger(__name__)


class FeedbackWorker:
    """One worker of the queue."""

    def __init__(
        self,
        queues: Queues,
        incoming: EventApplier,
        observe: Callable[[AppliedEvent], None],
        backpressure: Callable[[], bool] = lambda: False,
    ) -> None:
        """`observe` is called once per new event; a crash may lose calls. `backpressure`: whether to yield to sending."""
        self._queues = queues
        self._incoming = incoming
        self._observe = observe
        self._backpressure = backpressure

    def run(self, stopped: threading.Event) -> None:
        """Run until stopped. Raises permanent errors of the stores."""
        while not stopped.is_set():
            began = time.monotonic()
            if not self.once():
                stopped.wait(_POLL_S)
            elif self._backpressure():
                stopped.wait(_REST_FACTOR * (time.monotonic() - began))

    def once(self) -> bool:
        """Apply one group of queued items; returns whether there were any."""
        items = self._queues.receive(FEEDBACK_QUEUE, limit=MAX_PER_CALL, lease_s=_LEASE_S)
        for item, problem in zip(items, self.record([_read(item) for item in items]), strict=True):
            if problem is None:
                with suppress(LeaseLost):  # another worker has it now, and finds it applied
                    self._queues.delete(FEEDBACK_QUEUE, item.receipt)
            elif not isinstance(problem, Temporary):
                _log.error("feedback.item_failed", item=item.id, queue=FEEDBACK_QUEUE, receives=item.receives)
        return bool(items)

    def record(self, items: Sequence[Sequence[InboundEvent] | PostroomError]) -> list[PostroomError | None]:
        """Apply items together, or each alone if that fails. Applying an item again changes nothing.

        Returns each item's error: None if it is applied, `Temporary` if it must be tried again. An item that could not be parsed
        is given as its error, and returned unchanged.
        """
        arrivals = [arrival for item in items if not isinstance(item, PostroomError) for arrival in item]
        try:
            applied = self._incoming.apply(arrivals)
        except Temporary as error:
            _log.warning("feedback.deferred", reason=str(error))
            return [item if isinstance(item, PostroomError) else error for item in items]
        except PostroomError as error:
            _log.warning("feedback.apply_failed", items=len(items), reason=str(error))
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
        _log.warning("feedback.item_unreadable", item=item.id, reason=str(error))
        return error
