"""Whoever is erased is nowhere any more, whatever state things are in; everybody else stays, and the ledger adds up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.clock import Instant
from postroom.errors import Conflict, Invalid
from postroom.ledger.batches import BatchLeases
from postroom.ledger.callback_deliveries import CallbackDeliveries
from postroom.ledger.callback_endpoints import CAMPAIGN_PREFIX
from postroom.ledger.suppression import SuppressionReason
from postroom.ledger.tenants import tenant_lock
from postroom.model.callback import DeliveryStatus
from postroom.model.campaign import CampaignStatus
from postroom.model.message import ERASED, Counts, MessageStatus, Settlement
from postroom.services.campaign_creation import prefix
from postroom.services.campaigns import Decision
from tests.fakes.campaigns import change_spec
from tests.fakes.transactional import request
from tests.unit.erasure_kit import ANNA, BOB, CSV, House, house

S = MessageStatus


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as made:
        yield made


def test_nothing_of_the_person_is_left_anywhere(home: House) -> None:
    campaign = home.everywhere()
    assert len({trace.split()[0] for trace in home.traces()}) == 3  # ledger, objects, tables: the test can fail
    found = home.service.erase("default", home.anna)
    assert home.traces() == []
    assert found.complete
    assert found.campaigns == [campaign.ref.campaign]
    assert (found.singles, found.mails, len(found.uploads), len(found.files), len(found.reports)) == (1, 1, 1, 2, 2)
    assert found.suppressed
    assert home.lists.get(ANNA) is not None


def test_everybody_else_stays_and_the_campaign_adds_up(home: House) -> None:
    campaign = home.everywhere()
    before = home.stores.messages.counts(campaign.ref)
    bob = home.service.key_of("default", BOB)
    other, report = home.message(campaign.ref, bob), home.objects.get(f"{prefix(campaign.ref)}rejected.csv")
    assert b"nobody" in report
    home.service.erase("default", home.anna)
    assert home.message(campaign.ref, bob) == other
    assert home.stores.messages.counts(campaign.ref) == before
    assert home.stores.campaigns.get(campaign.ref) == campaign
    kept = home.objects.get(f"{prefix(campaign.ref)}rejected.csv")
    assert kept.splitlines() == [line for line in report.splitlines() if b"anna" not in line.lower()]
    assert len(home.objects.versions(f"{prefix(campaign.ref)}rejected.csv")) == 1
    records = {record.message.address for record in home.desk.service.list("default", home.desk.service.today()).records}
    assert records == {BOB, ERASED}


def test_the_message_keeps_what_became_of_it(home: House) -> None:
    campaign = home.everywhere()
    home.service.erase("default", home.anna)
    message = home.message(campaign.ref)
    assert (message.status, message.code, message.provider_id, message.attempt) == (S.BOUNCED, 250, "p1", 1)
    assert (message.address, message.name, message.values, message.reply) == (ERASED, None, "[]", "")


def test_a_single_message_can_still_be_shown(home: House) -> None:
    (accepted,) = home.desk.accept(request(ANNA))
    home.service.erase("default", home.anna)
    record = home.desk.service.get("default", accepted.id)
    assert (record.message.status, record.message.address, record.values.variables) == (S.SKIPPED, ERASED, {})
    assert home.desk.service.content("default", record) is not None
    assert not home.desk.streams.owes(accepted.ref)


def test_again_it_finds_nothing_more_to_do_and_names_the_same_campaigns(home: House) -> None:
    home.everywhere()
    first = home.service.erase("default", home.anna)
    again = home.service.erase("default", home.anna)
    assert again.complete
    assert again.campaigns == first.campaigns
    assert (again.singles, again.mails, again.uploads, again.files, again.reports) == (0, 0, [], [], [])


@pytest.mark.parametrize(
    ("state", "due_s", "then"),
    [
        (S.PENDING, None, S.SKIPPED),
        (S.DEFERRED, 60, S.SKIPPED),
        (S.UNKNOWN, 60, S.UNKNOWN),
        (S.UNKNOWN, None, S.UNKNOWN),
        (S.DELIVERED, None, S.DELIVERED),
    ],
)
def test_whoever_waits_is_not_sent_to(home: House, state: MessageStatus, due_s: int | None, then: MessageStatus) -> None:
    campaign = home.campaign(b"email,name\nanna@mail.example,Anna\n")
    due = None if due_s is None else Instant(home.clock.now() + due_s * 1_000)
    if state is not S.PENDING:
        home.settle(campaign.ref, Settlement(home.anna, state, 1, home.clock.now(), due, 451, "later"))
    home.service.erase("default", home.anna)
    assert home.message(campaign.ref).status is then
    assert home.stores.messages.next_due(campaign.ref) is None
    assert home.stores.messages.unsettled(campaign.ref) == 0


@pytest.mark.parametrize("state", [S.FAILED, S.UNKNOWN])
def test_an_operator_who_sends_again_does_not_send_to_the_erased(home: House, state: MessageStatus) -> None:
    campaign = home.campaign(b"email,name\nanna@mail.example,Anna\nbob@mail.example,Bob\n")
    bob = home.service.key_of("default", BOB)
    home.sent(campaign.ref, home.anna, state)
    home.sent(campaign.ref, bob, state)
    home.service.erase("default", home.anna)
    home.stores.campaigns.transition(campaign, CampaignStatus.PAUSED)
    if state is S.FAILED:
        home.campaigns.retry_failed(campaign.ref)
    else:
        home.campaigns.settle(campaign.ref, Decision.RESEND)
    assert home.message(campaign.ref).status is S.SKIPPED
    assert home.message(campaign.ref, bob).status is S.PENDING


def test_what_a_worker_left_open_is_settled_first(home: House) -> None:
    campaign = home.campaign(b"email,name\nanna@mail.example,Anna\n", start=True)
    batches = BatchLeases(home.stores.messages, home.stores.journals, home.clock, lease_ms=1_000)
    journal = home.stores.journals.begin(campaign.ref.campaign)
    opened = batches.open(campaign.ref, 0, journal.owner)
    assert opened is not None
    batches.record(campaign.ref, opened, (), home.stores.messages.load(campaign.ref, 0, home.clock.now(), 10))
    journal.page(0, opened.fence).handing(home.anna)
    journal.close()
    home.service.erase("default", home.anna)
    assert (home.message(campaign.ref).status, home.message(campaign.ref).address) == (S.UNKNOWN, ERASED)


def test_a_batch_that_a_worker_keeps_is_waited_for_and_told(home: House) -> None:
    campaign = home.campaign(b"email,name\nanna@mail.example,Anna\n", start=True)
    journal = home.stores.journals.begin(campaign.ref.campaign)
    opened = home.stores.messages.open(campaign.ref, 0, journal.owner, home.clock.now(), lease_ms=3_600_000)
    assert opened is not None
    found = home.service.erase("default", home.anna)
    assert (found.complete, found.waiting, found.campaigns) == (False, [campaign.ref.campaign], [])
    assert home.message(campaign.ref).address != ERASED
    home.stores.messages.close(campaign.ref, 0, opened.fence)
    journal.close()
    assert home.service.erase("default", home.anna).complete
    assert home.traces() == []


def test_a_campaign_that_is_being_imported_is_waited_for(home: House) -> None:
    campaign = home.campaign(imported=False)
    found = home.service.erase("default", home.anna)
    assert (found.complete, found.waiting) == (False, [campaign.ref.campaign])
    home.imported(campaign.ref)
    assert home.service.erase("default", home.anna).complete
    assert home.traces() == []


def test_an_upload_that_a_campaign_has_yet_to_read_is_waited_for(home: House) -> None:
    upload = home.upload()
    campaign = home.campaign(imported=False)
    change_spec(home.stores.campaigns, campaign, upload_id=upload)
    found = home.service.erase("default", home.anna)
    assert (found.complete, found.uploads, found.waiting) == (False, [], [upload, campaign.ref.campaign])
    assert home.objects.info(f"default/uploads/{upload}") is not None
    home.imported(campaign.ref)
    again = home.service.erase("default", home.anna)
    assert (again.complete, again.uploads, home.traces()) == (True, [upload], [])


def test_an_import_that_was_broken_off_is_erased_too(home: House) -> None:
    campaign = home.campaign(imported=False)
    home.splitter.run(campaign.ref, alive=iter([True] * 2 + [False] * 9).__next__)
    home.campaigns.cancel(campaign.ref)
    assert home.service.erase("default", home.anna).waiting == [campaign.ref.campaign]  # a late worker may still store rows
    home.imported(campaign.ref)
    assert home.service.erase("default", home.anna).complete
    assert home.traces() == []


def test_the_suppression_entry_keeps_the_reason_or_goes(home: House) -> None:
    home.lists.add(ANNA, reason=SuppressionReason.COMPLAINT, note="by phone")
    home.service.erase("default", home.anna)
    entry = home.lists.get(ANNA)
    assert entry is not None
    assert (entry.address, entry.note, entry.reason) == ("", "", SuppressionReason.COMPLAINT)
    assert len(list(home.lists.export_csv())) == 1
    home.lists.add(ANNA, reason=SuppressionReason.MANUAL)
    assert home.traces() == []
    assert not home.service.erase("default", home.anna, forget_suppression=True).suppressed
    assert home.lists.get(ANNA) is None


def test_any_spelling_of_the_address_is_the_person(home: House) -> None:
    assert home.service.key_of("default", " Anna A. <ANNA@Mail.Example> ") == home.anna
    with pytest.raises(Invalid):
        home.service.key_of("default", "nobody")


@pytest.mark.parametrize(
    ("content", "goes"),
    [
        (CSV, True),
        ("id;Mail\r\n1;Anna <ANNA@mail.example>\r\n".encode("utf-16"), True),
        (b"email,partner\nbob@mail.example,anna@mail.example\n", True),
        (b'email\n"bob@mail.example, anna@mail.example"\n', True),
        (b"email\nbob@mail.example\n", False),
        (b"email\nhanna@mail.example\nanna@mail.example.org\n", False),
        (b'email,name\n"bob@mail.example,Bob\n', True),  # cannot be read to its end: nobody can use it
    ],
)
def test_an_upload_goes_if_it_has_a_row_of_the_person(home: House, content: bytes, goes: bool) -> None:
    upload = home.upload(content)
    found = home.service.erase("default", home.anna)
    assert found.uploads == ([upload] if goes else [])
    assert (home.objects.info(f"default/uploads/{upload}") is None) is goes


def test_another_tenants_data_is_left_alone(home: House) -> None:
    home.tenants.create("other")
    (theirs,) = home.desk.accept(request(ANNA), tenant="other")
    home.lists.add(ANNA)
    home.service.erase("default", home.anna)
    assert home.desk.service.get("other", theirs.id).message.address == ANNA


def test_the_trail_says_that_it_was_done_and_not_to_whom(home: House) -> None:
    home.service.erase("default", home.anna, actor="user:1")
    (entry,) = home.audit.list("default").items
    assert (entry.actor, entry.action, entry.target) == ("user:1", "erase", f"person/{home.anna.hex()}")
    assert "anna" not in json.dumps([entry.target, entry.name, entry.action])


def test_what_callbacks_were_told_loses_the_person_and_nobody_else(home: House) -> None:
    campaign = home.campaign()
    change_spec(home.stores.campaigns, campaign, callback_url="https://own.example/")
    own, kept = CAMPAIGN_PREFIX + campaign.ref.campaign, CallbackDeliveries(home.stores.tables, home.clock)
    home.told("hook", ANNA, BOB)
    home.told(own, ANNA)
    untouched = kept.get("default", "hook", "1")
    found = home.service.erase("default", home.anna)
    assert (found.told, home.traces()) == (4, [])
    assert kept.get("default", "hook", "1") == untouched
    both = json.loads(kept.get("default", "hook", "2").body)["data"]["events"]
    assert [each["data"]["recipient"] for each in both] == ["", BOB]
    assert [each["data"]["url"] for each in both] == ["", f"https://shop.example/?who={BOB}"]
    assert {each.status for each in kept.list("default", own).items} == {DeliveryStatus.PENDING}
    assert home.service.erase("default", home.anna).told == 0


def test_two_erasures_of_a_tenant_do_not_meet(home: House) -> None:
    with tenant_lock(home.stores.tables, home.clock, tenant="default", work="erasure"):
        with pytest.raises(Conflict):
            home.service.erase("default", home.anna)
        home.tenants.create("other")
        assert home.service.erase("other", home.anna).complete
    assert home.service.erase("default", home.anna).complete


def test_told_to_stop_it_stops_and_says_that_it_is_not_complete(home: House) -> None:
    home.everywhere()
    answers = iter([True] * 3)
    assert not home.service.erase("default", home.anna, alive=lambda: next(answers, False)).complete
    assert home.traces() != []
    assert home.service.erase("default", home.anna).complete
    assert home.traces() == []


def test_counts_of_nobody_else_change(home: House) -> None:
    campaign = home.campaign()
    home.service.erase("default", home.anna)
    assert home.stores.messages.counts(campaign.ref) == Counts(pending=1, skipped=1)


def test_deleting_a_campaign_leaves_no_object_and_no_message_behind(home: House) -> None:
    campaign = home.everywhere()
    home.campaigns.cancel(campaign.ref)
    home.campaigns.delete(campaign.ref)
    assert [each.key for each in home.objects.list(prefix(campaign.ref)).objects] == []
    assert campaign.ref not in home.stores.ledgers.refs()
    with home.stores.control.read() as db:
        left = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [(name, row) for name in left for row in db.execute(f"SELECT * FROM {name}")]
    assert [name for name, row in rows if campaign.ref.campaign in repr(row) and name not in {"execution", "note"}] == []
