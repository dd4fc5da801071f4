"""Both backends of `ports.messages` do, whatever is asked of them in whatever order, what a dictionary would do; and whatever comes
back, in whatever order and however often, ends at the same records and the same sums."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from postroom.clock import Instant
from postroom.errors import LeaseLost
from postroom.model.batch import Group, OpenBatch
from postroom.model.campaign import CampaignRef as Campaign
from postroom.model.event import Bounce, BounceClass, BounceType, Event, EventKind, StatusRank
from postroom.model.ids import Key
from postroom.model.message import Counts, Engagement, Message, MessageStatus, Settlement, Totals
from postroom.model.provider_status import event_from_settlement, reply_text, sort_events
from postroom.model.tokens import MAX_ATTEMPT
from postroom.platform.ports.messages import Messages, ReportedEvent
from tests.contract.backend import Backend
from tests.contract.messages_kit import LEASE_MS, S, at, key, row

BATCHES = 2
KEYS = 6
OWNERS = ("w1", "w2", "w3")
STORABLE = tuple(state for state in MessageStatus if state is not S.SENDING)
WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # which takes minutes where an order is a request
_numbers = itertools.count()


KINDS = tuple(EventKind)
ATTEMPTS = (1, 2, MAX_ATTEMPT, MAX_ATTEMPT + 2)
TIMES = (3, 1, 3)


def event_of_kind(kind: EventKind, n: int) -> Event:
    """The same number, the same event: each attempt in several words."""
    attempt, words = divmod(n, len(TIMES))
    return Event(
        kind=kind,
        attempt=ATTEMPTS[attempt],
        at=at(TIMES[words]),
        id=f"{kind}{n}",
        source="dsn",
        bounce=Bounce(BounceType.HARD, BounceClass.MAILBOX, "5.1.1") if kind is EventKind.BOUNCED else None,
        machine=ATTEMPTS[attempt] == 2,
        detail=f"told {words}",
    )


@st.composite
def told_of(draw: st.DrawFn, keys: int, most: int) -> list[tuple[int, Event]]:
    """Events of one or two messages, of a kind or two, so that many are about the same thing."""
    about = st.sampled_from(draw(st.lists(st.integers(0, keys - 1), min_size=1, max_size=2)))
    kinds = st.sampled_from(draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=2)))
    numbers = st.integers(0, len(ATTEMPTS) * len(TIMES) - 1)
    one = st.tuples(about, st.builds(event_of_kind, kinds, numbers))
    return draw(st.lists(one, min_size=1, max_size=most))


@dataclass
class Held:
    """What the model knows of a message: its worker's half as a record of its own, and all that was ever told of it."""

    outcome: Message
    told: dict[str, Event] = field(default_factory=dict)
    own: dict[str, Event] = field(default_factory=dict)

    @property
    def tried(self) -> bool:
        return self.outcome.at is not None or bool(self.told)

    def stands(self) -> Message:
        """The furthest that anybody says, in the earliest words of those who say the same."""
        told = [(self._said(event), event.at, reply_text(event)) for event in self.told.values() if event.status is not None]
        ours = StatusRank(self.outcome.attempt, self.outcome.status)
        best = max((said for said, _, _ in told), key=lambda said: said.rank, default=ours)
        people = self._first(EventKind.OPENED), self._first(EventKind.CLICKED), self._unsubscribed()
        shown = replace(self.outcome, opened_at=people[0], clicked_at=people[1], unsubscribed_at=people[2])
        if best.rank <= ours.rank:
            return shown
        when, reply = min((when, reply) for said, when, reply in told if said == best)
        return replace(shown, status=best.status, attempt=best.attempt, at=when, due=None, code=0, reply=reply)

    def timeline(self) -> list[Event]:
        ours, key = self.outcome, self.outcome.key
        sent = []
        if ours.status is S.SENT and ours.at is not None:
            event = event_from_settlement(Settlement(key, ours.status, ours.attempt, ours.at, None, ours.code, ours.reply))
            sent = [event] if event else []
        return sort_events([*self.told.values(), *self.own.values(), *sent])

    def _said(self, event: Event) -> StatusRank:
        assert event.status is not None
        if event.attempt >= MAX_ATTEMPT:  # the wire tells no later attempts apart
            return StatusRank(max(MAX_ATTEMPT, self.outcome.attempt), event.status)
        return StatusRank(event.attempt, event.status)

    def _first(self, kind: EventKind) -> Instant | None:
        return min((event.at for event in self.told.values() if event.kind is kind and not event.machine), default=None)

    def _unsubscribed(self) -> Instant | None:
        asked = [e.at for e in self.told.values() if e.kind is EventKind.UNSUBSCRIBED]
        undone = [e.at for e in self.told.values() if e.kind is EventKind.RESUBSCRIBED]
        return max(asked) if asked and max(asked) > max(undone, default=-1) else None


