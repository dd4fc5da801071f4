"""A provider as the sender uses it: its mailer, its rate limits, and its daily quota.

A campaign needs grants from two of the provider's buckets: one that everything sent through the provider shares, and one for
campaigns only, a tenth smaller. So transactional messages find room however many campaigns run. The narrower bucket is asked
first: what it does not grant must not be taken from the shared one.
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
    """The name of the bucket that everything sent through the provider shares."""
    return f"provider:{name}"


def bulk_bucket(name: str) -> str:
    """The name of the bucket that only campaigns share."""
    return f"provider-bulk:{name}"


@dataclass(frozen=True, slots=True)
class ProviderRoute:
    """How to send through one provider."""

    name: str
    """Unique in the installation: everything sent under this name shares a rate."""
    limit: RateLimit
    open: Callable[[], Mailer]
    """A new mailer, not started."""
    config_version: Hashable = None
    """Server, credentials and limits. If it changes, runs that use the route begin anew."""
    signs: bool = False
    """The provider signs with DKIM itself, and rewrites headers that an earlier signature would cover."""

    @property
    def bucket(self) -> str:
        """The bucket that everything sent through the provider shares."""
        return shared_bucket(self.name)

    @property
    def bulk_bucket(self) -> str:
        """The bucket that campaigns share."""
        return bulk_bucket(self.name)

    def bulk_buckets(self) -> list[str]:
        """The buckets that must grant a campaign's messages, the narrower one first."""
        return [self.bulk_bucket, self.bucket] if self.limit != RateLimit() else [self.bucket]

    def set_limits(self, rates: Rates) -> None:
        """Write the provider's present limits to its buckets."""
        per_second, per_day = self.limit.per_second, self.limit.per_day
        bulk = RateLimit(
            None if per_second is None else per_second * BULK_SHARE, None if per_day is None else int(per_day * BULK_SHARE)
        )
        rates.limit(self.bucket, self.limit)
        rates.limit(self.bulk_bucket, bulk)


RouteLookup = Callable[[str, str], ProviderRoute]
"""Tenant, provider's name or URL → its route. Raises `NotFound`, `Unsupported`."""


class DailyQuota:
    """Says why a campaign that is `sending` waits for another day. Safe for several threads.

    It reads the providers' buckets each time and stores nothing, so the answer ends when the buckets say so, whatever was killed.
    """

    def __init__(self, rates: Rates, providers: Providers, clock: Clock) -> None:
        self._rates = rates
        self._providers = providers
        self._clock = clock

    def waiting_for(self, campaign: Campaign) -> str | None:
        """The reason in words. None: the campaign does not wait for another day."""
        name, now = self._providers.id_of(campaign.ref.tenant, campaign.spec.provider), self._clock.now()
        for bucket, whose in ((bulk_bucket(name), " for campaigns"), (shared_bucket(name), "")):
            if (used_up := self._rates.used_up(bucket, now)) is not None:
                again = datetime.fromtimestamp(used_up.until / 1000, UTC).isoformat(timespec="minutes").replace("+00:00", "Z")
                named = without_password(campaign.spec.provider)[0]
                return f"today's {used_up.per_day:,} recipients of the provider {named}{whose} are used up; it goes on at {again}"
        return None
