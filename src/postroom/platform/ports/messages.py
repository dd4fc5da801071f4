"""Messages: the ledger of one campaign's recipients, in batches under lease and fence. It is why no recipient is sent to twice.

A campaign's storage is created with a fixed number of batches. A batch is opened by one worker at a time, and each
opening raises the batch's *fence*. Every write of a worker carries its fence; an old one is refused with
`LeaseLost`, having changed nothing. Rules that both backends keep:

- **Intent before effect**: `record` stores outcomes and then the next open group. When it returns, both are durable (they
  survive a power cut). A backend that cannot do both atomically stores all outcomes first. So if a group is found open, only
  its keys without a recorded outcome of that attempt are in doubt. A fence that grows old during a call may have recorded
  outcomes there, all of them before the `open` that took the batch returned.
- **Repeats**: every method may be repeated after `Unavailable`; the second call changes nothing more.
- **Counts are recounts**: a batch's snapshot is counted from its messages, at `recount` and `close` at the latest. Stored
  messages are not due, and need not be listed, before they are counted; work that a worker leaves is due at once.
- **Order**: messages of a batch come in the order of their keys, batches by number.
- **Feed**: each stored, settled or changed message appears in the campaign's feed (ports.feed) if and only if it was written.
- **Reported events**: what others report of a message is kept beside the outcome that its worker recorded
  (model.provider_status); the message's status is the further of the two. So `record_events` needs no lease and breaks none,
  may come before or after the worker's own record, and neither lowers the other. A message whose reported status is final is no
  work: `load` does not return it, whatever is settled of the same attempt, an order to try again included. A message that was
  loaded before the report is still sent once.
- **Limits**: a group has at most 128 keys; `store` takes any number of rows; a message is under 1 KB if `values` is; up to 100
  reports in a call.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from postroom.clock import Instant
from postroom.errors import Conflict, Invalid
from postroom.model.batch import BatchSnapshot, OpenBatch
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event
from postroom.model.ids import Key
from postroom.model.message import Counts, Message, MessageRow, MessageStatus, Recipient, Settlement, Totals

MAX_EVENTS_PER_CALL = 100


class ReportedEvent(NamedTuple):
    """One event of one message."""

    batch: int
    key: Key
    event: Event


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Part of a listing. `cursor` asks for the next part; None: that was all. Opaque text."""

    messages: Sequence[Message]
    cursor: str | None


