"""Tenants' secrets by the numbers on the wire, remembered: a token that comes back is checked without asking a store.

A number's secret never changes, so it is remembered until others make room. A number that nobody has is asked for each time.
"""

from __future__ import annotations

from typing import Final

from postroom.clock import Clock
from postroom.ledger.recent import Recent
from postroom.ledger.tenants import Tenants

_REMEMBERED: Final = 10_000
_REMEMBERED_S: Final = 3_600.0


class TenantSecrets:
    """A `model.wire.SecretOf`, safe to share between threads."""

    def __init__(self, tenants: Tenants, clock: Clock) -> None:
        self._tenants = tenants
        self._recent: Recent[int, bytes] = Recent(clock, most=_REMEMBERED)

    def known(self, number: int) -> bytes | None:
        """The secret, where it is in memory."""
        return self._recent.get(number)

    def __call__(self, number: int) -> bytes:
        """The secret; `NotFound`, `Unavailable`."""
        secret = self._recent.get(number)
        if secret is None:
            secret = self._tenants.by_number(number).secret
            self._recent.put(number, secret, seconds=_REMEMBERED_S)
        return secret
