"""The verbs of callbacks: which URLs may be told, what a change begins anew, what is told again, and whose it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from postroom.clock import Instant
from postroom.errors import Conflict, Invalid, NotFound
from postroom.ledger.callback_deliveries import CallbackDeliveries, EndpointRef
from postroom.ledger.callback_endpoints import CallbackEndpoints, CallbackSecrets, EndpointSettings
from postroom.model.callback import MAX_URL, CallbackDelivery, CallbackEndpoint, DeliveryStatus, check_callback_url
from postroom.model.campaign import Campaign
from postroom.model.event import EventKind
from postroom.services import callbacks as module
from postroom.services.callbacks import DEFAULT_EVENTS, CallbackService, EndpointChanges, parse_instant
from tests.fakes.campaigns import change_spec
from tests.fakes.faults import Faults, Killed
from tests.fakes.ledger import Bench, bench
from tests.fakes.secrets import PlainSecrets

TENANT = "default"
WISHES = EndpointSettings(url="https://shop.example/hook", kinds=DEFAULT_EVENTS)
S1, S2 = (bytes([number]) * 32 for number in (1, 2))


class Desk:
    """The service over the embedded stores; `faults` counts its calls of the tables."""

    def __init__(self, made: Bench, faults: Faults | None = None) -> None:
        self.made = made
        self.clock = made.clock
        tables = (faults or Faults()).wrap(made.tables)
        self.secrets = CallbackSecrets(tables, PlainSecrets(), self.clock)
        self.callbacks = CallbackEndpoints(tables, self.secrets, self.clock)
        self.deliveries = CallbackDeliveries(tables, self.clock)
        self.service = CallbackService(
            self.callbacks,
            self.secrets,
            self.deliveries,
            campaigns=self.made.campaigns,
            networks=(),
            clock=self.clock,
        )

    def hook(self, id: str = "hook") -> CallbackEndpoint:  # noqa: A002
        return self.service.create(TENANT, WISHES, id=id, secret=S1)

    def give_up(self, *names: str, endpoint: str = "hook") -> None:
        """Deliveries that nobody answered for a day."""
        now, lane = self.clock.now(), EndpointRef(TENANT, endpoint)
        new = CallbackDelivery(id="", endpoint=endpoint, tenant=TENANT, body="{}", created_at=now, since=now, due=now)
        self.deliveries.add([replace(new, id=name) for name in names])
        taken = self.deliveries.claim(lane, limit=33, lease_ms=60_000)
        ended = [replace(each.delivery, status=DeliveryStatus.DEAD, due=None, last_at=now) for each in taken]
        self.deliveries.settle(taken, ended)

    def campaign(self, url: str | None) -> Campaign:
        """One that names that URL."""
        return change_spec(self.made.campaigns, self.made.campaign(), callback_url=url)

    def standing(self, endpoint: str = "hook") -> dict[str, DeliveryStatus]:
        return {each.id: each.status for each in self.service.deliveries(TENANT, endpoint).items}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with bench(tmp_path) as made:
        yield Desk(made)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://shop.example/", "https://"),
        ("https:///hook", "https://"),
        ("http://shop.example/", "https://"),
        ("https://user:secret@shop.example/", "user"),
        ("https://shop.example/#part", "fragment"),
        ("https://shöp.example/", "ASCII"),
        ("https://shop.example/a b", "spaces"),
        ("https://shop.example:99999/", "no URL"),
        ("https://[::1/", "no URL"),
        ("https://shop.example/" + "x" * MAX_URL, "characters"),
        ("https://localhost/", "public Internet"),
        ("https://LOCALHOST./", "public Internet"),
        ("https://127.0.0.1/", "public Internet"),
        ("https://10.1.2.3/", "public Internet"),
        ("https://169.254.169.254/latest", "public Internet"),
        ("https://[::1]/", "public Internet"),
        ("https://[fd00::1]/", "public Internet"),
        ("https://[::ffff:10.0.0.1]/", "public Internet"),
        ("https://[64:ff9b::7f00:1]/", "public Internet"),
        ("https://[2002:7f00:1::]/", "public Internet"),
        ("https://224.0.0.1/", "public Internet"),
        ("https://192.0.0.192/", "public Internet"),
        ("https://10.0.0.1./", "public Internet"),
        ("https://hooks.localhost/", "public Internet"),
        ("https://127.1/", "four numbers"),
        ("https://2130706433/", "four numbers"),
        ("https://127.0.0.0x1/", "four numbers"),
        ("https://shop.example/\x00", "printable"),
        ("https://shop.example/\x7f", "printable"),
    ],
)
def test_a_url_that_must_not_be_told_is_refused_with_the_reason(desk: Desk, url: str, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        desk.service.create(TENANT, EndpointSettings(url=url, kinds=DEFAULT_EVENTS), id="hook", secret=S1)
    desk.hook()
    with pytest.raises(Invalid, match=says):
        desk.service.change(TENANT, "hook", EndpointChanges(url=url))
    assert desk.service.get(TENANT, "hook").url == WISHES.url


@pytest.mark.parametrize(
    "url", ["http://10.1.2.3:8080/x", "https://10.9.9.9/", "http://inside.example/", "https://shop.example/"]
)
def test_networks_of_ones_own_may_be_told_without_tls(url: str) -> None:
    assert check_callback_url(url, ("10.0.0.0/8",)) == url


@pytest.mark.parametrize("url", ["http://192.168.1.1/", "https://127.0.0.1/", "http://93.184.215.14/", "http://[2606:4700::1]/"])
def test_other_addresses_are_as_ever(url: str) -> None:
    with pytest.raises(Invalid):
        check_callback_url(url, ("10.0.0.0/8",))


def test_by_default_it_is_told_of_all_but_that_a_message_was_accepted() -> None:
    assert frozenset(EventKind) - DEFAULT_EVENTS == {EventKind.QUEUED}


def test_who_switches_one_on_again_begins_anew(desk: Desk) -> None:
    desk.callbacks.failed(desk.hook())
    desk.callbacks.disable(desk.callbacks.get(TENANT, "hook"), "it answered 410")
    was, now = desk.service.change(TENANT, "hook", EndpointChanges(enabled=True))
    assert (was.enabled, was.disabled_reason) == (False, "it answered 410")
    assert (now.enabled, now.disabled_reason, now.failing_since) == (True, "", None)


def test_one_that_leads_elsewhere_has_not_failed_yet(desk: Desk) -> None:
    desk.callbacks.failed(desk.hook())
    assert desk.service.change(TENANT, "hook", EndpointChanges(url=WISHES.url, description="x")).now.failing_since is not None
    assert desk.service.change(TENANT, "hook", EndpointChanges(url="https://other.example/")).now.failing_since is None


def test_why_it_was_switched_off_stays_until_somebody_switches_it_on(desk: Desk) -> None:
    desk.callbacks.disable(desk.hook(), "it answered 410")
    for edit in (EndpointChanges(enabled=False), EndpointChanges(description="the shop")):
        assert desk.service.change(TENANT, "hook", edit).now.disabled_reason == "it answered 410"


def test_an_edit_that_changes_nothing_writes_nothing(desk: Desk) -> None:
    was = desk.hook()
    edit = EndpointChanges(url=was.url, kinds=was.kinds, description="", batch=False, enabled=True)
    assert desk.service.change(TENANT, "hook", edit) == (was, was)


def test_a_change_wins_over_what_its_server_answers_meanwhile(desk: Desk) -> None:
    """The record is changed by the runner too: nobody is told of a conflict for that."""
    desk.hook()
    seen: list[CallbackEndpoint] = []

    def fails_now(endpoint: CallbackEndpoint) -> None:
        seen.append(endpoint)
        if len(seen) == 1:
            desk.callbacks.failed(endpoint)

    changed = desk.service.change(TENANT, "hook", EndpointChanges(description="new"), demand=fails_now).now
    assert (changed.description, changed.failing_since) == ("new", desk.clock.now())
    assert len(seen) == 2


def test_a_test_is_a_delivery_that_is_due_at_once_and_made_once(desk: Desk) -> None:
    desk.hook()
    name = desk.service.new_delivery_id()
    first = desk.service.test(TENANT, "hook", name)
    desk.clock.advance(5)
    assert desk.service.test(TENANT, "hook", name) == first
    (taken,) = desk.deliveries.claim(EndpointRef(TENANT, "hook"), limit=10, lease_ms=60_000)
    content = json.loads(taken.delivery.body)
    assert (content["type"], content["data"]) == ("postroom.test", {"callback_id": "hook"})
    assert (taken.delivery.id, taken.delivery.events) == (name, 0)


def test_one_that_is_switched_off_is_not_tested(desk: Desk) -> None:
    desk.hook()
    desk.service.change(TENANT, "hook", EndpointChanges(enabled=False))
    with pytest.raises(Conflict, match="switched off"):
        desk.service.test(TENANT, "hook", desk.service.new_delivery_id())
    assert desk.standing() == {}


def test_ids_of_tests_begin_with_their_time(desk: Desk) -> None:
    first = desk.service.new_delivery_id()
    desk.clock.advance(0.001)
    assert first < desk.service.new_delivery_id()


def test_what_was_given_up_since_then_is_told_again_part_by_part(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postroom.ledger.callback_deliveries._DEAD_PAGE", 2)
    monkeypatch.setattr(module, "MAX_EXAMINED", 4)
    desk.hook()
    desk.give_up("a")
    desk.clock.advance(60)
    since = desk.clock.now()
    desk.give_up("b", "c", "d", "e", "f")
    part = desk.service.redeliver_dead(TENANT, "hook", since=since)
    assert (part.ordered, part.cursor is None) == (4, False)
    part = desk.service.redeliver_dead(TENANT, "hook", since=since, cursor=part.cursor)
    assert (part.ordered, part.cursor) == (1, None)
    assert [name for name, state in desk.standing().items() if state is DeliveryStatus.DEAD] == ["a"]


def test_one_is_told_again_under_its_id(desk: Desk) -> None:
    desk.hook()
    desk.give_up("a")
    again = desk.service.redeliver(TENANT, "hook", "a")
    assert (again.id, again.status, again.due) == ("a", DeliveryStatus.PENDING, desk.clock.now())


def test_what_is_removed_is_gone_with_all_that_it_was_told(desk: Desk) -> None:
    desk.hook()
    desk.give_up("a")
    desk.service.test(TENANT, "hook", desk.service.new_delivery_id())
    desk.service.remove(TENANT, "hook")
    for verb in (desk.service.get, desk.service.deliveries, desk.service.remove):
        with pytest.raises(NotFound):
            verb(TENANT, "hook")
    assert desk.deliveries.list(TENANT, "hook").items == []
    assert list(desk.deliveries.endpoints()) == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_while_one_is_removed_leaves_it_or_nothing_that_is_told(tmp_path: Path, after: bool) -> None:
    number = 1
    while True:
        faults = Faults(number, after=after)
        with bench(tmp_path / str(number)) as made:
            dying, again = Desk(made, faults), Desk(made)
            again.hook()
            again.give_up("a")
            try:
                dying.service.remove(TENANT, "hook")
            except Killed:
                if again.service.list(TENANT):
                    again.service.remove(TENANT, "hook")
            assert again.service.list(TENANT) == []
            with pytest.raises(NotFound):
                again.secrets.get(TENANT, "hook")
        if len(faults.calls) < number:
            return
        number += 1


def test_a_secret_that_is_rotated_again_with_the_same_is_rotated_once(desk: Desk) -> None:
    desk.hook()
    for _ in range(2):
        endpoint = desk.service.rotate(TENANT, "hook", S2)
    assert desk.callbacks.signing_secrets(endpoint) == [S2, S1]


def test_campaigns_have_one_secret_which_is_rotated_like_others(desk: Desk) -> None:
    first = desk.service.campaign_secret(TENANT)
    assert desk.service.campaign_secret(TENANT) == first
    assert desk.service.campaign_secret("other") != first
    desk.service.rotate_campaign_secret(TENANT, S2)
    campaign = desk.campaign("https://shop.example/own")
    endpoint = desk.callbacks.of_campaign(desk.made.campaigns.get(campaign.ref))
    assert endpoint is not None
    assert desk.callbacks.signing_secrets(endpoint) == [S2, first]
    desk.service.rotate_campaign_secret("new", S1)
    assert desk.service.campaign_secret("new") == S1


def test_what_a_campaign_s_own_was_told_is_found_by_its_tenant_alone(desk: Desk) -> None:
    campaign = desk.campaign("https://shop.example/own")
    name = f"campaign-{campaign.ref.campaign}"
    desk.give_up("a", endpoint=name)
    assert desk.standing(name) == {"a": DeliveryStatus.DEAD}
    assert desk.service.redeliver_dead(TENANT, name).ordered == 1
    assert desk.service.delivery(TENANT, name, "a").status is DeliveryStatus.PENDING
    for tenant, asked in (("other", name), (TENANT, "campaign-oooooooooooooooo")):
        with pytest.raises(NotFound, match="there is no callback campaign-"):
            desk.service.deliveries(tenant, asked)


def test_a_campaign_that_names_none_has_none(desk: Desk) -> None:
    campaign = desk.campaign(None)
    with pytest.raises(NotFound):
        desk.service.deliveries(TENANT, f"campaign-{campaign.ref.campaign}")


@pytest.mark.parametrize("verb", ["get", "remove", "deliveries", "redeliver_dead"])
def test_of_another_tenant_it_is_not_there(desk: Desk, verb: str) -> None:
    desk.hook()
    with pytest.raises(NotFound):
        getattr(desk.service, verb)("other", "hook")
    assert desk.service.list("other") == []
    assert len(desk.service.list(TENANT)) == 1


def test_times_have_offsets() -> None:
    assert parse_instant("1970-01-01T01:00:01+01:00") == Instant(1_000)
    for text in ("1970-01-01T00:00:00", "yesterday", "2026-02-30T00:00:00Z"):
        with pytest.raises(Invalid):
            parse_instant(text)
