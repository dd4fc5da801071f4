"""What is wished at the desk is what is done: tests, secrets, switching off and on, and telling again, up to the requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.callbacks.attempts import signed_headers
from postroom.ledger.callback_endpoints import CallbackSecrets, EndpointSettings
from postroom.model.callback import MAX_AGE_MS, DeliveryStatus
from postroom.services.callbacks import DEFAULT_EVENTS, CallbackService, EndpointChanges
from tests.events.callbacks_kit import Asked, Lines, Reply
from tests.fakes.ledger import bench
from tests.fakes.secrets import PlainSecrets

TENANT, HOOK = "default", "hook"
URL = "https://hook.example/"
S1, S2 = b"1" * 32, b"2" * 32


class Desk:
    """The verbs beside the lines that carry them out."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.service = CallbackService(
            lines.callbacks,
            CallbackSecrets(lines.made.tables, PlainSecrets(), lines.made.clock),
            lines.deliveries,
            campaigns=lines.made.campaigns,
            networks=(),
            clock=lines.made.clock,
        )
        self.service.create(TENANT, EndpointSettings(url=URL, kinds=DEFAULT_EVENTS), id=HOOK, secret=S1)

    def test(self) -> str:
        return self.service.test(TENANT, HOOK, self.service.new_delivery_id()).id

    def asked(self) -> list[Asked]:
        """Since it was last looked."""
        self.lines.tell_for(60, step=5)
        asked, self.lines.web.asked = self.lines.web.asked, []
        return asked

    def state(self, delivery: str) -> DeliveryStatus:
        return self.service.delivery(TENANT, HOOK, delivery).status


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with bench(tmp_path) as made:
        yield Desk(Lines(made))


def signed_with(asked: Asked, *secrets: bytes) -> bool:
    seconds = int(asked.headers["webhook-timestamp"])
    return signed_headers(asked.headers["webhook-id"], asked.body, seconds=seconds, secrets=secrets) == asked.headers


def test_a_test_arrives_signed(desk: Desk) -> None:
    delivery = desk.test()
    (asked,) = desk.asked()
    assert (asked.url, asked.headers["webhook-id"], asked.content["type"]) == (URL, delivery, "postroom.test")
    assert signed_with(asked, S1)
    assert desk.state(delivery) is DeliveryStatus.DELIVERED


def test_after_a_rotation_both_secrets_sign_for_a_day(desk: Desk) -> None:
    desk.service.rotate(TENANT, HOOK, S2)
    desk.test()
    assert signed_with(desk.asked()[0], S2, S1)
    desk.lines.made.clock.advance(86_400)
    desk.test()
    assert signed_with(desk.asked()[0], S2)


def test_what_waits_is_told_where_it_leads_by_then_once_it_is_switched_on(desk: Desk) -> None:
    delivery = desk.test()
    desk.service.change(TENANT, HOOK, EndpointChanges(enabled=False))
    assert desk.asked() == []
    desk.service.change(TENANT, HOOK, EndpointChanges(enabled=True, url="https://other.example/"))
    assert [(each.url, each.headers["webhook-id"]) for each in desk.asked()] == [("https://other.example/", delivery)]


def test_what_was_given_up_is_told_again_under_its_id(desk: Desk) -> None:
    desk.lines.web.replies[URL] = Reply(500)
    delivery = desk.test()
    desk.lines.tell_for(MAX_AGE_MS / 1000, step=1_800)
    assert desk.state(delivery) is DeliveryStatus.DEAD
    desk.lines.web.asked.clear()
    desk.lines.web.replies[URL] = Reply(204)
    assert desk.service.redeliver_dead(TENANT, HOOK).ordered == 1
    assert [each.headers["webhook-id"] for each in desk.asked()] == [delivery]
    assert desk.state(delivery) is DeliveryStatus.DELIVERED


def test_one_that_answers_410_is_told_again_when_somebody_switches_it_on(desk: Desk) -> None:
    desk.lines.web.replies[URL] = Reply(410)
    delivery = desk.test()
    assert len(desk.asked()) == 1
    assert desk.service.get(TENANT, HOOK).disabled_reason != ""
    desk.lines.web.replies[URL] = Reply(200)
    assert desk.service.change(TENANT, HOOK, EndpointChanges(enabled=True)).now.disabled_reason == ""
    desk.service.redeliver(TENANT, HOOK, delivery)
    assert len(desk.asked()) == 1


def test_one_that_was_removed_is_told_nothing_more(desk: Desk) -> None:
    desk.test()
    desk.service.remove(TENANT, HOOK)
    assert desk.asked() == []
