"""The verbs of campaigns: each may be repeated, and a crash between its steps is mended by calling it again."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.clock import Clock, Instant
from postroom.delivery.compose import ContentCompiler
from postroom.delivery.tracking import links_key
from postroom.errors import Conflict, Invalid, NotFound
from postroom.ledger import scheduler_messages
from postroom.ledger.batches import BatchLeases
from postroom.ledger.bulk_update import BulkUpdate
from postroom.ledger.callback_deliveries import CallbackDeliveries
from postroom.ledger.callback_endpoints import CAMPAIGN_PREFIX
from postroom.ledger.tenants import Tenants
from postroom.model.callback import CallbackDelivery
from postroom.model.campaign import Campaign, CampaignSpec, CampaignStatus, Content, Schedule
from postroom.model.message import MessageStatus, Settlement
from postroom.platform.embedded.objects import FileObjects
from postroom.services.campaign_creation import CampaignCreator, CampaignParts, prefix
from postroom.services.campaigns import CampaignService, Decision
from tests.fakes.campaigns import change_spec
from tests.fakes.clock import START
from tests.fakes.ledger import Bench, bench


class Desk:
    """The service on a bench."""

    def __init__(self, made: Bench, objects: FileObjects) -> None:
        self.made = made
        self.objects = objects
        clock: Clock = made.clock
        composing = ContentCompiler(
            Tenants(made.tables, clock), objects, public_url="https://mail.example.com", bounce_domain=None
        )
        self.creator = CampaignCreator(
            made.campaigns, composing=composing, objects=objects, workflows=made.workflows, clock=clock
        )
        self.service = CampaignService(
            made.campaigns,
            creator=self.creator,
            messages=made.messages,
            objects=objects,
            journals=made.journals,
            queues=made.queues,
            timers=made.timers,
            workflows=made.workflows,
            bulk_update=BulkUpdate(made.messages, made.journals, clock, lease_ms=1_000),
            deliveries=CallbackDeliveries(made.tables, clock),
            clock=clock,
        )

    def settle(self, campaign: Campaign, state: MessageStatus) -> None:
        """Every message in one state, by a worker that then lets go."""
        batches = BatchLeases(self.made.messages, self.made.journals, self.made.clock, lease_ms=1_000)
        for number in range(campaign.source.batches):
            opened = batches.open(campaign.ref, number, "worker")
            assert opened is not None
            work = self.made.messages.load(campaign.ref, number, self.made.clock.now(), 1_000)
            settled = [Settlement(r.key, state, r.attempt + 1, self.made.clock.now(), code=550) for r in work]
            batches.record(campaign.ref, opened, settled, ())
            batches.finish(campaign.ref, opened)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with bench(tmp_path) as made:
        objects = FileObjects(tmp_path / "objects", made.clock)
        yield Desk(made, objects)
        objects.close()


SPEC = CampaignSpec(
    name="Autumn",
    content=Content(from_="News <news@example.com>", subject="Hi {{ first_name }}", variables=(("city", "Springfield"),)),
)
PARTS = CampaignParts(html="<p>Hello {{ first_name }} of {{ city }}</p><a href='https://example.com/'>x</a>")


def test_a_new_campaign_is_importing_with_the_columns_its_template_uses(desk: Desk) -> None:
    campaign = desk.creator.create("default", SPEC, PARTS, io.BytesIO(b"email\na@example.com\n"), filename="people.csv")
    assert campaign.status is CampaignStatus.IMPORTING
    assert campaign.source.columns == ("city", "first_name")
    assert desk.objects.get(campaign.source.upload_key) == b"email\na@example.com\n"
    assert links_key(campaign.ref).startswith(prefix(campaign.ref))  # gone when the campaign is
    assert desk.objects.get(links_key(campaign.ref)) == b'["https://example.com/"]'
    assert [run.execution for run in desk.made.workflows.running(scheduler_messages.IMPORT)] == [campaign.ref.campaign]


def test_a_bad_template_makes_nothing(desk: Desk) -> None:
    with pytest.raises(Invalid):
        desk.creator.create("default", SPEC, CampaignParts(html="{% if %}"), io.BytesIO(b""), filename="people.csv")
    assert desk.made.campaigns.list("default").items == []
    assert desk.objects.list().objects == []


def test_resuming_mends_a_crash_before_the_workflow_began(desk: Desk) -> None:
    campaign = desk.made.campaign(CampaignStatus.IMPORTING)
    desk.service.resume(campaign.ref)
    assert len(desk.made.workflows.running(scheduler_messages.IMPORT)) == 1


def test_pause_and_resume_may_be_repeated(desk: Desk) -> None:
    home = desk.made.campaign().ref
    desk.service.pause(home, "lunch")
    assert desk.service.pause(home, "again").reason == "lunch"
    assert desk.service.resume(home).status is CampaignStatus.SENDING
    assert desk.service.resume(home).status is CampaignStatus.SENDING


def test_a_schedule_still_ahead_is_kept_by_pause_and_resume(desk: Desk) -> None:
    schedule = Schedule(Instant(START + 60_000), "UTC")
    campaign = desk.made.campaign(CampaignStatus.SCHEDULED, schedule=schedule)
    campaign = desk.made.campaigns.change(campaign, started_at=None)
    desk.service.pause(campaign.ref, "wait")
    assert desk.service.resume(campaign.ref).status is CampaignStatus.SCHEDULED
    desk.service.pause(campaign.ref, "wait")
    desk.made.clock.advance(61)
    assert desk.service.resume(campaign.ref).status is CampaignStatus.SENDING


@pytest.mark.parametrize("state", [CampaignStatus.CANCELLED, CampaignStatus.FAILED])
def test_what_has_ended_is_not_resumed(desk: Desk, state: CampaignStatus) -> None:
    campaign = desk.made.campaign(state)
    with pytest.raises(Conflict, match=str(state)):
        desk.service.resume(campaign.ref)


def test_cancelling_skips_whoever_waits_and_may_be_repeated(desk: Desk) -> None:
    campaign = desk.made.campaign(CampaignStatus.PAUSED, people=30)
    assert desk.service.cancel(campaign.ref) == 30
    assert desk.service.cancel(campaign.ref) == 0
    counts = desk.made.messages.counts(campaign.ref)
    assert (counts.skipped, counts.waiting) == (30, 0)


def test_retry_failed_sends_only_to_those_who_failed(desk: Desk) -> None:
    campaign = desk.made.campaign(CampaignStatus.COMPLETED, people=30)
    desk.settle(campaign, MessageStatus.FAILED)
    assert desk.service.retry_failed(campaign.ref) == 30
    assert desk.made.campaigns.get(campaign.ref).status is CampaignStatus.SENDING
    assert desk.made.messages.counts(campaign.ref).pending == 30


@pytest.mark.parametrize("state", [MessageStatus.SENT, MessageStatus.BOUNCED, MessageStatus.UNKNOWN])
def test_retry_failed_leaves_the_others_alone(desk: Desk, state: MessageStatus) -> None:
    campaign = desk.made.campaign(CampaignStatus.COMPLETED)
    desk.settle(campaign, state)
    assert desk.service.retry_failed(campaign.ref) == 0
    assert desk.made.campaigns.get(campaign.ref).status is CampaignStatus.COMPLETED


def test_a_crash_between_retrying_and_sending_is_mended_by_retrying_again(desk: Desk) -> None:
    campaign = desk.made.campaign(CampaignStatus.COMPLETED)  # its messages are pending: the sweep was done, no more
    assert desk.service.retry_failed(campaign.ref) == 0
    assert desk.made.campaigns.get(campaign.ref).status is CampaignStatus.SENDING


@pytest.mark.parametrize(
    ("decision", "state"),
    [
        (Decision.SENT, MessageStatus.SENT),
        (Decision.FAILED, MessageStatus.FAILED),
        (Decision.RESEND, MessageStatus.PENDING),
    ],
)
def test_an_operator_settles_what_is_unknown(desk: Desk, decision: Decision, state: MessageStatus) -> None:
    campaign = desk.made.campaign(CampaignStatus.COMPLETED)
    desk.settle(campaign, MessageStatus.UNKNOWN)
    assert desk.service.settle(campaign.ref, decision) == 10
    assert getattr(desk.made.messages.counts(campaign.ref), state.label) == 10
    resent = desk.made.campaigns.get(campaign.ref).status is CampaignStatus.SENDING
    assert resent is (decision is Decision.RESEND)


def test_resuming_mends_a_crash_between_retrying_and_sending(desk: Desk) -> None:
    campaign = desk.made.campaign(CampaignStatus.COMPLETED)  # its messages are pending: the sweep was done, no more
    assert desk.service.resume(campaign.ref).status is CampaignStatus.SENDING
    assert desk.made.queues.depth(scheduler_messages.SCHEDULER_QUEUE).ready == 1


def test_resuming_a_completed_campaign_is_harmless(desk: Desk) -> None:
    campaign = desk.made.campaign(CampaignStatus.COMPLETED)
    desk.settle(campaign, MessageStatus.SENT)
    assert desk.service.resume(campaign.ref).status is CampaignStatus.COMPLETED


def test_resuming_an_import_that_was_not_to_start_starts_it(desk: Desk) -> None:
    campaign = desk.made.campaigns.change(desk.made.campaign(CampaignStatus.IMPORTING), start_when_ready=False)
    assert desk.service.resume(campaign.ref).start_when_ready


def test_what_is_unknown_in_a_cancelled_campaign_can_be_settled_but_not_sent_again(desk: Desk) -> None:
    campaign = desk.made.campaign(CampaignStatus.CANCELLED)
    desk.settle(campaign, MessageStatus.UNKNOWN)
    with pytest.raises(Conflict, match="nothing of it is sent any more"):
        desk.service.settle(campaign.ref, Decision.RESEND)
    assert desk.service.settle(campaign.ref, Decision.SENT) == 10


def test_cancelling_an_import_skips_what_it_had_stored(desk: Desk) -> None:
    campaign = desk.made.campaign(CampaignStatus.IMPORTING, people=30)
    assert desk.service.cancel(campaign.ref) == 30


def test_a_campaign_keeps_the_links_it_was_made_with(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.creator.create("default", SPEC, PARTS, io.BytesIO(b"email\na@example.com\n"), filename="people.csv")
    elsewhere = ContentCompiler(Tenants(desk.made.tables, desk.made.clock), desk.objects, public_url=None, bounce_domain=None)
    assert elsewhere.load(campaign).links == ("https://example.com/",)


def test_messages_of_a_running_campaign_are_not_changed_under_the_workers(desk: Desk) -> None:
    campaign = desk.made.campaign(CampaignStatus.SENDING)
    with pytest.raises(Conflict, match="pause it first"):
        desk.service.retry_failed(campaign.ref)


def test_deleting_leaves_nothing_and_may_be_repeated_after_a_crash(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.made.campaign(CampaignStatus.COMPLETED)
    desk.objects.put(prefix(campaign.ref) + "template.html", b"x")
    desk.made.journals.begin(campaign.ref.campaign).close()
    desk.made.timers.set(
        scheduler_messages.timer_name(campaign.ref), Instant(START + 1), scheduler_messages.SCHEDULER_QUEUE, "{}"
    )
    desk.made.messages.drop(campaign.ref)  # as far as a crash let it come
    desk.service.delete(campaign.ref)
    assert desk.objects.list(prefix(campaign.ref)).objects == []
    assert desk.made.timers.get(scheduler_messages.timer_name(campaign.ref)) is None
    assert not (tmp_path / "journals" / campaign.ref.campaign).exists()
    with pytest.raises(NotFound):
        desk.made.campaigns.get(campaign.ref)


def test_what_its_own_callback_was_told_goes_with_a_campaign(desk: Desk) -> None:
    """It names people, and nobody could look for them there any more."""
    campaign = change_spec(desk.made.campaigns, desk.made.campaign(CampaignStatus.COMPLETED), callback_url="https://own.example/")
    told, endpoint, now = (
        CallbackDeliveries(desk.made.tables, desk.made.clock),
        CAMPAIGN_PREFIX + campaign.ref.campaign,
        Instant(START),
    )
    told.add([CallbackDelivery(id="1", endpoint=endpoint, tenant="default", body="{}", created_at=now, since=now, due=now)])
    desk.service.delete(campaign.ref)
    assert told.list("default", endpoint).items == []


def test_only_a_campaign_at_rest_is_deleted(desk: Desk) -> None:
    campaign = desk.made.campaign(CampaignStatus.SENDING)
    with pytest.raises(Conflict):
        desk.service.delete(campaign.ref)
