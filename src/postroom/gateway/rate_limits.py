"""Rate limits: a bucket for each tenant, key or user, address without valid credentials, and link in mail that changes something.

Buckets use the generic cell rate algorithm (GCRA): one number each, the time at which the bucket is full again. They live in
this process's memory: bounded (the least recently used is dropped, which refills it), lost on restart, and counted by each
process separately. The response fields follow draft-ietf-httpapi-ratelimit-headers-10: `RateLimit-Policy` names every policy (q
requests in w seconds), `RateLimit` the policy nearest to its limit (r requests left, full again in t seconds).

Only the event loop uses them.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Self

from postroom.clock import Clock
from postroom.gateway.errors import TooManyRequests
from postroom.gateway.middleware import client_network
from postroom.model.access import Principal

Fields = tuple[tuple[bytes, bytes], ...]
_KEPT = 50_000
"""Buckets of one policy; about 15 MB when all are full."""
_A_LINK = 0.2
"""Changes per second by one link: enough for a person and a mail provider. Each is a write to the disk."""
_LEAST_BURST = 20
"""Calls that may come at once at any rate: a page of the console makes about ten."""


@dataclass(frozen=True, slots=True)
class ApiRates:
    """Calls per second."""

    tenant: float = 2_000.0
    principal: float = 1_000.0
    address: float = 200.0

    @classmethod
    def from_setting(cls, api_rate: float) -> Self:
        """The rates for the setting `api_rate`."""
        return cls(api_rate, api_rate * 0.5, api_rate * 0.1)


class RatePolicy:
    """One named limit and its buckets."""

    def __init__(self, name: str, rate: float, *, kept: int = _KEPT) -> None:
        self.name = name
        self.burst = max(_LEAST_BURST, math.ceil(rate))
        self.text = f'"{name}";q={self.burst};w={math.ceil(self.burst / rate)}'
        self._interval = 1 / rate
        self._window = self.burst / rate
        self._kept = kept
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def wait(self, who: str, now: float) -> float:
        """Seconds until one more call fits; 0: now."""
        return max(0.0, self._full_at.get(who, now) - now - (self._window - self._interval) - 1e-9)

    def spend(self, who: str, now: float) -> None:
        """Count one call."""
        self._full_at[who] = max(self._full_at.get(who, now), now) + self._interval
        self._full_at.move_to_end(who)
        if len(self._full_at) > self._kept:
            self._full_at.popitem(last=False)

    def give_back(self, who: str) -> None:
        """Undo one call."""
        if who in self._full_at:
            self._full_at[who] -= self._interval

    def left(self, who: str, now: float) -> int:
        """How many calls fit now."""
        return max(0, int((self._window - self._missing(who, now)) / self._interval + 1e-6))

    def shown(self, who: str, now: float) -> str:
        """The item in the `RateLimit` field."""
        return f'"{self.name}";r={self.left(who, now)};t={math.ceil(self._missing(who, now))}'

    def _missing(self, who: str, now: float) -> float:
        return max(0.0, self._full_at.get(who, now) - now)


class RateLimits:
    """All policies of one process."""

    def __init__(self, rates: ApiRates, clock: Clock) -> None:
        self._clock = clock
        self._tenant = RatePolicy("tenant", rates.tenant)
        self._principal = RatePolicy("caller", rates.principal)
        self._address = RatePolicy("address", rates.address)
        self._link = RatePolicy("link", _A_LINK)
        self._known = f"{self._principal.text}, {self._tenant.text}".encode()
        self._unknown = self._address.text.encode()

    def charge(self, principal: Principal) -> Fields:
        """Count one authenticated call; returns the response's fields. Raises `TooManyRequests`."""
        caller, now = f"{principal.kind}:{principal.id}", self._clock.monotonic()
        wait = max(self._principal.wait(caller, now), self._tenant.wait(principal.tenant, now))
        if wait == 0:
            self._principal.spend(caller, now)
            self._tenant.spend(principal.tenant, now)
        fields = self._fields(principal.tenant, caller, now)
        if wait > 0:
            raise _too_many("calls of this key or person, or of its tenant", wait, fields)
        return fields

    def charge_address(self, address: str) -> Fields:
        """Count one call without valid credentials; returns the response's fields. Raises `TooManyRequests`."""
        who, now = client_network(address), self._clock.monotonic()
        wait = self._address.wait(who, now)
        if wait == 0:
            self._address.spend(who, now)
        fields: Fields = (
            (b"ratelimit-policy", self._unknown),
            (b"ratelimit", self._address.shown(who, now).encode()),
        )
        if wait > 0:
            raise _too_many("calls without valid credentials from this address", wait, fields)
        return fields

    def charge_link(self, token: str) -> None:
        """Count one change by a link in mail. Raises `TooManyRequests`."""
        who, now = hashlib.blake2b(token.encode("utf-8", "replace"), digest_size=12).hexdigest(), self._clock.monotonic()
        if (wait := self._link.wait(who, now)) > 0:
            raise _too_many("changes by this link", wait, ())
        self._link.spend(who, now)

    def give_back(self, address: str) -> None:
        """Undo `charge_address` once the caller is authenticated."""
        self._address.give_back(client_network(address))

    def _fields(self, tenant: str, caller: str, now: float) -> Fields:
        nearest = (
            self._principal.shown(caller, now)
            if self._principal.left(caller, now) <= self._tenant.left(tenant, now)
            else self._tenant.shown(tenant, now)
        )
        return ((b"ratelimit-policy", self._known), (b"ratelimit", nearest.encode()))


def _too_many(what: str, wait: float, fields: Fields) -> TooManyRequests:
    return TooManyRequests(f"too many {what}", max(1, math.ceil(wait)), fields)
