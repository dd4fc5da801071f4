"""A provider as the sender uses it, and the share of its rate that is kept for single messages.

A campaign is granted sends by two of the provider's buckets: one that all who leave through it share, and one for campaigns
alone, a tenth smaller. So single messages find room however many campaigns run. The narrower bucket is asked first:
what it does not grant must not be taken from the others.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from postroom.platform.mail.port import Mailer
from postroom.platform.ports.rates import RateLimit, Rates

BULK_SHARE = 0.9


def shared_bucket(name: str) -> str:
    """Shared by all that leaves through the provider of that name."""
    return f"provider:{name}"


def bulk_bucket(name: str) -> str:
    """Shared by the campaigns."""
    return f"provider-bulk:{name}"


@dataclass(frozen=True, slots=True)
class WayOut:
    """One provider."""

    name: str
    """Unlike any other's of the installation: all who have it share a rate."""
    limit: RateLimit
    open: Callable[[], Mailer]
    """A new mailer, not started."""
    edition: Hashable = None
    """What it is made of: where that has changed, whoever sends through it is to begin anew."""
    signs: bool = False
    """It signs by itself (DKIM), and rewrites what a signature made before would cover."""

    @property
    def bucket(self) -> str:
        """Shared by all that leaves through the provider."""
        return shared_bucket(self.name)

    @property
    def bulk_bucket(self) -> str:
        """Shared by the campaigns."""
        return bulk_bucket(self.name)

    def bulk_buckets(self) -> list[str]:
        """What grants a campaign its sends."""
        return [self.bulk_bucket, self.bucket] if self.limit != RateLimit() else [self.bucket]

    def set_limits(self, rates: Rates) -> None:
        """As they are now."""
        per_second, per_day = self.limit.per_second, self.limit.per_day
        bulk = RateLimit(
            None if per_second is None else per_second * BULK_SHARE, None if per_day is None else int(per_day * BULK_SHARE)
        )
        rates.limit(self.bucket, self.limit)
        rates.limit(self.bulk_bucket, bulk)


WaysOut = Callable[[str, str], WayOut]
"""From a tenant and a provider's name, or its URL; raises `NotFound`, `Unsupported`."""
