"""Messages: the ledger of one campaign's recipients, in batches under lease and fence. The heart of "never twice".

A campaign's home is created with a frozen number of batches. A batch is opened by one worker at a time, and each
opening raises the batch's *fence*; every write of a worker carries its fence, and an old one is refused with
`LeaseLost`, having changed nothing. Rules that both homes keep:

- **Intent before effect**: `record` stores outcomes and then the next open group. When it returns, both are durable
  (they survive a power cut). A home that cannot do both atomically stores all outcomes first: so whoever finds a
  group open knows that only its keys without a recorded outcome of that attempt are in doubt. A fence that grows old
  during a call may have recorded outcomes there, all of them before the `open` that took the batch returned.
- **Repeats**: every method may be repeated after `Unavailable`; the second time changes nothing more.
- **Counts are recounts**: a batch's snapshot is counted from its messages, at `recount` and `close` at the latest. What
  was stored is not due, and need not be listed, before it is counted; work that a worker leaves is due at once.
- **Order**: messages of a batch come in the order of their keys; batches by number.
- **Feed**: each stored, settled or changed message appears in the campaign's feed (ports.feed) if and only if it was
  written.
- **Reported status**: what others report of a message is kept beside the outcome that its worker recorded
  (model.provider_status), and the further of the two is the message's status. So `record_events` needs no lease and breaks none,
  may come before or after the worker's own record, and neither lowers the other. A message that reports put past sending is no
  work: `load` does not return it, whatever is settled of the same attempt, an order to try again included. One that was loaded
  before the report came is still sent once.
- **Limits**: a group has at most 128 keys; `store` takes any number of rows; a message is under 1 KB where `values`
  is; up to 100 reports a call.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from postroom.clock import Instant
from postroom.model.batch import BatchSnapshot, OpenBatch
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event
from postroom.model.ids import Key
from postroom.model.message import Counts, Message, MessageRow, MessageStatus, Recipient, Settlement, Totals

MAX_EVENTS_PER_CALL = 100


class ReportedEvent(NamedTuple):
    """An event and the message that it is about."""

    batch: int
    key: Key
    event: Event


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Part of a listing. `cursor` asks for the next part; None: that was all. Opaque text."""

    messages: Sequence[Message]
    cursor: str | None