class Messages(Protocol):
    """The ledgers of all campaigns. Every method raises `NotFound` for a campaign that was never created or was dropped."""

    def create(self, ref: CampaignRef, batches: int) -> None:
        """Create the campaign's storage with empty batches. May be repeated with the same number; raises `Conflict` with
        another."""
        ...

    def drop(self, ref: CampaignRef) -> None:
        """Delete the campaign's storage. May be repeated. Stop its import first: a concurrent `store` may leave rows behind."""
        ...

    def store(self, ref: CampaignRef, rows: Sequence[MessageRow], now: Instant) -> list[int]:
        """Insert rows that are absent, status pending. Returns, aligned with `rows`, the line that holds each row's key now.

        The lowest line wins: a result equal to the row's own line means that it is stored (now or by an earlier call);
        any other means that the row is a duplicate of that line. A row that arrives later with a lower line takes the place of a
        higher one that is still pending and untried. Two rows of one call may share a key. Rows are stored one by
        one: a crash leaves some of them stored, whole. Raises `Invalid` for a batch number out of range.
        """
        ...

    def recount(self, ref: CampaignRef, batches: Collection[int] | None = None) -> None:
        """Count these batches (None: all) and store their snapshots, `next_due` included. After the import and any repair."""
        ...

    def counts(self, ref: CampaignRef) -> Counts:
        """The campaign's numbers: the sum of its batches' snapshots, with messages in open groups as `sending`. Batches that are
        leased, have an open group, or have new reported events are counted now."""
        ...

    def totals(self, ref: CampaignRef) -> Totals:
        """`counts`, and how many messages were opened, clicked and unsubscribed, counted at the same time."""
        ...

    def stale(self, ref: CampaignRef) -> Sequence[int]:
        """Batches with events reported since they were counted. `totals` must count each of them: recounting them from
        time to time keeps it cheap."""
        ...

    def unsettled(self, ref: CampaignRef) -> int:
        """How many messages are `unknown` with a `due`: waiting for a policy to decide."""
        ...

    def batches(self, ref: CampaignRef, *, after: int = -1, limit: int = 100) -> list[BatchSnapshot]:
        """Snapshots of batches numbered above `after`, in order; `limit` 1 to 1,000. Stale ones are counted now."""
        ...

    def due_batches(self, ref: CampaignRef, now: Instant, limit: int, *, dead: Collection[str] = ()) -> list[int]:
        """Batches that have work at `now` and no live lease (none, run out, or held by an owner in `dead`).

        Work is a pending message, a deferred or unknown one whose `due` has come, or a group left open.
        """
        ...

    def next_due(self, ref: CampaignRef) -> Instant | None:
        """The earliest time at which any batch has work, leased or not. None if there is none."""
        ...

    def open(
        self, ref: CampaignRef, batch: int, owner: str, now: Instant, *, lease_ms: int, dead: Collection[str] = ()
    ) -> OpenBatch | None:
        """Take the lease and a new fence. Returns None while another owner has a live lease (owners in `dead` have none).

        The same owner may open again (its earlier fence is then old). A group that a predecessor left open stays open until
        `record` settles or replaces it. Of its keys, those are in doubt that are still work as of the
        group's `at` (see `find`): the others have their outcome already. Raises `NotFound` if there is no such batch.
        """
        ...

    def extend(self, ref: CampaignRef, batch: int, fence: int, now: Instant, *, lease_ms: int) -> None:
        """Keep the lease until `now` + `lease_ms`. Raises `LeaseLost` if the batch was opened since."""
        ...

    def load(self, ref: CampaignRef, batch: int, now: Instant, limit: int) -> list[Recipient]:
        """Messages with work at `now` (pending; deferred or unknown whose `due` has come), in key order."""
        ...

    def load_state(self, ref: CampaignRef, batch: int, statuses: Collection[MessageStatus], limit: int) -> list[Recipient]:
        """Messages with these statuses, due or not, in key order: for retry-failed, settle and cancel."""
        ...

    def find(self, ref: CampaignRef, batch: int, keys: Sequence[Key]) -> list[Recipient]:
        """Those of `keys` that exist in the batch, in key order: for settling a group left open."""
        ...

    def record(
        self,
        ref: CampaignRef,
        batch: int,
        fence: int,
        settled: Sequence[Settlement],
        group: Sequence[Key],
        now: Instant,
        *,
        lease_ms: int,
    ) -> None:
        """Store outcomes, then replace the open group (close it if `group` is empty), and extend the lease: intent before effect.

        Raises `NotFound` for a settlement of a key that the batch does not hold (nothing of the call is applied), `Invalid` for
        more than 128 keys, `LeaseLost` for an old fence. A settlement that is recorded already changes nothing (a repeat). A
        settlement without success is also added to the message's timeline.
        """
        ...

    def record_events(self, ref: CampaignRef, reports: Sequence[ReportedEvent], now: Instant) -> Sequence[bool]:
        """Store events of these messages, leased or not: on the timeline, in the reported status, in the feed.

        Returns, aligned with `reports`, which were new. An event whose id the message has already changes nothing, nor does
        an event of an absent message, or an open or click of a message with 1,000 events. Each message is changed completely or
        not at all. After an error some are changed; a repeat completes the rest (events stored the first time are not new
        the second). Texts are cut to their limits (model.event). Of an erased message's events nothing personal is kept. Raises
        `Invalid` for more than 100 reports.
        """
        ...

    def timeline(self, ref: CampaignRef, batch: int, key: Key) -> Sequence[Event]:
        """A message's events in order of time: reported events, and each attempt without success that its worker recorded. That
        the provider accepted it follows from the record itself. Empty if there is no such message or no event."""
        ...

    def close(self, ref: CampaignRef, batch: int, fence: int) -> BatchSnapshot:
        """Recount, store the snapshot and return the lease. An open group stays open. Raises `LeaseLost`."""
        ...

    def erase(self, ref: CampaignRef, batch: int, fence: int, key: Key, now: Instant, *, values: str = "[]") -> bool:
        """Erase the recipient of a message: its address becomes `ERASED`, name and reply are removed, and `values` replaces its
        values. Status and counts stay. Timeline and feed contain no reply, address or link of it any more.

        Returns False if the message is erased already or absent. Raises `Conflict` if it is work now or later, or is in an open
        group: settle it first. Raises `LeaseLost`. A backend that cannot rewrite its feed keeps the old entries until they
        expire, after 24 hours."""
        ...

    def get(self, ref: CampaignRef, batch: int, key: Key) -> Message | None:
        """One message's record, or None. Its status is the stored one: never `sending`."""
        ...

    def list(
        self, ref: CampaignRef, *, statuses: Collection[MessageStatus] = (), cursor: str | None = None, limit: int = 100
    ) -> MessagePage:
        """Messages with these statuses (none given: all), by batch and key. A page may be short before the end."""
        ...


def check_at_rest(message: Message) -> None:
    """Raises `Conflict` if the message is work: only others may be erased."""
    if message.is_work:
        raise Conflict(f"message {message.key.hex()} of batch {message.batch} is {message.status.label}: settle it first")


def check_events(reports: Sequence[ReportedEvent]) -> None:
    """Checks the number of reports in a call."""
    if len(reports) > MAX_EVENTS_PER_CALL:
        raise Invalid(f"{len(reports)} reports in one call are too many: up to {MAX_EVENTS_PER_CALL}.")


def message_cursor(batch: int, key: Key) -> str:
    """The cursor of a listing that continues after this message."""
    return f"{batch}:{key.hex()}"


def parse_message_cursor(cursor: str | None) -> tuple[int, bytes]:
    """Batch and key to continue after; (0, b"") for None. Raises `Invalid` if `message_cursor` did not make it."""
    if cursor is None:
        return 0, b""
    try:
        batch, key = cursor.split(":")
        at = int(batch), bytes.fromhex(key)
    except ValueError as error:
        raise Invalid(f"{cursor!r} is no cursor of this list") from error
    if at[0] < 0:  # a list from there would never end
        raise Invalid(f"{cursor!r} is no cursor of this list")
    return at
