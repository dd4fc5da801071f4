"""Makes ready to send one campaign or stream in one worker, and sends it: buckets set, journal begun, mailer open.

A campaign and the single messages never share connections: they have a mailer each, so that nobody waits behind a campaign.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from postroom.clock import Clock, Instant
from postroom.delivery.compose import ContentCompiler
from postroom.delivery.outcome import Backoff, OutcomeRules
from postroom.delivery.transactional import ContentStore, TransactionalCompiler, person_key
from postroom.ledger.auto_suppression import AutoSuppression
from postroom.ledger.batches import BatchLeases
from postroom.ledger.campaigns import CampaignCompletion, Campaigns
from postroom.ledger.rate_windows import FLUSH_S, HandoverCounter, RateRecorder
from postroom.ledger.streams import DailyStreams
from postroom.ledger.suppression import SuppressionList
from postroom.ledger.tenants import Tenants
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus, Policies
from postroom.model.ids import Key
from postroom.model.message import Recipient
from postroom.model.stream import DAY_MS, stream_day
from postroom.pipeline.sender.context import Composes, SendContext, StopSignal, same_key
from postroom.pipeline.sender.provider_route import ProviderRoute, RouteLookup
from postroom.pipeline.sender.rate_gate import MOMENT_S, RateGate, ThrottleFeedback
from postroom.pipeline.sender.run import AssignedBatches, campaign_run
from postroom.pipeline.sender.stream import LINGER_S, StreamComposer, StreamPolicy, stream_run
from postroom.pipeline.sender.thread_bridge import ThreadBridge
from postroom.platform.ports.journal import Journals
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.rates import RateLimit, Rates

SINGLE_GIVE_UP_MS = DAY_MS
"""A single message that is still deferred this long after its day has ended is failed."""


@dataclass(frozen=True, slots=True)
class SenderOptions:
    """The installation's part of how mail is sent."""

    workers: int
    lease_ms: int
    drain_s: float
    linger_s: float = LINGER_S
    """How long a stream that owes nothing is stayed with."""
    moment_s: float = MOMENT_S
    """How long a group takes to leave (pace.py): each group and each grant is a write."""


@dataclass(frozen=True, slots=True)
class SenderStores:
    """What the sender reads and writes."""

    campaigns: Campaigns
    composing: ContentCompiler
    suppression: SuppressionList
    finish: CampaignCompletion
    messages: Messages
    journals: Journals
    rates: Rates
    tenants: Tenants
    streams: DailyStreams
    contents: ContentStore
    singles: TransactionalCompiler
    refusals: AutoSuppression
    tally: RateRecorder


@dataclass(frozen=True, slots=True)
class SendJob:
    """What is to be sent."""

    ref: CampaignRef
    composer: Composes
    rules: OutcomeRules
    way: ProviderRoute
    buckets: Sequence[str]
    topic: Callable[[Recipient], str | None]
    person: Callable[[Recipient], Key] = same_key
    workers: int | None = None
    """How many send it at the same time; None: those of the installation."""


