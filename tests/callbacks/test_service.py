"""What is wished at the setup is what is done: tests, secrets, switching off and on, and telling again, up to the requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.callbacks.attempts import signed_headers
from postroom.ledger.callback_endpoints import CallbackSecrets, EndpointSettings
from postroom.model.callback import MAX_AGE_MS, DeliveryStatus
from postroom.services.callbacks import DEFAULT_EVENTS, CallbackService, EndpointChanges
from tests.callbacks.kit import Asked, CallbackSetup, Reply
from tests.fakes.ledger import bench
from tests.fakes.secrets import PlainSecrets

TENANT, HOOK = "default", "hook"
URL = "https://hook.example/"
S1, S2 = b"1" * 32, b"2" * 32


class ServiceSetup:
    """The verbs beside the lines that carry them out."""

    def __init__(self, callbacks_setup: CallbackSetup) -> None:
        self.callbacks_setup = callbacks_setup
        self.service = CallbackService(
            callbacks_setup.callbacks,
            CallbackSecrets(callbacks_setup.made.tables, PlainSecrets(), callbacks_setup.made.clock),
            callbacks_setup.deliveries,
            campaigns=callbacks_setup.made.campaigns,
            networks=(),
            clock=callbacks_setup.made.clock,
        )
        self.service.create(TENANT, EndpointSettings(url=URL, kinds=DEFAULT_EVENTS), id=HOOK, secret=S1)

    def test(self) -> str:
        return self.service.test(TENANT, HOOK, self.service.new_delivery_id()).id

    def asked(self) -> list[Asked]:
        """Since it was last looked."""
        self.callbacks_setup.tell_for(60, step=5)
        asked, self.callbacks_setup.web.asked = self.callbacks_setup.web.asked, []
        return asked

    def state(self, delivery: str) -> DeliveryStatus:
        return self.service.delivery(TENANT, HOOK, delivery).status


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[ServiceSetup]:
    with bench(tmp_path) as made:
        yield ServiceSetup(CallbackSetup(made))


def signed_with(asked: Asked, *secrets: bytes) -> bool:
    seconds = int(asked.headers["webhook-timestamp"])
    return signed_headers(asked.headers["webhook-id"], asked.body, seconds=seconds, secrets=secrets) == asked.headers


def test_a_test_arrives_signed(setup: ServiceSetup) -> None:
    delivery = setup.test()
    (asked,) = setup.asked()
    assert (asked.url, asked.headers["webhook-id"], asked.content["type"]) == (URL, delivery, "postroom.test")
    assert signed_with(asked, S1)
    assert setup.state(delivery) is DeliveryStatus.DELIVERED


def test_after_a_rotation_both_secrets_sign_for_a_day(setup: ServiceSetup) -> None:
    setup.service.rotate(TENANT, HOOK, S2)
    setup.test()
    assert signed_with(setup.asked()[0], S2, S1)
    setup.callbacks_setup.made.clock.advance(86_400)
    setup.test()
    assert signed_with(setup.asked()[0], S2)


def test_what_waits_is_told_where_it_leads_by_then_once_it_is_switched_on(setup: ServiceSetup) -> None:
    delivery = setup.test()
    setup.service.change(TENANT, HOOK, EndpointChanges(enabled=False))
    assert setup.asked() == []
    setup.service.change(TENANT, HOOK, EndpointChanges(enabled=True, url="https://other.example/"))
    assert [(each.url, each.headers["webhook-id"]) for each in setup.asked()] == [("https://other.example/", delivery)]


def test_what_was_given_up_is_told_again_under_its_id(setup: ServiceSetup) -> None:
    setup.callbacks_setup.web.replies[URL] = Reply(500)
    delivery = setup.test()
    setup.callbacks_setup.tell_for(MAX_AGE_MS / 1000, step=1_800)
    assert setup.state(delivery) is DeliveryStatus.DEAD
    setup.callbacks_setup.web.asked.clear()
    setup.callbacks_setup.web.replies[URL] = Reply(204)
    assert setup.service.redeliver_dead(TENANT, HOOK).ordered == 1
    assert [each.headers["webhook-id"] for each in setup.asked()] == [delivery]
    assert setup.state(delivery) is DeliveryStatus.DELIVERED


def test_one_that_answers_410_is_told_again_when_somebody_switches_it_on(setup: ServiceSetup) -> None:
    setup.callbacks_setup.web.replies[URL] = Reply(410)
    delivery = setup.test()
    assert len(setup.asked()) == 1
    assert setup.service.get(TENANT, HOOK).disabled_reason != ""
    setup.callbacks_setup.web.replies[URL] = Reply(200)
    assert setup.service.change(TENANT, HOOK, EndpointChanges(enabled=True)).now.disabled_reason == ""
    setup.service.redeliver(TENANT, HOOK, delivery)
    assert len(setup.asked()) == 1


def test_one_that_was_removed_is_told_nothing_more(setup: ServiceSetup) -> None:
    setup.test()
    setup.service.remove(TENANT, HOOK)
    assert setup.asked() == []
