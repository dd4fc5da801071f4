"""Makes ready to send one campaign in one worker, and sends it: template compiled, buckets set, journal begun, mailer open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from postroom.clock import Clock, Instant
from postroom.delivery.composing import Composing
from postroom.delivery.outcome import OutcomeRules
from postroom.delivery.retry import Backoff
from postroom.ledger.batches import Batches
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.finish import Finish
from postroom.ledger.suppression import Suppression
from postroom.model.campaign import Campaign, CampaignState, Home, Policies
from postroom.pipeline.sender.campaign import CampaignRun
from postroom.pipeline.sender.means import Means
from postroom.pipeline.sender.off_loop import OffLoop
from postroom.pipeline.sender.pace import Pace
from postroom.pipeline.sender.throttle import Throttle
from postroom.platform.mail.port import Mailer
from postroom.platform.ports.journal import Journals
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.rates import Limit, Rates

Mailers = Callable[[str], Mailer]
"""A new mailer for a campaign's provider."""


@dataclass(frozen=True, slots=True)
class SenderOptions:
    """The installation's part of how mail is sent."""

    workers: int
    lease_ms: int
    drain_s: float


@dataclass(frozen=True, slots=True)
class Stores:
    """What the sender reads and writes."""

    campaigns: Campaigns
    composing: Composing
    suppression: Suppression
    finish: Finish
    messages: Messages
    journals: Journals
    rates: Rates


class Sender:
    """One worker's sender."""

    def __init__(self, stores: Stores, mailers: Mailers, options: SenderOptions, *, clock: Clock) -> None:
        self._stores = stores
        self._mailers = mailers
        self._options = options
        self._clock = clock

    async def send(self, home: Home, stopping: asyncio.Event, on_trouble: Callable[[str], None]) -> None:
        """Work on a campaign that is sending until it is not, or `stopping` is set. Errors of the stores are raised.

        `on_trouble` is told why the provider cannot be reached, and with empty text when it can again.
        """
        off_loop = OffLoop()
        try:
            campaign = await off_loop(self._stores.campaigns.get, home)
            if campaign.state is CampaignState.SENDING:
                await self._send(campaign, off_loop, stopping, on_trouble)
        finally:
            off_loop.close()

    async def _send(
        self, campaign: Campaign, off_loop: OffLoop, stopping: asyncio.Event, on_trouble: Callable[[str], None]
    ) -> None:
        composer = await off_loop(self._stores.composing.load, campaign)
        await off_loop(self._set_limits, campaign)
        journal = await off_loop(self._stores.journals.begin, campaign.home.campaign)
        mailer = self._mailers(campaign.provider)
        await mailer.start()
        ending = asyncio.Event()
        relay = asyncio.create_task(_relay(stopping, ending))
        throttle = Throttle(self._stores.rates, provider_bucket(campaign), off_loop, self._clock, workers=self._options.workers)
        means = Means(
            home=campaign.home,
            batches=Batches(self._stores.messages, self._stores.journals, self._clock, lease_ms=self._options.lease_ms),
            messages=self._stores.messages,
            suppression=self._stores.suppression,
            composer=composer,
            rules=rules(campaign.policies, campaign.sending_since or self._clock.now()),
            mailer=mailer,
            pace=Pace(self._stores.rates, buckets(campaign), off_loop, self._clock, mailer),
            journal=journal,
            off_loop=off_loop,
            clock=self._clock,
            stopping=ending,
            on_result=throttle.on_result,
            on_trouble=on_trouble,
        )
        try:
            run = CampaignRun(means, self._stores.campaigns, self._stores.finish, drain_s=self._options.drain_s)
            await run.run()
        finally:
            relay.cancel()
            await throttle.settle()
            await off_loop(journal.close)
            await off_loop(self._tidy, campaign.home)

    def _tidy(self, home: Home) -> None:
        """Once a campaign is completed no group is left open, and the journals of lost workers have told all they know."""
        if self._stores.campaigns.get(home).state is CampaignState.COMPLETED:
            for owner in self._stores.journals.dead(home.campaign):
                self._stores.journals.forget(home.campaign, owner)

    def _set_limits(self, campaign: Campaign) -> None:
        rate = campaign.policies.rate
        if rate is not None:
            self._stores.rates.limit(campaign_bucket(campaign), Limit(per_second=rate))


def rules(policies: Policies, since: Instant) -> OutcomeRules:
    """A campaign's policies as rules for one attempt."""
    return OutcomeRules(
        policies=policies,
        give_up_at=Instant(since + policies.give_up_after_ms),
        backoff=Backoff(first_ms=policies.retry_after_ms),
    )


def provider_bucket(campaign: Campaign) -> str:
    """Shared by all campaigns that leave through the provider."""
    return f"provider:{campaign.provider}"


def campaign_bucket(campaign: Campaign) -> str:
    """The campaign's own."""
    return f"campaign:{campaign.home.tenant}/{campaign.home.campaign}"


def buckets(campaign: Campaign) -> list[str]:
    """All that grant a campaign's sends."""
    return [provider_bucket(campaign)] + ([campaign_bucket(campaign)] if campaign.policies.rate is not None else [])


async def _relay(stopping: asyncio.Event, ending: asyncio.Event) -> None:
    """The worker's stop is every campaign's end; a campaign's end is its own."""
    await stopping.wait()
    ending.set()
