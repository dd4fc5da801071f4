"""Prepares one campaign or one daily stream in one worker, and sends it: rate limits set, journal begun, mailer open.

A campaign and the transactional messages never share connections: each has a mailer, so no message waits behind a campaign.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
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
from postroom.pipeline.sender.context import RunEvents, SendContext, SendJob, StopSignal
from postroom.pipeline.sender.provider_route import RouteLookup
from postroom.pipeline.sender.rate_gate import MOMENT_S, RateGate, ThrottleFeedback
from postroom.pipeline.sender.run import AssignedBatches, campaign_run
from postroom.pipeline.sender.stream import LINGER_S, StreamComposer, StreamPolicy, stream_run
from postroom.pipeline.sender.thread_bridge import ThreadBridge
from postroom.platform.ports.journal import Journals
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.rates import RateLimit, Rates

SINGLE_GIVE_UP_MS = DAY_MS
"""A transactional message that is still deferred this long after its day has ended is failed."""


@dataclass(frozen=True, slots=True)
class SenderOptions:
    """How this installation sends."""

    workers: int
    """Workers that send the same campaign at the same time."""
    lease_ms: int
    drain_s: float
    """Seconds that messages in flight get to be answered at a shutdown."""
    linger_s: float = LINGER_S
    """Seconds that a worker keeps a stream that owes nothing."""
    moment_s: float = MOMENT_S
    """Seconds a group takes to leave (rate_gate.py): each group and each grant is a write."""


@dataclass(frozen=True, slots=True)
class SenderStores:
    """What the sender reads and writes."""

    campaigns: Campaigns
    compiler: ContentCompiler
    suppression: SuppressionList
    completion: CampaignCompletion
    messages: Messages
    journals: Journals
    rates: Rates
    tenants: Tenants
    streams: DailyStreams
    contents: ContentStore
    transactional: TransactionalCompiler
    auto_suppression: AutoSuppression
    rate_recorder: RateRecorder


class Sender:
    """Sends campaigns and streams in one worker."""

    def __init__(
        self,
        stores: SenderStores,
        routes: RouteLookup,
        options: SenderOptions,
        *,
        single_provider: Callable[[str], str],
        clock: Clock,
    ) -> None:
        """`single_provider`: tenant → the name of the provider for its transactional messages."""
        self._stores = stores
        self._routes = routes
        self._options = options
        self._single_provider = single_provider
        self._clock = clock

    async def send(
        self,
        ref: CampaignRef,
        stop: StopSignal,
        on_trouble: Callable[[str], None],
        *,
        assigned: AssignedBatches | None = None,
    ) -> None:
        """Send a campaign until its status is not `sending` any more, or `stop` is set.

        `assigned`: only these batches, until each was begun. `on_trouble`: called with the reason if the provider cannot be
        reached, and with an empty text when it can again. Raises the stores' errors.
        """
        stores, threads = self._stores, ThreadBridge()
        try:
            campaign = await threads(stores.campaigns.get, ref)
            if campaign.status is not CampaignStatus.SENDING:
                return
            job = await threads(self._campaign_job, campaign)
            job = job if assigned is None else replace(job, workers=assigned.workers)
            async with self._context(job, threads, stop, on_trouble=on_trouble) as context:
                unchanged = partial(self._unchanged, job, lambda: campaign.spec.provider)
                drain_s = self._options.drain_s
                run = campaign_run(
                    context, stores.campaigns, stores.completion, drain_s=drain_s, unchanged=unchanged, assigned=assigned
                )
                await run.run()
            await threads(self._tidy_campaign, ref)
        finally:
            threads.close()

    async def send_stream(self, ref: CampaignRef, stop: StopSignal, on_trouble: Callable[[str], None]) -> None:
        """Send a stream's transactional messages until it has owed none for a while, or `stop` is set.

        `on_trouble` and errors as for `send`. Afterwards call `DailyStreams.end`, unless the run was stopped.
        """
        stores, threads = self._stores, ThreadBridge()
        try:
            provider = await threads(self._single_provider, ref.tenant)
            route = await threads(self._routes, ref.tenant, provider)
            composer = StreamComposer(ref, stores.contents, stores.transactional, signed=not route.signs)
            job = await threads(self._stream_job, ref, composer, provider)
            unchanged = partial(self._unchanged, job, lambda: self._single_provider(ref.tenant))
            policy = StreamPolicy(ref, stores.streams, unchanged, linger_s=self._options.linger_s)
            async with self._context(job, threads, stop, on_trouble=on_trouble) as context:
                await stream_run(context, policy, composer, drain_s=self._options.drain_s).run()
            await threads(self._tidy_stream, ref)
        finally:
            threads.close()

    def rate(self, campaign: Campaign) -> float | None:
        """Recipients a second that the campaign may be sent to by all workers together. None: as many as the provider takes."""
        rates, route = self._stores.rates, self._routes(campaign.ref.tenant, campaign.spec.provider)
        route.set_limits(rates)
        now = self._clock.now()
        known = [campaign.policies.rate, *(rates.current(bucket, now) for bucket in route.bulk_buckets())]
        return min((each for each in known if each is not None), default=None)

    def used_up(self, campaign: Campaign) -> Instant | None:
        """Until when the provider's daily quota is used up for the campaign. None: it is not."""
        route, now = self._routes(campaign.ref.tenant, campaign.spec.provider), self._clock.now()
        found = [self._stores.rates.used_up(bucket, now) for bucket in route.bulk_buckets()]
        return max((each.until for each in found if each is not None), default=None)

    def _campaign_job(self, campaign: Campaign) -> SendJob:
        """Compile the template and set the rate limits."""
        stores, ref = self._stores, campaign.ref
        route = self._routes(ref.tenant, campaign.spec.provider)
        route.set_limits(stores.rates)
        buckets, rate = route.bulk_buckets(), campaign.policies.rate
        if rate is not None:
            stores.rates.limit(campaign_bucket(ref), RateLimit(per_second=rate))
            buckets.insert(0, campaign_bucket(ref))
        since = campaign.sending_since or self._clock.now()
        topic = campaign.spec.content.topic
        composer = stores.compiler.load(campaign, signed=not route.signs)
        outcome = rules(campaign.policies, since)
        return SendJob(ref, composer.compose, outcome, route, buckets, topic=lambda _recipient: topic)

    def _stream_job(self, ref: CampaignRef, composer: StreamComposer, provider: str) -> SendJob:
        route = self._routes(ref.tenant, provider)
        route.set_limits(self._stores.rates)
        secret = self._stores.tenants.get(ref.tenant).secret
        ends = Instant((stream_day(ref.campaign) + 1) * DAY_MS)
        outcome = rules(Policies(give_up_after_ms=SINGLE_GIVE_UP_MS), ends)
        person = partial(_person, secret)
        return SendJob(ref, composer.compose, outcome, route, [route.bucket], topic=composer.topic, person=person)

    def _unchanged(self, job: SendJob, provider: Callable[[], str]) -> bool:
        """Whether mail still leaves through the same server, with the same password and limits. Raises `NotFound` if the
        provider is gone."""
        route = self._routes(job.ref.tenant, provider())
        return (route.name, route.config_version) == (job.route.name, job.route.config_version)

    @asynccontextmanager
    async def _context(
        self, job: SendJob, threads: ThreadBridge, stop: StopSignal, *, on_trouble: Callable[[str], None]
    ) -> AsyncIterator[SendContext]:
        stores, clock, options = self._stores, self._clock, self._options
        async with self._counting(job, threads) as handovers:
            journal = await threads(stores.journals.begin, job.ref.campaign)
            mailer = job.route.open()
            await mailer.start()
            stopping = asyncio.Event()
            relays = [asyncio.create_task(_relay(event, stopping)) for event in (stop.shutdown, stop.preempt)]
            throttle = ThrottleFeedback(stores.rates, job.route.bucket, threads, clock, workers=job.workers or options.workers)
            context = SendContext(
                job=job,
                batches=BatchLeases(
                    stores.messages, stores.journals, clock, lease_ms=options.lease_ms, auto_suppression=stores.auto_suppression
                ),
                messages=stores.messages,
                suppression=stores.suppression,
                journal=journal,
                mailer=mailer,
                rate_gate=RateGate(
                    stores.rates,
                    job.buckets,
                    threads,
                    clock,
                    mailer,
                    counted=job.route.limit.per_day is not None,
                    moment_s=options.moment_s,
                ),
                threads=threads,
                clock=clock,
                stopping=stopping,
                stop=stop,
                events=RunEvents(throttle.on_result, handovers.settled, on_trouble),
            )
            try:
                yield context
            finally:
                for relay in relays:
                    relay.cancel()
                await throttle.settle()
                await threads(journal.close)

    @asynccontextmanager
    async def _counting(self, job: SendJob, threads: ThreadBridge) -> AsyncIterator[HandoverCounter]:
        """Count this run's hand-overs for the bounce rates; written every few seconds and at the end."""
        recorder = self._stores.rate_recorder
        with recorder.handovers(job.ref, job.route.name) as handovers:
            writing = asyncio.create_task(_flush_regularly(recorder, threads))
            try:
                yield handovers
            finally:
                writing.cancel()
                await threads(recorder.try_flush)

    def _tidy_campaign(self, ref: CampaignRef) -> None:
        """Once a campaign is completed no group is open, so the journals of lost workers are needed no more."""
        if self._stores.campaigns.get(ref).status is CampaignStatus.COMPLETED:
            for owner in self._stores.journals.dead(ref.campaign):
                self._stores.journals.forget(ref.campaign, owner)

    def _tidy_stream(self, ref: CampaignRef) -> None:
        """The same for a stream that owes nothing: messages of an open group are owed."""
        dead = self._stores.journals.dead(ref.campaign)  # read first: a worker that dies later may leave a group
        if not self._stores.streams.owes(ref):
            for owner in dead:
                self._stores.journals.forget(ref.campaign, owner)


def rules(policies: Policies, since: Instant) -> OutcomeRules:
    """The outcome rules of a campaign that has been sending since then."""
    return OutcomeRules(
        policies=policies,
        give_up_at=Instant(since + policies.give_up_after_ms),
        backoff=Backoff(first_ms=policies.retry_after_ms),
    )


def campaign_bucket(ref: CampaignRef) -> str:
    """The name of the campaign's rate bucket."""
    return f"campaign:{ref.tenant}/{ref.campaign}"


def _person(secret: bytes, recipient: Recipient) -> Key:
    return person_key(secret, recipient.address)


async def _flush_regularly(recorder: RateRecorder, threads: ThreadBridge) -> None:
    while True:
        await asyncio.sleep(FLUSH_S)
        await threads(recorder.try_flush)


async def _relay(event: asyncio.Event, stopping: asyncio.Event) -> None:
    """A stop of the worker ends every run; a run that ends by itself stops no other."""
    await event.wait()
    stopping.set()
