"""What somebody has to do now and then: fire timers, hand notes to the scheduler, look after records, keep house.

Any number of processes may do it at the same time; each step is safe to repeat.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, LeaseLost, NotFound, Permanent, PostroomError, Temporary
from postroom.events.guard import EVERY_S
from postroom.ledger import notes
from postroom.model.campaign import Home
from postroom.platform.ports.feed import RETENTION_MS
from postroom.platform.ports.queues import Received
from postroom.wiring import Postroom

_LOOK_S = 0.05
_TRIM_EVERY_S = 600.0
_RECORDS_EVERY_S = 2.0
_RECOUNT_EVERY_S = 5.0
_RECOUNT_FOR_S = 0.25  # a timer waits for it, and sending shares the machine with it
_SEAL_EVERY_S = 20.0
_EXPIRE_EVERY_S = 300.0
_RETAIN_EVERY_S = 3_600.0
_NOTE_LEASE_S = 5
_log = logging.getLogger(__name__)


class Chores:
    """In a thread of a worker, or of a process of their own."""

    def __init__(self, postroom: Postroom, *, only: Home | None, stopped: threading.Event) -> None:
        """`only`: look after one campaign alone."""
        self._postroom = postroom
        self._only = only
        self._stopped = stopped

    def run(self) -> None:
        """Until stopped. Errors of the stores are raised."""
        postroom = self._postroom
        machine = postroom.stores.on_one_machine("firing timers")
        chores = [(_Every(seconds, postroom.clock), chore) for seconds, chore in self._chores()]
        while not self._stopped.is_set():
            machine.timers.fire_due(postroom.clock.now())
            for every, chore in chores:
                if every.due():
                    self._do(chore)
            if not self._handle_notes():
                self._stopped.wait(_LOOK_S)

    def _chores(self) -> list[tuple[float, Callable[[], object]]]:
        """What is done every so many seconds. A single campaign's worker leaves the house to others."""
        chores: list[tuple[float, Callable[[], object]]] = [
            (EVERY_S, lambda: self._postroom.guard.look(self._only)),
            (_TRIM_EVERY_S, self.trim_feed),
            (_RECORDS_EVERY_S, self._look_at_records),
        ]
        if self._only is None:
            chores += [(_SEAL_EVERY_S, self._postroom.audit.seal), (_EXPIRE_EVERY_S, self._expire_uploads)]
            chores += [
                (_RECOUNT_EVERY_S, self._recount),
                (_EXPIRE_EVERY_S, self._expire_singles),
                (_RETAIN_EVERY_S, self._expire_campaigns),
            ]
        return chores

    def _do(self, chore: Callable[[], object]) -> None:
        """A chore that fails is done again at its next time, and holds up no other."""
        try:
            chore()
        except PostroomError:
            _log.exception("a chore failed, and is done again later")

    def _recount(self) -> None:
        self._postroom.recounts.run(seconds=_RECOUNT_FOR_S, stopped=self._stopped.is_set)

    def _expire_uploads(self) -> None:
        uploads, now = self._postroom.uploads, self._postroom.clock.now()
        while uploads.expire(now) and not self._stopped.is_set():
            pass

    def _expire_singles(self) -> None:
        days = self._postroom.settings.retention_days
        if days is not None:
            self._postroom.stream_retention.expire(self._postroom.clock.now(), days=days)

    def _expire_campaigns(self) -> None:
        days = self._postroom.settings.retention_days
        if days is not None:
            now = self._postroom.clock.now()
            self._postroom.campaign_retention.run(now, days=days, stopped=self._stopped.is_set)

    def trim_feed(self) -> None:
        """Forget what every reader of the feed has had time to see."""
        feed = self._postroom.feed
        for shard in feed.shards():
            with suppress(NotFound):  # deleted in this moment
                feed.trim(shard, Instant(self._postroom.clock.now() - RETENTION_MS))

    def _look_at_records(self) -> None:
        """What a lost note would have said: the record is the truth, and nothing waits for ever for a note."""
        for home in [self._only] if self._only is not None else self._postroom.records.unfinished():
            try:
                self._postroom.scheduler.look(home)
            except (Conflict, NotFound):  # somebody changed or deleted it in this moment: the next look sees
                continue
            except Permanent as error:  # its record cannot be read, say: those after it are looked after all the same
                _log.error("campaign %s is not looked after: %s", home.campaign, error)

    def _handle_notes(self) -> bool:
        received = self._postroom.queues.receive(notes.QUEUE, limit=10, lease_s=_NOTE_LEASE_S)
        for item in received:
            self._handle_note(item)
        return bool(received)

    def _handle_note(self, item: Received) -> None:
        queues = self._postroom.queues
        try:
            self._postroom.scheduler.handle(item.body)
        except (Conflict, Temporary) as error:
            _log.info("a note to the scheduler comes again: %s", error)
            return
        except Permanent as error:
            _log.warning("a note to the scheduler is dropped: %s", error)
        with suppress(LeaseLost):  # somebody else has it now, and finds the work done
            queues.delete(notes.QUEUE, item.receipt)


class _Every:
    """True once in so many seconds, the first time at once."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._next = clock.monotonic()

    def due(self) -> bool:
        now = self._clock.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True
