"""A provider as the sender uses it, and the share of its rate that is kept for single messages.

A campaign is granted sends by two of the provider's buckets: one that all who leave through it share, and one for campaigns
alone, a tenth smaller. So single messages find room however many campaigns run. The narrower bucket is asked first:
what it does not grant must not be taken from the others.

Why nothing of a campaign leaves for hours though all is well: what its provider may be used a day is used up.

Seen in the provider's buckets whenever somebody asks, and written down nowhere else: so it is over when they say so, whoever was
killed meanwhile. What a provider is used for at all is in the buckets once mail leaves through it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime

from postroom.clock import Clock
from postroom.ledger.providers import Providers
from postroom.model.campaign import Campaign
from postroom.model.provider import without_password
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
class ProviderRoute:
    """One provider."""

    name: str
    """Unlike any other's of the installation: all who have it share a rate."""
    limit: RateLimit
    open: Callable[[], Mailer]
    """A new mailer, not started."""
    config_version: Hashable = None
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


RouteLookup = Callable[[str, str], ProviderRoute]


"""From a tenant and a provider's name, or its URL; raises `NotFound`, `Unsupported`."""


class DailyQuota:
    """Of all providers. For several threads."""

    def __init__(self, rates: Rates, providers: Providers, clock: Clock) -> None:
        self._rates = rates
        self._providers = providers
        self._clock = clock

    def waiting_for(self, campaign: Campaign) -> str | None:
        """What a campaign that sends waits for, in words; None: for no other day."""
        name, now = self._providers.id_of(campaign.ref.tenant, campaign.provider), self._clock.now()
        for bucket, whose in ((bulk_bucket(name), " for campaigns"), (shared_bucket(name), "")):
            if (used_up := self._rates.used_up(bucket, now)) is not None:
                again = datetime.fromtimestamp(used_up.until / 1000, UTC).isoformat(timespec="minutes").replace("+00:00", "Z")
                named = without_password(campaign.provider)[0]
                return f"today's {used_up.per_day:,} recipients of the provider {named}{whose} are used up; it goes on at {again}"
        return None
