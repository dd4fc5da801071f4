"""All that an installation offers, in one place: what commands, workers and the door work with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import cached_property, partial
from typing import TYPE_CHECKING, Self

from postroom.model.campaign import CampaignRef
from postroom.wiring.verbs import Verbs

if TYPE_CHECKING:
    from collections.abc import Callable

    from postroom.callbacks.consumer import DeliveryBuilder, FeedConsumer
    from postroom.callbacks.dispatcher import CallbackDispatcher
    from postroom.callbacks.endpoint_queues import EndpointQueues
    from postroom.events.feedback import FeedbackWorker
    from postroom.events.reputation import ReputationGuard
    from postroom.events.ses.webhook import SesWebhook
    from postroom.events.tracking import Tracking
    from postroom.events.tracking_buffer import SyncTrackingSink, TrackingBuffer
    from postroom.events.unsubscribe import SenderDisplay, UnsubscribeService
    from postroom.pipeline.scheduler import Scheduler
    from postroom.pipeline.sender.dispatch import Dispatch as SendRounds
    from postroom.pipeline.sender.worker import Sender
    from postroom.pipeline.splitter import Checkpoints, Splitter
    from postroom.services.status import StalledCampaigns


class Postroom(Verbs):
    """One installation, put together: its services (wiring.verbs), what sends, and what hears of what comes back."""

    def close(self) -> None:
        """Write what waits in memory."""
        if "hits" in vars(self):
            self.hits.close()

    def but(self, **others: object) -> Self:
        """The same, with others in the places of what is made when it is first asked for."""
        changed = copy(self)
        vars(changed).update(others)
        return changed

    # What sends

    @cached_property
    def splitter(self) -> Splitter:
        from postroom.wiring.sending import splitter

        return splitter(self.stores, self.ledger)

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """Of imports."""
        from postroom.pipeline.splitter import Checkpoints

        return Checkpoints(self.tables)

    @cached_property
    def scheduler(self) -> Scheduler:
        from postroom.wiring.sending import scheduler

        return scheduler(self.stores, self.ledger)

    @cached_property
    def sender(self) -> Sender:
        from postroom.wiring.sending import sender

        return sender(
            self.settings,
            self.stores,
            self.ledger,
            composing=self.composing,
            contents=self.contents,
            singles=self.composed_singles,
            accounts=self.ses_accounts,
        )

    @cached_property
    def rounds(self) -> SendRounds:
        """Who looks what is due, where many functions send."""
        from postroom.wiring.sending import send_rounds

        return send_rounds(self.stores, self.ledger, self.sender)

    # What comes back

    @cached_property
    def hits(self) -> TrackingBuffer | SyncTrackingSink:
        if self.stores.machine is None:
            from postroom.events.tracking_buffer import SyncTrackingSink

            return SyncTrackingSink(self.arrivals, self.clock)
        from postroom.events.tracking_buffer import TrackingBuffer

        return TrackingBuffer(self.arrivals)

    @cached_property
    def tracking(self) -> Tracking:
        from postroom.wiring.hearing import tracking

        return tracking(self.stores, self.ledger, self.hits)

    @cached_property
    def unsubscribing(self) -> UnsubscribeService:
        from postroom.wiring.hearing import unsubscribing

        return unsubscribing(self.stores, self.ledger)

    @cached_property
    def letterhead(self) -> SenderDisplay:
        from postroom.events.unsubscribe import SenderDisplay

        return SenderDisplay(self.records)

    @cached_property
    def ses_hook(self) -> SesWebhook:
        from postroom.wiring.ses_hook import ses_hook

        return ses_hook(self.settings, self.stores, self.ledger)

    @cached_property
    def feedback(self) -> FeedbackWorker:
        from postroom.wiring.feedback import feedback

        return feedback(self.settings, self.stores, self.ledger)

    @cached_property
    def guard(self) -> ReputationGuard:
        from postroom.wiring.feedback import guard

        return guard(self.settings, self.stores, self.ledger)

    @cached_property
    def callback_lines(self) -> Callable[[], tuple[FeedConsumer, EndpointQueues]]:
        """Who follows the feed, and who makes the requests: for one process."""
        from postroom.wiring.callbacks import callback_lines

        return partial(callback_lines, self.settings, self.stores, self.ledger)

    @cached_property
    def standstill(self) -> StalledCampaigns:
        """Which campaigns should move and do not."""
        from postroom.wiring.standstill import standstill

        return standstill(self.stores, self.ledger)

    @cached_property
    def callback_teller(self) -> DeliveryBuilder:
        from postroom.wiring.callback_teller import callback_teller

        return callback_teller(self.stores, self.ledger)

    @cached_property
    def callback_rounds(self) -> CallbackDispatcher:
        """Who makes the requests where processes come and go."""
        from postroom.wiring.callbacks import callback_rounds

        return callback_rounds(self.settings, self.stores, self.ledger)

    # Whoever runs on one machine

    @contextmanager
    def run_lock(self, ref: CampaignRef) -> Iterator[bool]:
        """Whether this process alone runs the campaign's workers; the lock is gone with the process, however that ends."""
        with self._lock(ref.campaign) as taken:
            yield taken

    @contextmanager
    def serving(self) -> Iterator[bool]:
        """Whether this process alone is the server; the lock is gone with the process, however that ends."""
        with self._lock("serve", patience_s=1.0) as taken:  # others only look whether it is free
            yield taken

    def is_served(self) -> bool:
        """Whether a server runs on this data; on AWS the stack always does."""
        if self.stores.machine is None:
            return True
        with self._lock("serve") as free:
            return not free

    @contextmanager
    def _lock(self, name: str, *, patience_s: float = 0.0) -> Iterator[bool]:
        from postroom.platform.embedded._files import FileLock  # where there is a machine to lock

        self.stores.on_one_machine("a worker or server of its own")
        path = self.settings.data / "locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            yield lock.try_acquire_for(patience_s)
        finally:
            lock.close()
