"""Why nothing of a campaign leaves for hours though all is well: what its provider may be used a day is used up.

Seen in the provider's buckets whenever somebody asks, and written down nowhere else: so it is over when they say so, whoever was
killed meanwhile. What a provider is used for at all is in the buckets once mail leaves through it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from postroom.clock import Clock
from postroom.ledger.providers import Providers
from postroom.model.campaign import Campaign
from postroom.model.provider import without_password
from postroom.pipeline.sender.way_out import bulk_bucket, shared_bucket
from postroom.platform.ports.rates import Rates


class Allowance:
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
