"""Sends, bounces and complaints per minute, for the reputation rules. The numbers that users see come from the ledger's counts.

    #tallies/{minute} / {provider}|{writer}    one process's counts: in all, by campaign, by recipient domain

Each process counts in memory and writes its counts every few seconds. A process writes its own items only, and each write holds
its whole minute: repeating a write is harmless, and processes never wait for each other. Events count in the minute in which they
are written. A crash loses the counts of some seconds.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any, Final, NamedTuple

from postroom.clock import Clock, Instant
from postroom.errors import PostroomError
from postroom.ledger.collection import iterate_items
from postroom.model.campaign import CampaignRef
from postroom.model.event import BounceType, Event, EventKind
from postroom.model.message import MessageStatus
from postroom.model.provider import without_password
from postroom.platform.ports.tables import ItemKey, Put, Tables
from postroom.telemetry.logs import event_logger

FLUSH_S: Final = 5.0
"""How often a process writes its counts."""
MINUTE_MS: Final = 60_000
OTHER_DOMAINS: Final = "*"
"""The key for all domains but the busiest."""
_SENT, _BOUNCED = MessageStatus.SENT, MessageStatus.BOUNCED  # an enum's member takes long to look up
_DOMAINS: Final = 200
_CAMPAIGNS: Final = 300
_MAX_DOMAIN: Final = 100  # a longer one is counted among the rest, so that an item stays within its limit
_MAX_PROVIDER: Final = 500  # characters of a URL: it stands in a key
_AT_ONCE: Final = 25
_log = event_logger(__name__)
_LINGER: Final = 2  # minutes that a writer keeps: what could not be written is written with the next


class RateCounts(NamedTuple):
    """Counts of outcomes."""

    sent: int = 0
    """Handed over and answered: accepted, or the address rejected."""
    hard: int = 0
    """Hard bounces, at the hand-over or later."""
    soft: int = 0
    """Soft and undetermined bounces."""
    complained: int = 0

    def plus(self, other: RateCounts) -> RateCounts:
        """The sum of both."""
        return RateCounts(*(one + more for one, more in zip(self, other, strict=True)))


class MinuteRates(NamedTuple):
    """A provider's counts of one minute, of one process or several."""

    total: RateCounts
    campaigns: Mapping[CampaignRef, RateCounts]
    """The busiest campaigns of each process."""
    domains: Mapping[str, RateCounts]
    """The busiest domains of each process; `OTHER_DOMAINS`: all others."""


_What = tuple[CampaignRef, str, str]
"""Campaign or stream, domain, and which of `RateCounts`."""
_Place = tuple[int, str]
"""Minute and provider."""


class HandoverCounter:
    """Counts one campaign's hand-overs. Called for each message: 0.3 µs each."""

    __slots__ = ("_lock", "_refused", "_sent")

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._sent: dict[str, int] = {}
        self._refused: dict[str, int] = {}

    def settled(self, address: str, status: MessageStatus) -> None:
        """Count one answered hand-over."""
        if status is _SENT or status is _BOUNCED:
            domain = address.rpartition("@")[2]
            with self._lock:
                self._sent[domain] = self._sent.get(domain, 0) + 1
                if status is _BOUNCED:
                    self._refused[domain] = self._refused.get(domain, 0) + 1

    def take(self) -> dict[str, dict[str, int]]:
        """The counts by domain, reset here. The caller holds the lock."""
        taken = {"sent": self._sent, "hard": self._refused}
        self._sent, self._refused = {}, {}
        return taken


