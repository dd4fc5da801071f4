"""Every change that an endpoint wants to be told of becomes one request, whatever is killed on the way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from postroom.callbacks.webhook_events import build_webhook_event
from postroom.clock import Instant
from postroom.ledger.callback_endpoints import CAMPAIGN_PREFIX, EndpointSettings
from postroom.model.callback import MAX_BATCH
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event, EventKind
from postroom.model.ids import Key
from postroom.model.message import ERASED, MessageStatus
from postroom.model.tokens import message_id
from postroom.platform.ports.feed import MessageChange
from tests.callbacks.kit import CallbackSetup
from tests.fakes.campaigns import change_spec
from tests.fakes.faults import Faults, Killed
from tests.fakes.ledger import bench

K = EventKind


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[CallbackSetup]:
    with bench(tmp_path) as made:
        yield CallbackSetup(made)


def told(setup: CallbackSetup, endpoint: str = "hook") -> list[dict[str, Any]]:
    """The bodies of what is to be told, oldest first."""
    page = setup.deliveries.list("default", endpoint, limit=1_000)
    return [json.loads(each.body) for each in reversed(page.items)]


def types(setup: CallbackSetup, endpoint: str = "hook") -> Counter[str]:
    return Counter(body["type"] for body in told(setup, endpoint))


def test_what_our_worker_did_and_what_was_reported_is_told_once(setup: CallbackSetup) -> None:
    setup.endpoint()
    campaign = setup.made.campaign(people=3)
    setup.made.clock.advance(1)
    one, two, _ = setup.post.send_all(campaign)
    setup.post.hear(
        setup.post.arrival(campaign, one, K.BOUNCED), setup.post.arrival(campaign, two, K.CLICKED, url="https://x.example/")
    )
    setup.follow()
    setup.follow()
    assert types(setup) == {"message.queued": 3, "message.sent": 3, "message.bounced": 1, "message.clicked": 1}
    (bounced,) = [body for body in told(setup) if body["type"] == "message.bounced"]
    assert bounced["data"] == {
        "event_id": "e-bounced",
        "message_id": message_id(campaign.ref, one.key),
        "campaign_id": campaign.ref.campaign,
        "recipient": one.address,
        "sequence": bounced["data"]["sequence"],
        "attempt": 1,
        "status": "bounced",
        "machine": False,
        "bounce": {"type": "hard", "class": "mailbox", "code": "5.1.1"},
        "url": None,
        "detail": "",
    }


def test_the_sequence_rises_from_event_to_event_of_a_message(setup: CallbackSetup) -> None:
    setup.endpoint()
    campaign = setup.made.campaign(people=1)
    setup.made.clock.advance(1)
    (message,) = setup.post.send_all(campaign)
    for kind in (K.DELIVERED, K.OPENED, K.COMPLAINED):
        setup.made.clock.advance(1)
        setup.post.hear(setup.post.arrival(campaign, message, kind))
    setup.follow()
    found = [(body["data"]["sequence"], body["type"].removeprefix("message.")) for body in told(setup)]
    assert [kind for _, kind in sorted(found)] == ["queued", "sent", "delivered", "opened", "complained"]


def test_only_what_is_wanted_is_told_and_only_from_then_on(setup: CallbackSetup) -> None:
    campaign = setup.made.campaign(people=2)
    one, two = setup.post.send_all(campaign)
    setup.post.hear(setup.post.arrival(campaign, one, K.BOUNCED))
    setup.made.clock.advance(1)
    setup.endpoint(kinds=frozenset({K.BOUNCED, K.DELIVERED}))
    setup.post.hear(setup.post.arrival(campaign, two, K.BOUNCED), setup.post.arrival(campaign, one, K.OPENED))
    setup.follow()
    (body,) = told(setup)
    assert (body["type"], body["data"]["recipient"]) == ("message.bounced", two.address)


def test_what_is_heard_is_told_whatever_time_its_reporter_gives_it(setup: CallbackSetup) -> None:
    campaign = setup.made.campaign(people=1)
    (message,) = setup.post.send_all(campaign)
    setup.made.clock.advance(1)
    made = setup.endpoint()
    setup.post.hear(setup.post.arrival(campaign, message, K.BOUNCED, at=Instant(made.created_at - 600_000)))
    setup.follow()
    assert types(setup) == {"message.bounced": 1}


def test_another_tenant_is_told_nothing(setup: CallbackSetup) -> None:
    wishes = EndpointSettings(url="https://other.example/", kinds=frozenset(EventKind))
    setup.callbacks.create("other", wishes, id="theirs", secret=b"x" * 32)
    setup.post.send_all(setup.made.campaign())
    setup.follow()
    assert setup.deliveries.list("other", "theirs").items == []
    assert list(setup.deliveries.endpoints()) == []


def test_a_campaign_s_own_callback_is_told_of_that_campaign_alone(setup: CallbackSetup) -> None:
    setup.made.campaign(people=2)
    campaign = setup.made.campaign(people=3)
    change_spec(setup.made.campaigns, campaign, callback_url="https://own.example/")
    setup.post.send_all(campaign)
    setup.follow()
    assert types(setup, CAMPAIGN_PREFIX + campaign.ref.campaign) == {"message.queued": 3, "message.sent": 3}


def test_many_events_travel_in_one_request_where_that_is_wanted(setup: CallbackSetup) -> None:
    setup.endpoint(kinds=frozenset({K.SENT}), batch=True)
    setup.made.clock.advance(1)
    setup.post.send_all(setup.made.campaign(people=250))
    setup.follow()
    sizes = [len(body["data"]["events"]) for body in told(setup)]
    assert sum(sizes) == 250
    assert max(sizes) <= MAX_BATCH
    assert len(sizes) <= 4
    assert {body["type"] for body in told(setup)} == {"batch"}


def test_one_that_is_switched_off_is_told_nothing(setup: CallbackSetup) -> None:
    setup.callbacks.disable(setup.endpoint(), "nobody is there")
    setup.post.send_all(setup.made.campaign())
    setup.follow()
    assert told(setup) == []


def test_an_erased_person_s_address_is_not_told_nor_is_the_erasing(setup: CallbackSetup) -> None:
    campaign = setup.made.campaign(people=1)
    (message,) = setup.post.send_all(campaign)
    messages, now = setup.made.messages, setup.made.clock.now()
    opened = messages.open(campaign.ref, message.batch, "w", now, lease_ms=1_000)
    assert opened is not None
    setup.made.clock.advance(1)
    setup.endpoint()
    messages.erase(campaign.ref, message.batch, opened.fence, message.key, setup.made.clock.now())
    setup.follow()
    assert told(setup) == []
    setup.post.hear(setup.post.arrival(campaign, message, K.COMPLAINED))
    setup.follow()
    (body,) = told(setup)
    assert (body["type"], body["data"]["recipient"]) == ("message.complained", "")


@pytest.mark.parametrize("address", [ERASED, None], ids=["the person was erased", "the message is gone"])
def test_words_are_not_told_where_the_address_is_not_known(address: str | None) -> None:
    """They were read before it went; and would stay where an erasure looks for addresses."""
    words, url, now = "agent of anna@mail.example", "https://x.example/?who=anna", Instant(5)
    event = Event(kind=K.CLICKED, attempt=1, at=now, id="e", source="tracking", detail=words, url=url)
    change = MessageChange(CampaignRef("default", "2" * 16), 0, Key(bytes(12)), MessageStatus.SENT, 1, now, 0, "", event, 7)
    told = build_webhook_event(change, event, address)
    assert told is not None
    assert "anna" not in repr(told)


def test_of_two_that_follow_one_does_until_it_is_gone(setup: CallbackSetup) -> None:
    setup.endpoint()
    setup.post.send_all(setup.made.campaign(people=2))
    other = CallbackSetup(setup.made)
    other.consumer._owner = "other"
    assert setup.consumer.once()
    other.made.clock.advance(1)
    assert not other.consumer.once()
    setup.made.clock.advance(60)
    setup.post.send_all(setup.made.campaign(people=2))
    assert other.consumer.once()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_call_of_a_store_loses_and_repeats_nothing(tmp_path: Path, after: bool) -> None:
    number = 1
    while True:
        with bench(tmp_path / str(number)) as made:
            faults, sound = Faults(number, after=after), CallbackSetup(made)
            sound.endpoint()
            sound.endpoint("second", kinds=frozenset({K.BOUNCED}))
            campaign = made.campaign(people=3)
            one, *_ = sound.post.send_all(campaign)
            sound.post.hear(sound.post.arrival(campaign, one, K.BOUNCED))
            victim = CallbackSetup(made, faults)
            try:
                made.clock.advance(100)
                while victim.consumer.once():
                    pass
            except Killed:
                sound.follow()
            assert types(sound) == {"message.queued": 3, "message.sent": 3, "message.bounced": 1}
            assert types(sound, "second") == {"message.bounced": 1}
        if len(faults.calls) < number:
            return
        number += 1


def test_a_campaign_that_was_deleted_stops_nobody(setup: CallbackSetup) -> None:
    setup.endpoint()
    campaign = setup.made.campaign(people=2)
    setup.made.messages.drop(campaign.ref)
    setup.post.send_all(setup.made.campaign(people=2))
    setup.follow()
    assert types(setup)["message.sent"] == 2
