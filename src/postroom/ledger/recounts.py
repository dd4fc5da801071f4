"""Recounts batches that got events, so that reading a campaign's numbers stays cheap (ports.messages: `stale`).

    #heard-of-campaigns / {tenant}/{campaign}/time    campaigns and daily streams that got events since they were last counted

    event recorded ──→ listed, unless this process did so within 10 s ──→ counted; unlisted if it was listed more than 20 s before

The maintenance job recounts the stale batches of listed campaigns only, so campaigns without new events cost nothing. An event
that was not listed again is at most 10 s younger than the listing, so the count that unlists it includes it. After a crash
between event and listing the event comes again from its queue (ledger.event_applier) and is listed then. A lost listing never
makes a number wrong: it costs a count when the numbers are read.
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
"""Batches in one call: it blocks a worker of the same ledger for some ten milliseconds."""


class Recounts:
    """Recounts campaigns and daily streams of all tenants."""

    def __init__(self, tables: Tables, messages: Messages, clock: Clock) -> None:
        self._tables = tables
        self._messages = messages
        self._clock = clock
        self._entered: TtlCache[CampaignRef, bool] = TtlCache(clock, most=1_000)
        self._round: Iterator[tuple[CampaignRef, list[Item]]] | None = None
        self._reached: dict[CampaignRef, int] = {}
        """The last batch counted, for campaigns whose recount ran out of time."""

    def note(self, ref: CampaignRef) -> None:
        """List a campaign that got an event."""
        if self._entered.get(ref):
            return
        now = self._clock.now()
        entry = ItemKey(_HEARD, f"{ref.tenant}/{ref.campaign}/{now:015d}")
        self._tables.write([Put(entry, {}, expires_at=Instant(now + _FORGOTTEN_MS))])
        self._entered.put(ref, True, seconds=MOMENT_S)

    def run(self, *, seconds: float, stopped: Callable[[], bool] = lambda: False) -> None:
        """Recount for about `seconds`, each campaign at most once; the next call goes on after it. Many processes may run it."""
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
        """Recount stale batches, those the last call did not reach first; whether all are counted."""
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