class Sender:
    """One worker's sender."""

    def __init__(
        self,
        stores: SenderStores,
        ways: RouteLookup,
        options: SenderOptions,
        *,
        single_provider: Callable[[str], str],
        clock: Clock,
    ) -> None:
        """`single_provider`: the name of the provider of a tenant's single messages."""
        self._stores = stores
        self._ways = ways
        self._options = options
        self._single_provider = single_provider
        self._clock = clock

    async def send(
        self, ref: CampaignRef, leave: StopSignal, on_trouble: Callable[[str], None], *, given: AssignedBatches | None = None
    ) -> None:
        """Work on a campaign that is sending until it is not, or told to `leave`; `given`: on those batches alone, until each
        was begun. Errors of the stores are raised.

        `on_trouble` is told why the provider cannot be reached, and with empty text when it can again.
        """
        stores, threads = self._stores, ThreadBridge()
        try:
            campaign = await threads(stores.campaigns.get, ref)
            if campaign.status is not CampaignStatus.SENDING:
                return
            job = await threads(self._campaign_job, campaign)
            job = job if given is None else replace(job, workers=given.beside)
            async with (
                self._counting(job, threads) as handovers,
                self._means(job, threads, leave, on_trouble=on_trouble, handovers=handovers) as means,
            ):
                unchanged = partial(self._unchanged, job, lambda: campaign.provider)
                drain_s = self._options.drain_s
                run = campaign_run(means, stores.campaigns, stores.finish, drain_s=drain_s, unchanged=unchanged, given=given)
                await run.run()
            await threads(self._tidy_campaign, ref)
        finally:
            threads.close()

    async def send_stream(self, ref: CampaignRef, leave: StopSignal, on_trouble: Callable[[str], None]) -> None:
        """Send a stream's single messages until it has owed none for a while, or told to `leave`; errors and `on_trouble` as
        for a campaign. Then `Streams.end` is to be called, unless it was stopped."""
        stores, threads = self._stores, ThreadBridge()
        try:
            provided = await threads(self._single_provider, ref.tenant)
            way = await threads(self._ways, ref.tenant, provided)
            composer = StreamComposer(ref, stores.contents, stores.singles, signed=not way.signs)
            job = await threads(self._stream_job, ref, composer, provided)
            unchanged = partial(self._unchanged, job, lambda: self._single_provider(ref.tenant))
            cause = StreamPolicy(ref, stores.streams, unchanged, linger_s=self._options.linger_s)
            async with (
                self._counting(job, threads) as handovers,
                self._means(job, threads, leave, on_trouble=on_trouble, handovers=handovers) as means,
            ):
                await stream_run(means, cause, composer, drain_s=self._options.drain_s).run()
            await threads(self._tidy_stream, ref)
        finally:
            threads.close()

    def rate(self, campaign: Campaign) -> float | None:
        """How many recipients a second it may be sent to, all in all; None: as many as the provider takes."""
        rates, way = self._stores.rates, self._ways(campaign.ref.tenant, campaign.provider)
        way.set_limits(rates)
        now = self._clock.now()
        known = [campaign.policies.rate, *(rates.current(bucket, now) for bucket in way.bulk_buckets())]
        return min((each for each in known if each is not None), default=None)

    def used_up(self, campaign: Campaign) -> Instant | None:
        """Until when nothing more of it may leave, since what its provider may be used today is used up; None: it may."""
        way, now = self._ways(campaign.ref.tenant, campaign.provider), self._clock.now()
        found = [self._stores.rates.used_up(bucket, now) for bucket in way.bulk_buckets()]
        return max((each.until for each in found if each is not None), default=None)

    def _campaign_job(self, campaign: Campaign) -> SendJob:
        """With its template compiled and its buckets set."""
        stores, ref = self._stores, campaign.ref
        way = self._ways(ref.tenant, campaign.provider)
        way.set_limits(stores.rates)
        buckets, rate = way.bulk_buckets(), campaign.policies.rate
        if rate is not None:
            stores.rates.limit(campaign_bucket(ref), RateLimit(per_second=rate))
            buckets.insert(0, campaign_bucket(ref))
        since = campaign.sending_since or self._clock.now()
        topic = campaign.content.topic
        outcome = rules(campaign.policies, since)
        composer = stores.composing.load(campaign, signed=not way.signs)
        return SendJob(ref, composer, outcome, way, buckets, lambda _recipient: topic)

    def _stream_job(self, ref: CampaignRef, composer: StreamComposer, provider: str) -> SendJob:
        way = self._ways(ref.tenant, provider)
        way.set_limits(self._stores.rates)
        secret = self._stores.tenants.get(ref.tenant).secret
        ends = Instant((stream_day(ref.campaign) + 1) * DAY_MS)
        outcome = rules(Policies(give_up_after_ms=SINGLE_GIVE_UP_MS), ends)
        person = partial(_addressed, secret)
        return SendJob(ref, composer, outcome, way, [way.bucket], composer.topic, person)

    def _unchanged(self, job: SendJob, provider: Callable[[], str]) -> bool:
        """Whether mail still leaves as it did: through the same server, with the same password and limits. `NotFound`: the
        provider is gone."""
        way = self._ways(job.ref.tenant, provider())
        return (way.name, way.config_version) == (job.way.name, job.way.config_version)

    @asynccontextmanager
    async def _means(
        self,
        job: SendJob,
        threads: ThreadBridge,
        leave: StopSignal,
        *,
        on_trouble: Callable[[str], None],
        handovers: HandoverCounter,
    ) -> AsyncIterator[SendContext]:
        stores, clock = self._stores, self._clock
        journal = await threads(stores.journals.begin, job.ref.campaign)
        mailer = job.way.open()
        await mailer.start()
        ending = asyncio.Event()
        relays = [asyncio.create_task(_relay(told, ending)) for told in (leave.stopping, leave.preempt)]
        throttle = ThrottleFeedback(stores.rates, job.way.bucket, threads, clock, workers=job.workers or self._options.workers)
        means = SendContext(
            ref=job.ref,
            batches=BatchLeases(
                stores.messages, stores.journals, clock, lease_ms=self._options.lease_ms, refusals=stores.refusals
            ),
            messages=stores.messages,
            suppression=stores.suppression,
            composer=job.composer,
            rules=job.rules,
            mailer=mailer,
            rate_gate=RateGate(
                stores.rates,
                job.buckets,
                threads,
                clock,
                mailer,
                counted=job.way.limit.per_day is not None,
                moment_s=self._options.moment_s,
            ),
            journal=journal,
            threads=threads,
            clock=clock,
            stopping=ending,
            on_result=throttle.on_result,
            on_trouble=on_trouble,
            person=job.person,
            topic=job.topic,
            counted=handovers.settled,
            leave=leave,
        )
        try:
            yield means
        finally:
            for relay in relays:
                relay.cancel()
            await throttle.settle()
            await threads(journal.close)

    @asynccontextmanager
    async def _counting(self, job: SendJob, threads: ThreadBridge) -> AsyncIterator[HandoverCounter]:
        """What this run does to the rates, written down while it goes on and at its end."""
        tally = self._stores.tally
        with tally.handovers(job.ref, job.way.name) as handovers:
            writing = asyncio.create_task(_write_down(tally, threads))
            try:
                yield handovers
            finally:
                writing.cancel()
                await threads(tally.try_flush)

    def _tidy_campaign(self, ref: CampaignRef) -> None:
        """Once a campaign is completed no group is left open, and the journals of lost workers have told all they know."""
        if self._stores.campaigns.get(ref).status is CampaignStatus.COMPLETED:
            self._forget_dead(ref)

    def _tidy_stream(self, ref: CampaignRef) -> None:
        """The same where a stream owes nothing: a group left open is owed."""
        dead = self._stores.journals.dead(ref.campaign)  # looked for first: who dies later may leave a group
        if not self._stores.streams.owes(ref):
            for owner in dead:
                self._stores.journals.forget(ref.campaign, owner)

    def _forget_dead(self, ref: CampaignRef) -> None:
        for owner in self._stores.journals.dead(ref.campaign):
            self._stores.journals.forget(ref.campaign, owner)


def rules(policies: Policies, since: Instant) -> OutcomeRules:
    """Policies as rules for one attempt."""
    return OutcomeRules(
        policies=policies,
        give_up_at=Instant(since + policies.give_up_after_ms),
        backoff=Backoff(first_ms=policies.retry_after_ms),
    )


def _addressed(secret: bytes, recipient: Recipient) -> Key:
    """A single message's person."""
    return person_key(secret, recipient.address)


def campaign_bucket(ref: CampaignRef) -> str:
    """The campaign's own."""
    return f"campaign:{ref.tenant}/{ref.campaign}"


async def _write_down(tally: RateRecorder, threads: ThreadBridge) -> None:
    while True:
        await asyncio.sleep(FLUSH_S)
        await threads(tally.try_flush)


async def _relay(told: asyncio.Event, ending: asyncio.Event) -> None:
    """The worker's stop is every campaign's end; a campaign's end is its own."""
    await told.wait()
    ending.set()
