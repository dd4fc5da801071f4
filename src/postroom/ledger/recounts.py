"""Counting anew where something was reported, so that asking for a campaign's numbers stays cheap (ports.messages: `stale`).

Who has reported something of a home enters it in a list of the installation's; whoever does the chores counts the home's stale
batches and takes it off. So nothing looks through campaigns in which nothing happens, however many there are and however old.

    reported ──→ entered, unless this process did so a moment ago ──→ counted; off the list, if entered two moments ago

A report that was not entered is younger than its entry by a moment at most, so the count that ends the entry has seen it. A
kill between report and entry: what was reported comes again from its queue (ledger.incoming), and is entered then. Anything
that is lost all the same costs a little time whenever numbers are asked for, and never a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Final

from postroom.clock import Clock, Instant
from postroom.errors import NotFound
from postroom.ledger.collection import iterate_items
from postroom.ledger.ttl_cache import TtlCache
from postroom.model.campaign import CampaignRef
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.tables import MAX_WRITES, Delete, Item, ItemKey, Put, Tables

MOMENT_S: Final = 10.0
_HEARD = "#heard-of-campaigns"
_FORGOTTEN_MS = 30 * 86_400_000
_AT_ONCE = 25
"""Batches in one call: a worker of the same ledger waits some ten milliseconds for it."""


class Recounts:
    """Of all homes: campaigns and streams."""

    def __init__(self, tables: Tables, messages: Messages, clock: Clock) -> None:
        self._tables = tables
        self._messages = messages
        self._clock = clock
        self._entered: TtlCache[CampaignRef, bool] = TtlCache(clock, most=1_000)
        self._round: Iterator[tuple[CampaignRef, list[Item]]] | None = None
        self._reached: dict[CampaignRef, int] = {}
        """Of homes that were not finished: the last batch that was counted."""

    def note(self, ref: CampaignRef) -> None:
        """Something was reported of it."""
        if self._entered.get(ref):
            return
        now = self._clock.now()
        entry = ItemKey(_HEARD, f"{ref.tenant}/{ref.campaign}/{now:015d}")
        self._tables.write([Put(entry, {}, expires_at=Instant(now + _FORGOTTEN_MS))])
        self._entered.put(ref, True, seconds=MOMENT_S)

    def run(self, *, seconds: float, stopped: Callable[[], bool] = lambda: False) -> None:
        """Count for about so long, each home once at most; the next call goes on with the home after. Any number may do it."""
        ends = self._clock.monotonic() + seconds

        def over() -> bool:
            return stopped() or self._clock.monotonic() >= ends

        self._round = self._round or self._entries()
        for ref, entries in self._round:
            self._recount(ref, entries, over)
            if over():
                return
        self._round = None

    def _entries(self) -> Iterator[tuple[CampaignRef, list[Item]]]:
        for ref, items in groupby(iterate_items(self._tables, _HEARD), lambda item: CampaignRef(*item.key.sort.split("/")[:2])):
            yield ref, list(items)

    def _recount(self, ref: CampaignRef, entries: list[Item], over: Callable[[], bool]) -> None:
        began = self._clock.now()
        try:
            if not self._count(ref, over):
                return
        except NotFound:  # deleted
            began = Instant(began + _FORGOTTEN_MS)
        seen_all = [entry.key for entry in entries if _entered_at(entry) <= began - 2_000 * MOMENT_S]
        for first in range(0, len(seen_all), MAX_WRITES):
            self._tables.write([Delete(key) for key in seen_all[first : first + MAX_WRITES]])

    def _count(self, ref: CampaignRef, over: Callable[[], bool]) -> bool:
        """Whether all that was stale is counted. What a home's last turn did not come to is first."""
        reached = self._reached.pop(ref, -1)
        stale = sorted(self._messages.stale(ref), key=lambda number: (number <= reached, number))
        for first in range(0, len(stale), _AT_ONCE):
            if first and over():
                self._reached[ref] = stale[first - 1]
                return False
            self._messages.recount(ref, stale[first : first + _AT_ONCE])
        return True


def _entered_at(entry: Item) -> int:
    return int(entry.key.sort.rpartition("/")[2])
