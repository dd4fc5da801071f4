"""`/v1/callbacks` at the door: who may, what is shown, secrets once, what was told and telling it again."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from msgspec.structs import replace

from postroom.gateway.routes.callbacks import callbacks_routes
from postroom.ledger.callback_deliveries import CallbackDeliveries, EndpointRef
from postroom.ledger.callback_endpoints import MAX_ENDPOINTS, CallbackEndpoints, CallbackSecrets
from postroom.model.callback import DeliveryStatus
from postroom.model.event import EventKind
from postroom.services.callbacks import CallbackService
from tests.fakes.campaigns import change_spec
from tests.fakes.ledger import Bench, bench
from tests.fakes.secrets import PlainSecrets
from tests.gateway.door_kit import whole_door
from tests.gateway.kit import client_of, problem

URL = "https://shop.example/hook"
CALLBACKS = "/v1/callbacks"
NOBODYS = "oooooooooooooooo"


class House:
    """The real service over the embedded stores."""

    def __init__(self, made: Bench) -> None:
        self.made = made
        secrets = CallbackSecrets(made.tables, PlainSecrets(), made.clock)
        self.callbacks = CallbackEndpoints(made.tables, secrets, made.clock)
        self.deliveries = CallbackDeliveries(made.tables, made.clock)
        self.service = CallbackService(
            self.callbacks, secrets, self.deliveries, campaigns=made.campaigns, networks=(), clock=made.clock
        )

    def client(self, role: str = "admin", tenant: str = "default") -> TestClient:
        return client_of([callbacks_routes(self.service, PlainSecrets())], role, tenant, tables=self.made.tables)

    def signs_with(self, id: str) -> list[bytes]:  # noqa: A002
        return list(self.callbacks.signing_secrets(self.callbacks.get("default", id)))

    def answered(self, id: str, status: int, text: str, state: DeliveryStatus) -> None:  # noqa: A002
        """What is due now, once it was answered so."""
        taken = self.deliveries.claim(EndpointRef("default", id), limit=33, lease_ms=60_000)
        tried = {"due": None, "attempts": 1, "last_at": self.made.clock.now(), "took_ms": 12}
        became = [replace(each.delivery, status=state, last_status=status, last_text=text, **tried) for each in taken]
        self.deliveries.settle(taken, became)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with bench(tmp_path) as made:
        yield House(made)


@pytest.fixture
def client(house: House) -> Iterator[TestClient]:
    with house.client() as client:
        yield client


def made(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post(CALLBACKS, json={"url": URL, **fields})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def secret_of(shown: dict[str, Any]) -> bytes:
    text: str = shown["secret"]
    assert text.startswith("whsec_")
    return base64.b64decode(text.removeprefix("whsec_"))


def test_one_is_made_shown_and_listed_and_its_secret_is_in_one_answer_only(house: House, client: TestClient) -> None:
    answer = client.post(CALLBACKS, json={"url": URL, "events": ["message.bounced"], "description": "the shop"})
    shown = answer.json()
    secret = secret_of(shown)
    assert house.signs_with(shown["id"]) == [secret]
    assert (answer.headers["location"], answer.headers["cache-control"]) == (f"{CALLBACKS}/{shown['id']}", "no-store")
    del shown["secret"]
    expected = {"url": URL, "events": ["message.bounced"], "description": "the shop", "batch": False, "enabled": True}
    expected |= {"disabled_reason": "", "failing_since": None, "secret_changed_at": None}
    assert {name: value for name, value in shown.items() if name not in {"id", "created_at"}} == expected
    got = client.get(f"{CALLBACKS}/{shown['id']}")
    assert (got.json(), got.headers["etag"]) == (shown, answer.headers["etag"])
    listed = client.get(CALLBACKS)
    assert listed.json() == {"items": [shown], "cursor": None}
    assert "whsec_" not in got.text + listed.text


def test_without_events_it_is_told_of_all_but_queued(client: TestClient) -> None:
    events = made(client)["events"]
    assert set(events) == {f"message.{kind}" for kind in EventKind if kind is not EventKind.QUEUED}


def test_a_call_that_comes_again_makes_one_with_the_same_secret(house: House, client: TestClient) -> None:
    answers = [client.post(CALLBACKS, json={"url": URL}, headers={"Idempotency-Key": "one"}) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert len(client.get(CALLBACKS).json()["items"]) == 1
    id = answers[0].json()["id"]  # noqa: A001
    path = f"{CALLBACKS}/{id}/rotate-secret"
    rotated = [client.post(path, headers={"Idempotency-Key": "two"}).json() for _ in range(2)]
    assert rotated[0] == rotated[1]
    assert house.signs_with(id) == [secret_of(rotated[0]), secret_of(answers[0].json())]


def test_no_secret_is_found_on_the_disk(tmp_path: Path) -> None:
    """Neither in the record, nor in answers that are kept for a repetition, nor in the audit trail."""
    with whole_door(tmp_path) as door, door.client("admin") as client:
        keyed = [{"Idempotency-Key": f"call {number}"} for number in range(3)]
        first = client.post(CALLBACKS, json={"url": URL}, headers=keyed[0]).json()
        answers = [
            first,
            client.post(f"{CALLBACKS}/{first['id']}/rotate-secret", headers=keyed[1]).json(),
            client.post(f"{CALLBACKS}/campaign-secret/rotate", headers=keyed[2]).json(),
        ]
    stored = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(first["id"].encode() in content for content in stored)
    for secret in map(secret_of, answers):
        forms = {secret, secret.hex().encode(), base64.b64encode(secret), base64.urlsafe_b64encode(secret)}
        assert not any(form in content for form in forms for content in stored)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"url": "http://shop.example/"}, "https://"),
        ({"url": "https://127.0.0.1/"}, "public Internet"),
        ({"url": "https://user:pass@shop.example/"}, "user"),
        ({"url": "https://[::1/"}, "no URL"),
    ],
)
def test_a_url_that_must_not_be_told_says_why(client: TestClient, fields: dict[str, Any], says: str) -> None:
    assert says in problem(client.post(CALLBACKS, json=fields), 422)
    assert says in problem(client.patch(f"{CALLBACKS}/{made(client)['id']}", json=fields), 422)


@pytest.mark.parametrize(
    "fields",
    [
        {"events": ["bounced"]},
        {"events": ["message.vanished"]},
        {"events": []},
        {"events": [7]},
        {"batch": 1},
        {"description": "two\nlines"},
        {"secret": "whsec_mine"},
    ],
)
def test_what_the_description_does_not_allow_is_refused(client: TestClient, fields: dict[str, Any]) -> None:
    problem(client.post(CALLBACKS, json={"url": URL, **fields}), 422)
    assert client.get(CALLBACKS).json()["items"] == []


def test_there_is_a_most(client: TestClient) -> None:
    for _ in range(MAX_ENDPOINTS):
        made(client)
    assert "50" in problem(client.post(CALLBACKS, json={"url": URL}), 409)


def test_two_editors_do_not_undo_each_other(client: TestClient) -> None:
    answer = client.post(CALLBACKS, json={"url": URL})
    path, etag = f"{CALLBACKS}/{answer.json()['id']}", answer.headers["etag"]
    assert client.get(path, headers={"If-None-Match": etag}).status_code == 304
    changed = client.patch(path, json={"events": ["message.opened"], "batch": True}, headers={"If-Match": etag})
    assert (changed.json()["events"], changed.json()["batch"], changed.json()["url"]) == (["message.opened"], True, URL)
    assert changed.headers["etag"] != etag
    problem(client.patch(path, json={"batch": False}, headers={"If-Match": etag}), 412)
    assert client.patch(path, json={"description": None}).json() == changed.json()


def test_one_that_was_switched_off_says_why_until_it_is_switched_on(house: House, client: TestClient) -> None:
    path = f"{CALLBACKS}/{made(client)['id']}"
    house.callbacks.disable(house.callbacks.list("default")[0], "it answered 410")
    assert client.get(path).json()["disabled_reason"] == "it answered 410"
    assert "switched off" in problem(client.post(f"{path}/test"), 409)
    on = client.patch(path, json={"enabled": True}).json()
    assert (on["enabled"], on["disabled_reason"]) == (True, "")
    assert client.post(f"{path}/test").status_code == 202


def test_one_that_is_deleted_is_gone_with_what_it_was_told(house: House, client: TestClient) -> None:
    path = f"{CALLBACKS}/{made(client)['id']}"
    client.post(f"{path}/test")
    assert client.delete(path).status_code == 204
    for answer in (client.get(path), client.delete(path), client.get(f"{path}/deliveries")):
        problem(answer, 404)
    assert list(house.deliveries.endpoints()) == []


def test_a_test_is_seen_with_its_body_and_what_was_answered(house: House, client: TestClient) -> None:
    id = made(client)["id"]  # noqa: A001
    path = f"{CALLBACKS}/{id}"
    ordered = client.post(f"{path}/test", headers={"Idempotency-Key": "once"})
    assert client.post(f"{path}/test", headers={"Idempotency-Key": "once"}).json() == ordered.json()
    delivery = f"{path}/deliveries/{ordered.json()['delivery_id']}"
    waiting = client.get(delivery).json()
    assert (waiting["status"], waiting["tries"], waiting["last"], waiting["events"]) == ("pending", 0, None, 0)
    assert json.loads(waiting["body"])["data"] == {"callback_id": id}
    house.answered(id, 200, "thanks", DeliveryStatus.DELIVERED)
    told = client.get(delivery).json()
    assert (told["status"], told["next_at"]) == ("delivered", None)
    assert (told["last"]["status"], told["last"]["text"], told["last"]["took_ms"]) == (200, "thanks", 12)
    (listed,) = client.get(f"{path}/deliveries").json()["items"]
    assert listed == {name: value for name, value in told.items() if name != "body"}


def test_deliveries_come_newest_first_in_pages_and_by_state(house: House, client: TestClient) -> None:
    id = made(client)["id"]  # noqa: A001
    path = f"{CALLBACKS}/{id}"
    names = []
    for _ in range(3):
        names.append(client.post(f"{path}/test").json()["delivery_id"])
        house.made.clock.advance(1)
    page = client.get(f"{path}/deliveries", params={"limit": 2}).json()
    rest = client.get(f"{path}/deliveries", params={"limit": 2, "cursor": page["cursor"]}).json()
    assert [each["id"] for each in (*page["items"], *rest["items"])] == names[::-1]
    assert rest["cursor"] is None
    house.answered(id, 500, "no", DeliveryStatus.DEAD)
    assert len(client.get(f"{path}/deliveries", params={"status": "dead"}).json()["items"]) == 3
    assert client.get(f"{path}/deliveries", params={"status": "pending"}).json()["items"] == []
    problem(client.get(f"{path}/deliveries", params={"status": "lost"}), 422)


def test_what_was_given_up_is_told_again_one_or_all(house: House, client: TestClient) -> None:
    id = made(client)["id"]  # noqa: A001
    path = f"{CALLBACKS}/{id}"
    names = [client.post(f"{path}/test").json()["delivery_id"] for _ in range(3)]
    house.answered(id, 500, "no", DeliveryStatus.DEAD)
    again = client.post(f"{path}/deliveries/{names[0]}/redeliver")
    assert (again.status_code, again.json()["id"], again.json()["status"]) == (202, names[0], "pending")
    late = client.post(f"{path}/redeliver", json={"since": "2100-01-01T00:00:00+01:00"})
    assert (late.status_code, late.json()) == (202, {"count": 0, "cursor": None})
    assert client.post(f"{path}/redeliver", json={}).json()["count"] == 2
    assert client.post(f"{path}/redeliver", json={}).json()["count"] == 0
    assert len(house.deliveries.claim(EndpointRef("default", id), limit=33, lease_ms=1)) == 3
    problem(client.post(f"{path}/redeliver", json={"since": "2026-02-30T00:00:00Z"}), 422)
    problem(client.post(f"{path}/redeliver", json={"cursor": "no cursor"}), 422)
    problem(client.post(f"{path}/deliveries/{'o' * 30}/redeliver"), 404)


def test_a_campaigns_own_deliveries_are_found_by_its_id(house: House, client: TestClient) -> None:
    campaign = change_spec(house.made.campaigns, house.made.campaign(), callback_url=URL)
    path = f"{CALLBACKS}/campaign-{campaign.ref.campaign}"
    assert client.get(f"{path}/deliveries").json() == {"items": [], "cursor": None}
    assert client.post(f"{path}/redeliver", json={}).json() == {"count": 0, "cursor": None}
    problem(client.get(path), 422)
    problem(client.get(f"{CALLBACKS}/campaign-{NOBODYS}/deliveries"), 404)
    with house.client(tenant="other") as other:
        problem(other.get(f"{path}/deliveries"), 404)


def test_campaigns_share_a_secret_that_admins_see(house: House, client: TestClient) -> None:
    path = f"{CALLBACKS}/campaign-secret"
    first = client.get(path)
    assert first.headers["cache-control"] == "no-store"
    assert client.get(path).json() == first.json()
    rotated = client.post(f"{path}/rotate")
    assert rotated.headers["cache-control"] == "no-store"
    assert client.get(path).json() == rotated.json() != first.json()
    campaign = change_spec(house.made.campaigns, house.made.campaign(), callback_url=URL)
    endpoint = house.callbacks.of_campaign(campaign)
    assert endpoint is not None
    assert house.callbacks.signing_secrets(endpoint) == [secret_of(rotated.json()), secret_of(first.json())]


def test_another_tenants_answers_as_one_that_nobody_has(house: House, client: TestClient) -> None:
    id = made(client)["id"]  # noqa: A001
    delivery = client.post(f"{CALLBACKS}/{id}/test").json()["delivery_id"]
    before = client.get(f"{CALLBACKS}/{id}").json()
    with house.client(tenant="other") as other:
        for name in (id, NOBODYS):
            path = f"{CALLBACKS}/{name}"
            for answer in (
                other.get(path),
                other.patch(path, json={"enabled": False}),
                other.delete(path),
                other.post(f"{path}/rotate-secret"),
                other.post(f"{path}/test"),
                other.get(f"{path}/deliveries"),
                other.get(f"{path}/deliveries/{delivery}"),
                other.post(f"{path}/deliveries/{delivery}/redeliver"),
                other.post(f"{path}/redeliver", json={}),
            ):
                assert problem(answer, 404) == f"there is no callback {name}"
        assert other.get(CALLBACKS).json()["items"] == []
    assert client.get(f"{CALLBACKS}/{id}").json() == before


@pytest.mark.parametrize("role", ["viewer", "editor", "sender"])
def test_everybody_reads_and_admins_change(house: House, client: TestClient, role: str) -> None:
    id = made(client)["id"]  # noqa: A001
    path = f"{CALLBACKS}/{id}"
    with house.client(role) as somebody:
        assert [somebody.get(each).status_code for each in (CALLBACKS, path, f"{path}/deliveries")] == [200, 200, 200]
        for answer in (
            somebody.post(CALLBACKS, json={"url": URL}),
            somebody.patch(path, json={"enabled": False}),
            somebody.delete(path),
            somebody.post(f"{path}/rotate-secret"),
            somebody.post(f"{path}/test"),
            somebody.post(f"{path}/redeliver", json={}),
            somebody.get(f"{CALLBACKS}/campaign-secret"),
            somebody.post(f"{CALLBACKS}/campaign-secret/rotate"),
        ):
            problem(answer, 403)
    assert client.get(path).json()["enabled"] is True