@dataclass
class Batch:
    """What the model knows of a batch."""

    fence: int = 0
    owner: str | None = None
    until: int = 0
    group: Group | None = None
    messages: dict[Key, Held] = field(default_factory=dict)

    def all(self) -> list[Message]:
        """Its messages as they stand, in order."""
        return [held.stands() for _, held in sorted(self.messages.items())]

    def held(self, now: int, dead: list[str]) -> bool:
        return self.owner is not None and self.owner not in dead and self.until > now

    def work(self) -> int | None:
        """When there is work next."""
        dues = [0] if self.group else []
        for message in self.all():
            if message.status is S.PENDING:
                dues.append(0)
            elif message.status in (S.DEFERRED, S.UNKNOWN) and message.due is not None:
                dues.append(message.due)
        return min(dues, default=None)

    def totals(self) -> Totals:
        numbers = dict.fromkeys(Counts().as_dict(), 0)
        sending = self.group.keys if self.group else ()
        people = Engagement()
        for message in self.all():
            numbers["sending" if message.key in sending else message.status.label] += 1
            did = message.opened_at, message.clicked_at, message.unsubscribed_at
            people = people + Engagement(*(when is not None for when in did))
        return Totals(Counts(**numbers), people)


class Both:
    """The backend under test and the model, given the same orders."""

    def __init__(self, messages: Messages, campaign: Campaign) -> None:
        self.real = messages
        self.campaign = campaign
        self.batches = [Batch() for _ in range(BATCHES)]
        self.now = 0
        messages.create(campaign, BATCHES)

    def store(self, data: st.DataObject) -> None:
        wanted = st.tuples(st.integers(0, KEYS - 1), st.integers(1, 9))
        sending = any(batch.group for batch in self.batches)  # then a line that is stored is final, whatever else is in the call
        one_each = (lambda drawn: drawn[0]) if sending else None
        drawn = data.draw(st.lists(wanted, max_size=6, unique_by=one_each), "rows")
        rows = [row(n, batch=n % BATCHES, line=line) for n, line in drawn]  # a key belongs to one batch
        answers = self.real.store(self.campaign, rows, at(self.now))
        for one in rows:
            batch = self.batches[one.batch]
            held = batch.messages.get(one.key)
            untried = held is not None and not held.tried and batch.group is None
            if held is None or (untried and one.line < held.outcome.line):
                batch.messages[one.key] = Held(Message(*one, S.PENDING, 0, None, None, 0, "", None))
        assert answers == [self.batches[one.batch].messages[one.key].outcome.line for one in rows]

    def open(self, data: st.DataObject) -> None:
        number, owner = data.draw(st.integers(0, BATCHES - 1)), data.draw(st.sampled_from(OWNERS), "owner")
        dead = data.draw(st.lists(st.sampled_from(OWNERS), max_size=2, unique=True), "dead")
        got = self.real.open(self.campaign, number, owner, at(self.now), lease_ms=LEASE_MS, dead=dead)
        batch = self.batches[number]
        if batch.owner != owner and batch.held(self.now, dead):
            assert got is None
            return
        batch.fence, batch.owner, batch.until = batch.fence + 1, owner, self.now + LEASE_MS
        assert got == OpenBatch(number, batch.fence, batch.group)

    def record(self, data: st.DataObject) -> None:
        number, fence = self._fence(data)
        batch = self.batches[number]
        keys = sorted(batch.messages)
        some = st.lists(st.sampled_from(keys), unique=True) if keys else st.just([])
        settled = [self._settlement(data, one) for one in data.draw(some, "settled")]
        group = data.draw(some, "group")

        def call() -> None:
            self.real.record(self.campaign, number, fence, settled, group, at(self.now), lease_ms=LEASE_MS)

        if not self._accepted(batch, fence, call):
            return
        for s in settled:
            facts = (s.status, s.attempt, s.at, s.due, s.code, s.reply, s.provider_id)
            names = ("status", "attempt", "at", "due", "code", "reply", "provider_id")
            held = batch.messages[s.key]
            held.outcome = replace(held.outcome, **dict(zip(names, facts, strict=True)))  # type: ignore[arg-type]
            if s.status is not S.SENT and (own := event_from_settlement(s)) is not None:
                held.own.setdefault(own.id, own)
        batch.group = Group(batch.owner or "", fence, tuple(group), at(self.now)) if group else None
        batch.until = self.now + LEASE_MS
        if data.draw(st.booleans(), "again"):
            call()

    def _settlement(self, data: st.DataObject, one: Key) -> Settlement:
        due = st.none() | st.integers(0, 5).map(lambda minutes: at(minutes * 60_000))
        code, reply = data.draw(st.sampled_from([(0, ""), (250, "ok"), (451, "4.7.1 later")]))
        return Settlement(
            one,
            data.draw(st.sampled_from(STORABLE), "state"),
            data.draw(st.sampled_from((0, 1, 2, 3, MAX_ATTEMPT + 1)), "attempt"),
            at(self.now),
            data.draw(due, "due"),
            code,
            reply,
            data.draw(st.none() | st.just("id")),
        )

    def report(self, data: st.DataObject) -> None:
        drawn = data.draw(told_of(KEYS + 1, 16), "reports")  # the last key is nobody's
        reports = [ReportedEvent(n % BATCHES, key(n), event) for n, event in drawn]
        for _ in range(data.draw(st.integers(1, 2), "times")):
            new = self.real.record_events(self.campaign, reports, at(self.now))
            assert list(new) == [self._hear(one) for one in reports]

    def _hear(self, one: ReportedEvent) -> bool:
        held = self.batches[one.batch].messages.get(one.key)
        if held is None or one.event.id in held.told:
            return False
        held.told[one.event.id] = one.event
        return True

    def extend(self, data: st.DataObject) -> None:
        number, fence = self._fence(data)
        batch = self.batches[number]
        if self._accepted(batch, fence, lambda: self.real.extend(self.campaign, number, fence, at(self.now), lease_ms=LEASE_MS)):
            batch.until = self.now + LEASE_MS

    def close(self, data: st.DataObject) -> None:
        number, fence = self._fence(data)
        batch = self.batches[number]
        if self._accepted(batch, fence, lambda: self.real.close(self.campaign, number, fence)):
            batch.owner = None

    def _fence(self, data: st.DataObject) -> tuple[int, int]:
        """A batch, and mostly the fence of its holder; nobody's holder is asked for where it was given back."""
        number = data.draw(st.integers(0, BATCHES - 1), "batch")
        batch = self.batches[number]
        old = batch.owner is None or data.draw(st.sampled_from([False, False, False, True]), "old")
        return number, batch.fence - 1 if old else batch.fence

    def _accepted(self, batch: Batch, fence: int, call: Callable[[], Any]) -> bool:
        if fence == batch.fence:
            call()
            return True
        with pytest.raises(LeaseLost):
            call()
        return False

    def wait(self, data: st.DataObject) -> None:
        self.now += data.draw(st.sampled_from([1, LEASE_MS // 2, LEASE_MS, 4 * LEASE_MS]), "wait")

    def compare(self) -> None:
        self.real.recount(self.campaign)
        every = [message for batch in self.batches for message in batch.all()]
        assert self.real.list(self.campaign, limit=1_000).messages == every
        for state in {message.status for message in every}:
            of_it = [message for message in every if message.status is state]
            assert self.real.list(self.campaign, statuses=[state], limit=1_000).messages == of_it
            found = [one for n in range(BATCHES) for one in self.real.load_state(self.campaign, n, [state], 100)]
            assert [(one.key, one.attempt) for one in found] == [(message.key, message.attempt) for message in of_it]
        assert self.real.totals(self.campaign) == _sum(batch.totals() for batch in self.batches)
        for message in every:
            told = self.batches[message.batch].messages[message.key].timeline()
            assert self.real.timeline(self.campaign, message.batch, message.key) == told
        waits = [m for m in every if m.status is S.UNKNOWN and m.due is not None]
        assert self.real.unsettled(self.campaign) == len(waits)
        dues = [due for batch in self.batches if (due := batch.work()) is not None]
        assert self.real.next_due(self.campaign) == min(dues, default=None)
        now = at(self.now)
        with_work = [
            n for n, b in enumerate(self.batches) if not b.held(self.now, []) and (w := b.work()) is not None and w <= now
        ]
        assert self.real.due_batches(self.campaign, now, 10) == with_work
        for number, batch in enumerate(self.batches):
            loaded = [r.key for r in self.real.load(self.campaign, number, now, 100)]
            assert loaded == [message.key for message in batch.all() if _has_work(message, now)]


def _sum(totals: Iterable[Totals]) -> Totals:
    return reduce(Totals.plus, totals)


def _has_work(message: Message, now: Instant) -> bool:
    waits = message.status in (S.DEFERRED, S.UNKNOWN) and message.due is not None and message.due <= now
    return message.status is S.PENDING or waits


def play(backend: Backend, data: st.DataObject) -> None:
    both = Both(backend.messages(), Campaign("model", f"c{next(_numbers)}"))
    both.store(data)
    verbs = [both.store, both.open, both.open, both.record, both.record, both.record, both.extend, both.close, both.wait]
    verbs += [both.report] * 3
    for _ in range(data.draw(st.integers(1, 12), "steps")):
        data.draw(st.sampled_from(verbs), "verb")(data)
    both.compare()


@pytest.mark.backends("embedded")
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_backend_on_one_machine_does_what_a_dictionary_would(backend: Backend, data: st.DataObject) -> None:
    play(backend, data)


@pytest.mark.backends("aws")
@settings(max_examples=15, phases=WITHOUT_SHRINKING, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_backend_on_aws_does_what_a_dictionary_would(backend: Backend, data: st.DataObject) -> None:
    play(backend, data)
