"""The guard: what goes wrong too often is paused, or said, once; and who goes on begins anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from postroom.clock import Instant
from postroom.errors import Unavailable
from postroom.events.reputation import ReputationGuard, ReputationRecorder
from postroom.ledger.audit import INSTALLATION, AuditLog
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.event_applier import AppliedEvent
from postroom.ledger.providers import Providers, ProviderSpec
from postroom.ledger.rate_windows import RateRecorder
from postroom.model.audit import AuditRecord
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus
from postroom.model.event import Bounce, BounceClass, BounceType, Event, EventKind
from postroom.model.reputation import GuardAction, ReputationLimits
from postroom.model.stream import day_of, stream_ref
from postroom.model.tenant import Tenant
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.ports.tables import Write
from tests.fakes.campaigns import campaign_record, campaign_spec
from tests.fakes.clock import ManualClock
from tests.fakes.secrets import PlainSecrets

HARD, SOFT = BounceType.HARD, BounceType.SOFT
DEFAULT = "default"
ACME = Tenant("acme", 1, b"s" * 32)


class ReputationSetup:
    def __init__(self, tables: SqliteTables, clock: ManualClock, limits: ReputationLimits) -> None:
        self.tables, self.clock, self.limits = tables, clock, limits
        self.campaigns = Campaigns(tables, clock)
        self.providers = Providers(tables, PlainSecrets(), clock, default_url="inbox:")
        self.audit = AuditLog(tables, PlainSecrets(), clock)
        self.tally = RateRecorder(tables, clock, keep_ms=limits.window_ms)
        self.guard = self.another_guard()

    def another_guard(self) -> ReputationGuard:
        return ReputationGuard(
            self.tables, self.campaigns, self.providers, audit=self.audit, clock=self.clock, limits=self.limits
        )

    def campaign(self, provider: str = DEFAULT, tenant: str = "acme") -> CampaignRef:
        ref = self.campaigns.new_ref(tenant)
        made = self.campaigns.create(
            campaign_record(ref, CampaignStatus.READY, self.clock.now(), spec=campaign_spec(provider=provider))
        )
        self.campaigns.transition(made, CampaignStatus.SENDING)
        return ref

    def happens(self, ref: CampaignRef, sent: int, *, hard: int = 0, complained: int = 0, through: str = DEFAULT) -> None:
        """Of mail to several domains."""
        for number in range(10):
            self.tally.sent(ref, through, f"d{number}.example", sent // 10)
        self.tally.bounced(ref, through, "d0.example", HARD, hard)
        self.tally.complained(ref, through, "d1.example", complained)
        self.tally.flush()

    def look(self) -> None:
        self.guard.check()

    def state(self, ref: CampaignRef) -> CampaignStatus:
        return self.campaigns.get(ref).status

    def resume(self, ref: CampaignRef) -> None:
        self.campaigns.transition(self.campaigns.get(ref), CampaignStatus.SENDING)

    def trail(self, tenant: str = "acme") -> list[AuditRecord]:
        return self.audit.list(tenant, limit=1_000).items

    def said(self, tenant: str = "acme") -> list[str]:
        return [entry.reason for entry in self.trail(tenant) if entry.action == "guard warn"]


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[tuple[SqliteTables, ManualClock]]:
    clock = ManualClock()
    with closing(open_control(tmp_path)) as control:
        yield SqliteTables(control, clock), clock


@pytest.fixture
def setup(tables: tuple[SqliteTables, ManualClock]) -> ReputationSetup:
    return ReputationSetup(*tables, ReputationLimits())


def test_a_campaign_over_the_limit_is_paused_with_the_figures_and_others_go_on(setup: ReputationSetup) -> None:
    bad, good = setup.campaign(), setup.campaign()
    setup.happens(bad, 200, hard=20)
    setup.happens(good, 1_000)
    setup.look()
    assert (setup.state(bad), setup.state(good)) == (CampaignStatus.PAUSED, CampaignStatus.SENDING)
    reason = setup.campaigns.get(bad).reason or ""
    assert "10 % of messages bounced for good in the last 1 h; the limit is 10 % (20 of 200)" in reason
    (entry,) = [entry for entry in setup.trail() if entry.action == "guard pause campaign"]
    assert (entry.target, entry.status, entry.reason) == (f"campaign/{bad.campaign}", 200, reason)


def test_below_the_sample_and_below_the_limits_nothing_happens(setup: ReputationSetup) -> None:
    few, fine = setup.campaign(), setup.campaign()
    setup.happens(few, 190, hard=190, through="another")
    setup.happens(fine, 9_000, hard=40)
    setup.look()
    assert {setup.state(few), setup.state(fine)} == {CampaignStatus.SENDING}
    assert setup.trail() == setup.trail(INSTALLATION) == []


def test_complaints_pause_sooner_and_soft_bounces_never(setup: ReputationSetup) -> None:
    loud, one, full = setup.campaign(), setup.campaign(), setup.campaign()
    setup.happens(loud, 600, complained=3)
    setup.happens(one, 200, complained=2)  # one or two people stop nothing
    setup.happens(full, 2_000)
    setup.tally.bounced(full, DEFAULT, "d.example", SOFT, 1_500)
    setup.tally.flush()
    setup.look()
    states = [setup.state(each) for each in (loud, one, full)]
    assert states == [CampaignStatus.PAUSED, CampaignStatus.SENDING, CampaignStatus.SENDING]


def test_a_warning_is_said_once_a_window(setup: ReputationSetup) -> None:
    ref = setup.campaign()
    setup.happens(ref, 400, hard=24)
    setup.look()
    setup.another_guard().check()
    assert setup.state(ref) is CampaignStatus.SENDING
    assert [text for text in setup.said() if text.startswith("campaign")] == [
        f"campaign {ref.campaign}: 6 % of messages bounced for good in the last 1 h; the limit is 5 % (24 of 400)"
    ]
    setup.clock.advance(3_600)
    setup.happens(ref, 400, hard=24)
    setup.look()
    assert len([text for text in setup.said() if text.startswith("campaign")]) == 2


def test_of_a_campaign_that_has_completed_people_are_warned(setup: ReputationSetup) -> None:
    ref = setup.campaign()
    setup.campaigns.transition(setup.campaigns.get(ref), CampaignStatus.COMPLETED)
    setup.happens(ref, 200, hard=30)
    for _ in range(2):
        setup.look()
    assert setup.state(ref) is CampaignStatus.COMPLETED
    (said,) = [text for text in setup.said() if ref.campaign in text]
    assert "15 % of messages bounced for good" in said


def test_what_happened_before_the_window_is_forgotten(setup: ReputationSetup) -> None:
    ref = setup.campaign()
    setup.happens(ref, 400, hard=39)
    setup.look()
    setup.clock.advance(3_600)
    setup.happens(ref, 400, hard=10)
    setup.look()
    assert setup.state(ref) is CampaignStatus.SENDING


def test_who_is_resumed_begins_anew(setup: ReputationSetup) -> None:
    ref = setup.campaign()
    setup.happens(ref, 400, hard=100)
    setup.look()
    assert setup.state(ref) is CampaignStatus.PAUSED
    setup.clock.advance(30)
    setup.resume(ref)
    setup.look()
    assert setup.state(ref) is CampaignStatus.SENDING
    setup.clock.advance(60)
    setup.happens(ref, 1_000, hard=10)
    setup.look()
    assert setup.state(ref) is CampaignStatus.SENDING
    setup.happens(ref, 0, hard=150)
    setup.look()
    assert setup.state(ref) is CampaignStatus.PAUSED


def test_a_provider_over_the_limit_pauses_all_its_campaigns_and_no_others(setup: ReputationSetup) -> None:
    setup.providers.create("acme", "own", ProviderSpec("smtp://own.example"))
    through = [setup.campaign("own") for _ in range(3)]
    beside = setup.campaign()
    for ref in through[:2]:
        setup.happens(ref, 100, hard=15, through="acme/own")  # each below the sample
    setup.happens(beside, 1_000)
    setup.look()
    assert [setup.state(ref) for ref in through] == [CampaignStatus.PAUSED] * 3
    assert setup.state(beside) is CampaignStatus.SENDING
    assert (setup.campaigns.get(through[2]).reason or "").endswith("(30 of 200)")


def test_a_campaign_that_goes_on_after_its_provider_tripped_is_judged_by_what_comes(setup: ReputationSetup) -> None:
    first, second = setup.campaign(), setup.campaign()
    setup.happens(first, 190, hard=60)
    setup.happens(second, 190, hard=0)
    setup.look()
    assert setup.state(second) is CampaignStatus.PAUSED
    setup.clock.advance(60)
    setup.resume(second)
    fresh = setup.campaign()
    setup.clock.advance(60)
    setup.happens(second, 190)
    setup.happens(fresh, 190)
    setup.look()
    assert [setup.state(ref) for ref in (first, second, fresh)] == [
        CampaignStatus.PAUSED,
        CampaignStatus.SENDING,
        CampaignStatus.SENDING,
    ]
    setup.happens(fresh, 10, hard=30)
    setup.happens(second, 10, hard=30)
    setup.look()
    assert (setup.state(second), setup.state(fresh)) == (CampaignStatus.PAUSED, CampaignStatus.PAUSED)


def test_a_tenant_does_not_read_how_much_others_send_through_a_shared_provider(setup: ReputationSetup) -> None:
    mine, theirs = setup.campaign(), setup.campaign(tenant="other")
    setup.happens(theirs, 190, hard=60)
    setup.happens(mine, 190)
    setup.look()
    reason = setup.campaigns.get(mine).reason or ""
    assert "default" in reason
    assert " of 380" not in reason
    assert any("(60 of 380)" in text for text in setup.said(INSTALLATION))
    assert not any("380" in entry.reason for tenant in ("acme", "other") for entry in setup.trail(tenant))


def test_single_messages_are_warned_of_and_not_stopped(setup: ReputationSetup) -> None:
    stream = stream_ref(ACME, day_of(setup.clock.now()))
    setup.happens(stream, 400, hard=80)
    setup.look()
    assert any(text.startswith(f"campaign {stream.campaign}") for text in setup.said())
    assert any(text.startswith("provider default: ") for text in setup.said(INSTALLATION))


def test_a_domain_is_warned_of_and_pauses_nobody(setup: ReputationSetup) -> None:
    ref = setup.campaign()
    setup.happens(ref, 10_000, hard=400)
    setup.look()
    assert setup.state(ref) is CampaignStatus.SENDING
    (said,) = setup.said(INSTALLATION)
    assert said.startswith("provider default, mail to d0.example: 40 %")


def test_off_is_off(tables: tuple[SqliteTables, ManualClock]) -> None:
    setup = ReputationSetup(*tables, ReputationLimits(bounce_warn=0, bounce_pause=0, complaint_warn=0, complaint_pause=0))
    ref = setup.campaign()
    setup.happens(ref, 400, hard=400, complained=400)
    setup.look()
    assert setup.state(ref) is CampaignStatus.SENDING
    assert setup.trail() == setup.trail(INSTALLATION) == []


def test_one_campaigns_own_worker_pauses_no_other(setup: ReputationSetup) -> None:
    mine, other = setup.campaign(), setup.campaign()
    for ref in (mine, other):
        setup.happens(ref, 200, hard=100)
    setup.guard.check(mine)
    assert (setup.state(mine), setup.state(other)) == (CampaignStatus.PAUSED, CampaignStatus.SENDING)


class _KilledError(Exception):
    """As `kill -9`: no handler of ours sees it."""


@pytest.mark.parametrize("survived", range(8))
def test_a_kill_between_any_two_writes_leaves_what_the_next_look_completes(
    setup: ReputationSetup, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    refs = [setup.campaign() for _ in range(3)]
    for ref in refs:
        setup.happens(ref, 100, hard=15)
    write, left = setup.tables.write, iter(range(survived))

    def killed(writes: Sequence[Write]) -> list[int]:
        if next(left, None) is None:
            raise _KilledError
        return write(writes)

    monkeypatch.setattr(setup.tables, "write", killed)
    with pytest.raises(_KilledError):
        setup.look()
    monkeypatch.setattr(setup.tables, "write", write)
    setup.clock.advance(5)
    setup.another_guard().check()
    assert [setup.state(ref) for ref in refs] == [CampaignStatus.PAUSED] * 3
    assert any("(45 of 300)" in text for text in setup.said(INSTALLATION))


def test_a_person_who_is_faster_has_their_way(setup: ReputationSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = setup.campaign()
    setup.happens(ref, 200, hard=50)
    transition = setup.campaigns.transition

    def cancelled_meanwhile(campaign: Campaign, to: CampaignStatus, **fields: object) -> Campaign:
        monkeypatch.setattr(setup.campaigns, "transition", transition)
        transition(setup.campaigns.get(ref), CampaignStatus.CANCELLED)
        return transition(campaign, to, **fields)

    monkeypatch.setattr(setup.campaigns, "transition", cancelled_meanwhile)
    setup.look()
    assert setup.state(ref) is CampaignStatus.CANCELLED
    assert [entry.status for entry in setup.trail() if entry.action == "guard pause campaign"] == [409]


@pytest.mark.parametrize(
    ("hard", "complained", "actions"),
    [
        (49, 0, []),
        (50, 0, [GuardAction.WARN]),
        (100, 0, [GuardAction.PAUSE]),
        (50, 5, [GuardAction.PAUSE, GuardAction.WARN]),
        (1_000, 1_000, [GuardAction.PAUSE, GuardAction.PAUSE]),
    ],
)
def test_limits_are_reached_where_they_are(hard: int, complained: int, actions: list[GuardAction]) -> None:
    found = ReputationLimits().excesses(sent=1_000, hard=hard, complained=complained)
    assert [excess.action for excess in found] == actions


def test_what_comes_back_is_counted_under_the_provider_that_sent_it(setup: ReputationSetup) -> None:
    setup.providers.create("acme", "own", ProviderSpec("smtp://own.example"))
    watching = ReputationRecorder(setup.tally, setup.providers, setup.clock)
    event = Event(
        kind=EventKind.BOUNCED, attempt=1, at=Instant(0), id="e", source="dsn", bounce=Bounce(HARD, BounceClass.MAILBOX)
    )
    campaign, stream = CampaignRef("acme", "c1"), stream_ref(ACME, day_of(setup.clock.now()))
    watching(AppliedEvent(campaign, "default", "a.example", event))
    watching(AppliedEvent(campaign, "own", "a.example", event))
    watching(AppliedEvent(campaign, "gone", "a.example", event))
    watching(AppliedEvent(stream, None, "a.example", event))  # the first of its own carries them
    setup.tally.flush()
    items = setup.tables.query(f"#tallies/{setup.clock.now() // 60_000}").items
    assert {item.key.sort.rpartition("|")[0]: item.data["all"][1] for item in items} == {
        "default": 1,
        "acme/own": 2,
        "acme/gone": 1,
    }


def test_an_event_that_cannot_be_counted_stops_nobody(setup: ReputationSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(_tenant: str, _name: str | None) -> str:
        raise Unavailable("the disk is away")

    monkeypatch.setattr(setup.providers, "id_of", unavailable)
    event = Event(kind=EventKind.COMPLAINED, attempt=1, at=Instant(0), id="e", source="arf")
    ReputationRecorder(setup.tally, setup.providers, setup.clock)(
        AppliedEvent(CampaignRef("acme", "c1"), "own", "a.example", event)
    )
    setup.tally.flush()
    assert setup.tables.query(f"#tallies/{setup.clock.now() // 60_000}").items == []
