"""Throttling of sign-in attempts, per user and per address: a growing pause follows too many.

Attempts are counted before they are checked, by conditional writes, so simultaneous guesses are all counted. A crash between
counting and checking leaves one counted attempt, which expires. Users are counted by the address typed, whether or not it exists.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Temporary
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables

_RETRIES = 10
_PARTITION = "#issuer#tries"


class TooManyAttempts(Temporary):
    """`wait_s`: whole seconds until the next try is looked at."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"Too many tries. Wait {wait_s} seconds, then try again.")
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class ThrottleLimit:
    """How many tries in a row cost nothing, and how the pause grows after them."""

    free: int
    first_s: int
    most_s: int
    forget_s: int
    """After so long without a try, it is as if there had been none."""

    def pause_ms(self, count: int) -> int:
        """The pause that the `count`th try brings; each is twice the one before."""
        beyond = count - self.free
        return 0 if beyond <= 0 else min(self.first_s << min(beyond - 1, 20), self.most_s) * 1_000


PASSWORD = ThrottleLimit(free=5, first_s=30, most_s=900, forget_s=86_400)
SECOND = ThrottleLimit(free=5, first_s=60, most_s=3_600, forget_s=86_400)
"""Six figures are few: at most 24 tries a day in the long run."""
ADDRESS = ThrottleLimit(free=20, first_s=30, most_s=3_600, forget_s=3_600)
"""Many users may share one."""


@dataclass(frozen=True, slots=True)
class ThrottleKey:
    """What is counted, and its limit."""

    name: str
    limit: ThrottleLimit


class LoginThrottle:
    """Counters of sign-in attempts."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    def begin(self, who: Sequence[ThrottleKey]) -> None:
        """Count one try of each, or raise `TooManyAttempts` and count none."""
        for _ in range(_RETRIES):
            now, found = self._clock.now(), self._read(who)
            wait_ms = max((item.data["until"] - now for item in found.values()), default=0)
            if wait_ms > 0:
                raise TooManyAttempts(-(-wait_ms // 1_000))
            try:
                self._tables.write([_counted_put(one, found.get(_counter_key(one)), now) for one in who])
            except Conflict:  # another try at the same moment: that one counts too
                continue
            return
        raise TooManyAttempts(1)

    def passed(self, who: ThrottleKey, shared: ThrottleKey | None = None) -> None:
        """The try was right: forget this one's count; of an address that others share, only the try itself."""
        self._tables.write([Delete(_counter_key(who))])
        item = self._tables.get(_counter_key(shared)) if shared is not None else None
        if shared is not None and item is not None:
            self._give_back(shared, item)

    def _give_back(self, shared: ThrottleKey, item: Item) -> None:
        count = max(0, item.data["count"] - 1)
        until = item.data["until"] if count > shared.limit.free else 0
        try:
            self._tables.write([Put(item.key, {"count": count, "until": until}, item.version, item.expires_at)])
        except Conflict:  # another try at the same moment: this one stays counted, and is forgotten with the rest
            return

    def _read(self, who: Sequence[ThrottleKey]) -> Mapping[ItemKey, Item]:
        return self._tables.get_many([_counter_key(one) for one in who])


def address_name(address: str) -> str:
    """What an IP address is counted as: an IPv6 address counts as its /64."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return f"address/{address[:100] or 'unknown'}"
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return f"address/{ipaddress.ip_network((ip, 64), strict=False)}"
    return f"address/{getattr(ip, 'ipv4_mapped', None) or ip}"


def _counted_put(one: ThrottleKey, item: Item | None, now: Instant) -> Put:
    count = 1 + (item.data["count"] if item is not None else 0)
    pause = one.limit.pause_ms(count)
    data = {"count": count, "until": now + pause if pause else 0}
    expires = Instant(now + max(pause, one.limit.forget_s * 1_000))
    return Put(_counter_key(one), data, Expect.ABSENT if item is None else item.version, expires)


def _counter_key(one: ThrottleKey) -> ItemKey:
    return ItemKey(_PARTITION, one.name)
