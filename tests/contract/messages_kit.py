"""What the suites of `ports.messages` share: a campaign, rows, outcomes, and ways to look at all of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from postroom.clock import Instant
from postroom.model.campaign import CampaignRef as Campaign
from postroom.model.event import Bounce, BounceClass, BounceType, Event, EventKind
from postroom.model.ids import KEY_BYTES, Key
from postroom.model.message import Message, MessageRow, MessageStatus, Settlement
from postroom.platform.ports.messages import Messages

CAMPAIGN = Campaign("acme", "spring")
NOW = Instant(1_790_000_000_000)
LEASE_MS = 60_000

S = MessageStatus
K = EventKind
HARD = Bounce(BounceType.HARD, BounceClass.MAILBOX, "5.1.1")


def at(ms: int) -> Instant:
    """`ms` after NOW."""
    return Instant(NOW + ms)


def key(n: int) -> Key:
    """Keys in the order of their numbers; large numbers set the first byte."""
    return Key(n.to_bytes(KEY_BYTES, "big"))


def row(n: int, *, batch: int = 0, line: int | None = None, address: str | None = None) -> MessageRow:
    return MessageRow(batch, key(n), n + 1 if line is None else line, address or f"r{n}@example.org", f"Nº {n}", f'["{n}"]')


def outcome(n: int, state: MessageStatus = S.SENT, *, attempt: int = 1, ms: int = 0, due: int | None = None) -> Settlement:
    due_at = None if due is None else at(due)
    return Settlement(key(n), state, attempt, at(ms), due_at, 250, f"2.0.0 queued as {n}", f"id-{n}")


def stored(messages: Messages, *batches: int, each: int = 3) -> None:
    """A campaign whose batches (0 to the last named) hold keys 0 to `each` - 1, those named; counted."""
    messages.create(CAMPAIGN, max(batches) + 1)
    messages.store(CAMPAIGN, [row(n, batch=batch) for batch in batches for n in range(each)], NOW)
    messages.recount(CAMPAIGN)


def opened(messages: Messages, owner: str = "w1", *, batch: int = 0, ms: int = 0, dead: Sequence[str] = ()) -> int:
    """Open the batch, which must be possible; the fence."""
    got = messages.open(CAMPAIGN, batch, owner, at(ms), lease_ms=LEASE_MS, dead=dead)
    assert got is not None
    return got.fence


def record(
    messages: Messages, fence: int, settled: Iterable[Settlement] = (), group: Iterable[int] = (), *, batch: int = 0, ms: int = 0
) -> None:
    keys = [key(n) for n in group]
    messages.record(CAMPAIGN, batch, fence, list(settled), keys, at(ms), lease_ms=LEASE_MS)


def states(messages: Messages, *, batch: int = 0, keys: Iterable[int] = range(3)) -> list[MessageStatus]:
    """The state of each message as it is stored."""
    return [stands(messages, n, batch=batch).status for n in keys]


def stands(messages: Messages, n: int, *, batch: int = 0) -> Message:
    found = messages.get(CAMPAIGN, batch, key(n))
    assert found is not None
    return found


def listed(messages: Messages, *, wanted: Sequence[MessageStatus] = (), limit: int = 100) -> list[Message]:
    """All pages of a list; every page keeps to the limit."""
    found: list[Message] = []
    cursor: str | None = None
    while True:
        page = messages.list(CAMPAIGN, statuses=wanted, cursor=cursor, limit=limit)
        assert len(page.messages) <= limit
        found += page.messages
        if page.cursor is None:
            return found
        cursor = page.cursor


def event(kind: EventKind, *, attempt: int = 1, ms: int = 0, name: str = "", machine: bool = False, detail: str = "") -> Event:
    return Event(
        kind=kind,
        attempt=attempt,
        at=at(ms),
        id=name or f"{kind}-{attempt}-{ms}",
        source="dsn",
        bounce=HARD if kind is K.BOUNCED else None,
        machine=machine,
        detail=detail,
        url="https://shop.example/" if kind is K.CLICKED else "",
        raw=f"raw {kind}",
    )