class Messages(Protocol):
    """See the module's text. Every method raises `NotFound` for a home that was never created or is dropped."""

    def create(self, ref: CampaignRef, batches: int) -> None:
        """Make the home, its batches empty. Again with the same number: harmless; with another: `Conflict`."""
        ...

    def drop(self, ref: CampaignRef) -> None:
        """Delete the home and all in it. Again: harmless. Stop its import first: a `store` under way may leave rows behind."""
        ...

    def store(self, ref: CampaignRef, rows: Sequence[MessageRow], now: Instant) -> list[int]:
        """Insert rows that are absent, state pending. Answers, aligned with `rows`, the line that holds each row's key now.

        The lowest line wins: an answer equal to the row's own line means it is stored (now or by an earlier, repeated call);
        any other means the row is a duplicate of that line. A row that arrives later with a lower line takes the place of a
        higher one that is still pending and untried. Two rows of one call may share a key. Each row stands alone: a
        crash in the middle leaves some of them stored, whole. `Invalid`: a batch number out of range.
        """
        ...

    def recount(self, ref: CampaignRef, batches: Collection[int] | None = None) -> None:
        """Count these batches (None: all) and store their snapshots, `next_due` included. After the import and any repair."""
        ...

    def counts(self, ref: CampaignRef) -> Counts:
        """The campaign's numbers: the sum of its batches' snapshots, messages in open groups shown as `sending`. Batches in
        somebody's hands, and those of which something was reported since they were counted, are counted when asked."""
        ...

    def totals(self, ref: CampaignRef) -> Totals:
        """`counts`, and in how many messages people did what, counted at the same time."""
        ...

    def stale(self, ref: CampaignRef) -> Sequence[int]:
        """Batches of which something was reported since they were counted. Asking for numbers costs a count of each of them:
        whoever lets them be recounted from time to time keeps that cheap."""
        ...

    def unsettled(self, ref: CampaignRef) -> int:
        """How many messages are `unknown` with a `due`: waiting for a policy to decide."""
        ...

    def batches(self, ref: CampaignRef, *, after: int = -1, limit: int = 100) -> list[BatchSnapshot]:
        """Snapshots of batches numbered above `after`, in order; `limit` 1 to 1,000. Stale ones are counted when asked."""
        ...

    def due_batches(self, ref: CampaignRef, now: Instant, limit: int, *, dead: Collection[str] = ()) -> list[int]:
        """Batches that have work at `now` and no live lease (none, run out, or held by an owner in `dead`).

        Work is a pending message, a deferred or unknown one whose `due` has come, or a group left open.
        """
        ...

    def next_due(self, ref: CampaignRef) -> Instant | None:
        """The earliest time any batch has work, leased or not; None: never again."""
        ...

    def open(
        self, ref: CampaignRef, batch: int, owner: str, now: Instant, *, lease_ms: int, dead: Collection[str] = ()
    ) -> OpenBatch | None:
        """Take the lease and a new fence; None while somebody else holds a live lease (an owner in `dead` holds none).

        The same owner may open again (its earlier fence is then old). The group a predecessor left open stays open until
        `record` settles or replaces it. `NotFound`: no such batch. Of its keys those are in doubt that are still work as of the
        group's `at` (`find` tells): the others have their outcome already.
        """
        ...

    def extend(self, ref: CampaignRef, batch: int, fence: int, now: Instant, *, lease_ms: int) -> None:
        """Keep the lease until `now` + `lease_ms`. `LeaseLost` if somebody opened the batch since."""
        ...

    def load(self, ref: CampaignRef, batch: int, now: Instant, limit: int) -> list[Recipient]:
        """Messages with work at `now` (pending; deferred or unknown whose `due` has come), in key order."""
        ...

    def load_state(self, ref: CampaignRef, batch: int, statuses: Collection[MessageStatus], limit: int) -> list[Recipient]:
        """Messages in these states, due or not, in key order: for retry-failed, settle and cancel."""
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
        """Store outcomes, then replace the open group (empty: close it), and extend the lease. See the module's first rule.

        A settlement for a key that the batch does not hold: `NotFound`, nothing of the call is applied. More than 128 keys:
        `Invalid`. `LeaseLost` as everywhere. Settling a message as it already stands changes nothing (a repeat). A settlement
        that is no success also stands on the message's timeline from then on.
        """
        ...

    def record_events(self, ref: CampaignRef, reports: Sequence[ReportedEvent], now: Instant) -> Sequence[bool]:
        """Record inbound events, without a lease: on the messages' timelines, in their records and in the feed. Returns, aligned
        with `reports`, which were new.

        An event that the message has already (by its id) changes nothing; nor does one of an unknown message, or an open or
        click of a message with 1,000 events. Each message is changed whole or not at all; after an error some are, and
        repeating completes it (an event recorded the first time is not new the second). Texts are cut to their limits
        (model.event); of an erased message no text is kept that may identify the recipient. Raises `Invalid` for more than
        100.
        """
        ...

    def timeline(self, ref: CampaignRef, batch: int, key: Key) -> Sequence[Event]:
        """What happened to a message, in order of time: what was reported, and what its worker recorded of each attempt that was
        no success; that the provider has taken it comes from the record itself. Empty: no such message, or nothing yet."""
        ...

    def close(self, ref: CampaignRef, batch: int, fence: int) -> BatchSnapshot:
        """Recount, store the snapshot and give the lease back. An open group stays open. `LeaseLost` as everywhere."""
        ...

    def erase(self, ref: CampaignRef, batch: int, fence: int, key: Key, now: Instant, *, values: str = "[]") -> bool:
        """Forget whom a message was for: its address becomes `ERASED`, name, reply and values give way to `values`; state and
        counts stay, and neither its timeline nor the feed tells of a reply, an address or a link any more. Whether that
        changed anything: False for one that is erased already, or not there. `Conflict`: it is work now or later, or stands in
        an open group: settle it first. `LeaseLost` as everywhere. A home that cannot write its feed again tells there what it had
        told, until that is forgotten: 24 hours."""
        ...

    def get(self, ref: CampaignRef, batch: int, key: Key) -> Message | None:
        """One message's record. State as stored: `sending` is not looked up."""
        ...

    def list(
        self, ref: CampaignRef, *, statuses: Collection[MessageStatus] = (), cursor: str | None = None, limit: int = 100
    ) -> MessagePage:
        """Messages by batch and key, of these states (none named: all). A page may be short before the end."""
        ...
