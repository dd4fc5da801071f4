"""Warm-up: a new provider's number of recipients rises from day to day, and holds while mail is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.clock import Instant
from postroom.delivery.outcome import Backoff, OutcomeRules
from postroom.errors import Invalid
from postroom.ledger.batches import BatchLeases
from postroom.ledger.providers import Providers, ProviderSpec
from postroom.ledger.suppression import SuppressionList
from postroom.model.campaign import Campaign, CampaignStatus, Policies
from postroom.model.provider import MAX_FACTOR, MAX_PER_DAY, MIN_FACTOR, MIN_PER_DAY, UsageLimits, WarmUp, parse_warm_up
from postroom.pipeline.sender.context import RunEvents, SendContext, SendJob
from postroom.pipeline.sender.provider_route import ProviderRoute
from postroom.pipeline.sender.rate_gate import RateGate
from postroom.pipeline.sender.run import campaign_run
from postroom.pipeline.sender.thread_bridge import ThreadBridge
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.rates import SqliteRates
from postroom.platform.embedded.tables import SqliteTables
from tests.fakes.clock import ManualClock
from tests.fakes.ledger import Bench, bench
from tests.fakes.mailer import ScriptedMailer
from tests.fakes.secrets import PlainSecrets
from tests.unit.test_sender import PlainComposer

DAY_S = 86_400


def at(day: str) -> Instant:
    return Instant(round(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000))


def test_each_day_has_a_multiple_of_the_day_before_until_the_end() -> None:
    ramp = parse_warm_up("200x1.5-1000@2026-12-01")
    days = [f"2026-12-{day:02d}T12:00" for day in range(1, 7)]
    assert [ramp.per_day(at(day)) for day in days] == [200, 300, 450, 675, None, None]
    assert ramp.per_day(at("2026-11-01")) == 200
    assert ramp.per_day(at("2026-12-02T23:59:59.999")) == ramp.per_day(at("2026-12-02"))


RAMPS = st.builds(
    lambda start, factor, more: WarmUp(start, factor, "2026-01-01", min(MAX_PER_DAY, start + more)).checked(),
    st.integers(MIN_PER_DAY, MAX_PER_DAY),
    st.integers(round(MIN_FACTOR * 100), round(MAX_FACTOR * 100)).map(lambda hundredths: hundredths / 100),
    st.integers(0, MAX_PER_DAY),
)


@given(RAMPS, st.integers(0, 3_000_000))
def test_a_ramp_never_falls_never_passes_its_end_and_is_read_as_it_is_shown(ramp: WarmUp, days: int) -> None:
    now = Instant(at("2026-01-01") + min(days, 2_900_000) * DAY_S * 1000)
    today, tomorrow = ramp.per_day(now), ramp.per_day(Instant(now + DAY_S * 1000))
    if today is None:
        assert tomorrow is None
    else:
        assert ramp.start_per_day <= today <= ramp.to_per_day
        assert tomorrow is None or tomorrow >= today
    assert parse_warm_up(str(ramp)) == ramp


@pytest.mark.parametrize("text", ["", "200", "200x", "9x2", "200x1", "200x11", "200x2-100", "200x2@2026-02-30", "200x1e3"])
def test_what_is_no_ramp_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_warm_up(text)


@pytest.fixture
def providers(tmp_path: Path) -> Iterator[tuple[Providers, ManualClock]]:
    clock = ManualClock()
    with closing(open_control(tmp_path)) as control:
        yield Providers(SqliteTables(control, clock), PlainSecrets(), clock, default_url="inbox:"), clock


def test_the_sender_is_told_the_number_of_the_day(providers: tuple[Providers, ManualClock]) -> None:
    ledger, clock = providers
    ledger.create("acme", "relay", ProviderSpec("smtp://relay.example", UsageLimits(per_day=400, warm_up=WarmUp(200, 1.5))))
    numbers = []
    for _ in range(4):
        numbers.append(ledger.credentials("acme", "relay").limit.per_day)
        clock.advance(DAY_S)
    assert numbers == [200, 300, 400, 400]


class WarmUpSender:
    """A campaign through a provider with a limit a day."""

    def __init__(self, made: Bench, rates: SqliteRates) -> None:
        self.made, self.rates = made, rates
        self.mailer = ScriptedMailer()
        self.troubles: list[str] = []

    async def send(self, campaign: Campaign, per_day: int, *, until: int) -> None:
        """Until so many are sent and a trouble is told, or the campaign is completed."""
        made, threads = self.made, ThreadBridge()
        ledger = Providers(made.tables, PlainSecrets(), made.clock, default_url="inbox:")
        means_out = ledger.credentials("default", "relay")
        route = ProviderRoute(means_out.id, means_out.limit, lambda: self.mailer)
        assert route.limit.per_day == per_day
        route.set_limits(self.rates)
        journal = made.journals.begin(campaign.ref.campaign)
        stopping, told = asyncio.Event(), asyncio.Event()

        def trouble(text: str) -> None:
            self.troubles.append(text)
            told.set()

        rules = OutcomeRules(Policies(), Instant(made.clock.now() + 60_000), Backoff(first_ms=60_000))
        context = SendContext(
            job=SendJob(campaign.ref, PlainComposer().compose, rules, route, route.bulk_buckets()),
            batches=BatchLeases(made.messages, made.journals, made.clock, lease_ms=10_000),
            messages=made.messages,
            suppression=SuppressionList(made.tables, made.clock),
            journal=journal,
            mailer=self.mailer,
            rate_gate=RateGate(self.rates, route.bulk_buckets(), threads, made.clock, self.mailer, counted=True),
            threads=threads,
            clock=made.clock,
            stopping=stopping,
            events=RunEvents(on_trouble=trouble),
        )
        await self.mailer.start()
        run = asyncio.create_task(campaign_run(context, made.campaigns, made.finish, drain_s=1).run())
        try:
            waiting = asyncio.create_task(told.wait())
            await asyncio.wait([run, waiting], timeout=20, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            stopping.set()
            await asyncio.wait_for(run, 20)
        finally:
            threads.close()
            journal.close()
        assert len(self.mailer.accepted) == until


def test_a_campaign_waits_for_the_next_day_and_says_why(tmp_path: Path) -> None:
    with bench(tmp_path) as made, closing(SqliteRates(tmp_path / "rates.db")) as rates:
        sender = WarmUpSender(made, rates)
        ledger = Providers(made.tables, PlainSecrets(), made.clock, default_url="inbox:")
        ledger.create("default", "relay", ProviderSpec("smtp://relay.example", UsageLimits(warm_up=WarmUp(20, 2.0))))
        campaign = made.campaign(people=50, batches=1)
        asyncio.run(sender.send(campaign, 20, until=18))  # a tenth is kept for single messages
        (why,) = filter(None, sender.troubles)
        assert "daily quota is used up" in why
        assert "2026-09-22T00:00Z" in why
        assert made.campaigns.get(campaign.ref).status is CampaignStatus.SENDING
        made.clock.advance(DAY_S)
        asyncio.run(sender.send(campaign, 40, until=50))
        assert made.campaigns.get(campaign.ref).status is CampaignStatus.COMPLETED
        assert len(set(sender.mailer.accepted)) == 50