class RateRecorder:
    """One process's counts. Thread-safe; only `flush` waits for the store."""

    def __init__(self, tables: Tables, clock: Clock, *, keep_ms: int) -> None:
        """`keep_ms`: how long the reputation rules need a minute's counts."""
        self._tables = tables
        self._clock = clock
        self._keep_ms = keep_ms
        self._writer = clock.random(8).hex()
        self._lock, self._flushing = Lock(), Lock()
        self._heard: dict[tuple[str, CampaignRef, str, str], int] = {}
        self._sending: dict[HandoverCounter, tuple[str, CampaignRef]] = {}
        self._minutes: dict[_Place, Counter[_What]] = {}
        self._unwritten: set[_Place] = set()

    def sent(self, ref: CampaignRef, provider: str, domain: str, n: int = 1) -> None:
        """Count `n` answered hand-overs."""
        self._count(ref, provider, domain, "sent", n)

    def bounced(self, ref: CampaignRef, provider: str, domain: str, bounce: BounceType, n: int = 1) -> None:
        """Count bounces, at the hand-over or later."""
        self._count(ref, provider, domain, "hard" if bounce is BounceType.HARD else "soft", n)

    def complained(self, ref: CampaignRef, provider: str, domain: str, n: int = 1) -> None:
        """Count spam complaints."""
        self._count(ref, provider, domain, "complained", n)

    def event(self, ref: CampaignRef, provider: str, domain: str, event: Event) -> None:
        """Count an inbound event that was new."""
        match event.kind:
            case EventKind.BOUNCED:
                self.bounced(ref, provider, domain, event.bounce.type if event.bounce else BounceType.UNDETERMINED)
            case EventKind.REJECTED:
                self.bounced(ref, provider, domain, BounceType.UNDETERMINED)
            case EventKind.COMPLAINED:
                self.complained(ref, provider, domain)
            case _:
                pass

    @contextmanager
    def handovers(self, ref: CampaignRef, provider: str) -> Iterator[HandoverCounter]:
        """A counter for the hand-overs of one campaign."""
        counting = HandoverCounter(self._lock)
        with self._lock:
            self._sending[counting] = (provider, ref)
        try:
            yield counting
        finally:
            with self._lock:
                self._add(self._sending.pop(counting), counting)

    def flush(self) -> None:
        """Write the counts. Raises the store's errors; the next call writes what was not written."""
        with self._flushing:
            self._take()
            waiting = sorted(self._unwritten)
            for at in range(0, len(waiting), _AT_ONCE):
                some = waiting[at : at + _AT_ONCE]
                self._tables.write([self._put(place) for place in some])
                self._unwritten.difference_update(some)

    def run(self, stopped: threading.Event) -> None:
        """Flush every few seconds until `stopped`, then once more. Failures are logged and tried again."""
        while not stopped.wait(FLUSH_S):
            self.try_flush()
        self.try_flush()

    def try_flush(self) -> None:
        """As `flush`, but log errors of the store."""
        try:
            self.flush()
        except PostroomError as error:
            _log.warning("rates.flush_failed", reason=str(error))

    def _count(self, ref: CampaignRef, provider: str, domain: str, what: str, n: int) -> None:
        key = (provider, ref, domain, what)
        with self._lock:
            self._heard[key] = self._heard.get(key, 0) + n

    def _add(self, whose: tuple[str, CampaignRef], counting: HandoverCounter) -> None:
        for what, counted in counting.take().items():
            for domain, n in counted.items():
                key = (*whose, domain, what)
                self._heard[key] = self._heard.get(key, 0) + n

    def _take(self) -> None:
        with self._lock:
            for counting, whose in self._sending.items():
                self._add(whose, counting)
            heard, self._heard = self._heard, {}
        minute = self._clock.now() // MINUTE_MS
        for (provider, ref, domain, what), n in heard.items():
            place = (minute, storable_provider(provider))
            self._minutes.setdefault(place, Counter())[ref, domain, what] += n
            self._unwritten.add(place)
        for place in [each for each in self._minutes if each[0] < minute - _LINGER]:
            del self._minutes[place]
            self._unwritten.discard(place)

    def _put(self, place: _Place) -> Put:
        campaigns: dict[CampaignRef, Counter[str]] = {}
        domains: dict[str, Counter[str]] = {}
        total: Counter[str] = Counter()
        for (ref, domain, what), n in self._minutes[place].items():
            total[what] += n
            campaigns.setdefault(ref, Counter())[what] += n
            domains.setdefault(domain if 0 < len(domain) <= _MAX_DOMAIN else OTHER_DOMAINS, Counter())[what] += n
        data = {
            "all": _rate(total),
            "campaigns": {f"{ref.tenant}/{ref.campaign}": _rate(each) for ref, each in _busiest(campaigns, _CAMPAIGNS)[0]},
            "domains": _with_rest(domains),
        }
        minute, provider = place
        key = ItemKey(_partition(minute), f"{provider}|{self._writer}")
        return Put(key, data, expires_at=Instant((minute + 1) * MINUTE_MS + self._keep_ms))


class RateWindows:
    """Reads the counts of all processes."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def read(self, minute: int) -> dict[str, MinuteRates]:
        """The counts of a minute (since 1970) by provider."""
        found: dict[str, MinuteRates] = {}
        for item in iterate_items(self._tables, _partition(minute)):
            provider = item.key.sort.rpartition("|")[0]
            found[provider] = _plus(found.get(provider), item.data)
        return found


def storable_provider(provider: str) -> str:
    """A provider's id as it is stored. A URL (the command line's `--provider`) is stored without its password, cut to fit the
    key."""
    return without_password(provider)[0][:_MAX_PROVIDER] if "://" in provider else provider


def _plus(known: MinuteRates | None, data: Mapping[str, Any]) -> MinuteRates:
    total, campaigns, domains = (known.total, dict(known.campaigns), dict(known.domains)) if known else (RateCounts(), {}, {})
    for name, counted in data["campaigns"].items():
        tenant, _, campaign = name.partition("/")
        ref = CampaignRef(tenant, campaign)
        campaigns[ref] = campaigns.get(ref, RateCounts()).plus(RateCounts(*counted))
    for domain, counted in data["domains"].items():
        domains[domain] = domains.get(domain, RateCounts()).plus(RateCounts(*counted))
    return MinuteRates(total.plus(RateCounts(*data["all"])), campaigns, domains)


def _busiest(counts: Mapping[Any, Counter[str]], most: int) -> tuple[list[tuple[Any, Counter[str]]], list[Counter[str]]]:
    """The busiest `most`, and the others."""
    ranked = sorted(counts.items(), key=lambda each: -each[1].total())
    return ranked[:most], [counted for _, counted in ranked[most:]]


def _with_rest(domains: dict[str, Counter[str]]) -> dict[str, list[int]]:
    rest = domains.pop(OTHER_DOMAINS, Counter())
    named, others = _busiest(domains, _DOMAINS)
    rest.update(_sum(others))
    stored = {domain: _rate(counted) for domain, counted in named}
    return stored | ({OTHER_DOMAINS: _rate(rest)} if rest else {})


def _sum(counts: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total


def _rate(counted: Counter[str]) -> list[int]:
    return [counted[name] for name in RateCounts._fields]


def _partition(minute: int) -> str:
    return f"#tallies/{minute}"
