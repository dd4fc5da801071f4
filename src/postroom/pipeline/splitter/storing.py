"""A chunk of rows into the ledger: who is on the suppression list is pinned, the others are stored, the lowest line wins.

    1 pin      which rows are suppressed is written down, once: the list may change before a crash is mended
    2 store    insert-if-absent: the answer says which rows are duplicates

Done again, by whomever, a chunk comes to the same: it keeps its name, and the rows that its name stands for.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

from postroom.clock import Clock
from postroom.ledger.suppression import SuppressionList
from postroom.model.campaign import Campaign
from postroom.model.message import MessageRow
from postroom.pipeline.splitter.workspace import Workspace
from postroom.platform.ports.messages import Messages
from postroom.recipients_file.rows import DUPLICATE, SUPPRESSED, Reject

_ON_LIST = "The address is on the suppression list."
_BY_KEY = itemgetter(1)


class Stored(NamedTuple):
    """What became of a chunk."""

    rejects: list[Reject]
    """Its suppressed rows, then its duplicates."""
    suppressed: int

    @property
    def duplicate(self) -> int:
        """How many rows are duplicates."""
        return len(self.rejects) - self.suppressed


class Storing:
    """See the module's text."""

    def __init__(self, messages: Messages, suppression: SuppressionList, clock: Clock, *, spread: bool = False) -> None:
        """`spread`: store in the order of keys, which strews a chunk over all of its batches: a partition of DynamoDB takes a
        thousand writes a second. Else batch by batch, which makes SQLite's inserts nearly sequential."""
        self._messages = messages
        self._suppression = suppression
        self._clock = clock
        self._order = _BY_KEY if spread else None

    def store(self, campaign: Campaign, name: str, rows: Sequence[MessageRow], workspace: Workspace) -> Stored:
        """Store the chunk of that name."""
        ref, topic = campaign.ref, campaign.content.topic
        on_list = self._suppression.suppressed(ref.tenant, [message.key for message in rows], topic=topic)
        found = [message.line for message in rows if message.key in on_list] if on_list else []
        pinned = set(workspace.pin_suppressed(name, found))
        kept = [message for message in rows if message.line not in pinned] if pinned else rows
        kept = sorted(kept, key=self._order)
        winners = self._messages.store(ref, kept, self._clock.now())
        rejects = [Reject(m.line, m.address, SUPPRESSED, _ON_LIST) for m in rows if m.line in pinned] if pinned else []
        suppressed = len(rejects)
        rejects += [
            Reject(m.line, m.address, DUPLICATE, f"The same recipient as in line {winner}.")
            for m, winner in zip(kept, winners, strict=True)
            if winner != m.line
        ]
        return Stored(rejects, suppressed)
