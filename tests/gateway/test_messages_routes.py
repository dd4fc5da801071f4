"""Single messages at the door: accepted with an id, refused with a problem, each of a hundred by itself, and nobody else's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from postroom.clock import SystemClock
from postroom.errors import Invalid, Unavailable
from postroom.gateway.app import create_app
from postroom.gateway.routes.messages import message_routes, template_test_routes
from postroom.gateway.state import GatewayConfig
from postroom.ledger.suppression import SuppressionReason
from postroom.model.campaign import CampaignRef
from postroom.model.ids import recipient_key
from tests.fakes.secrets import PlainSecrets
from tests.fakes.transactional import HTML, TransactionalBench, transactional_bench
from tests.gateway.kit import Believer, client_of, problem

BODY: dict[str, Any] = {
    "to": "Anna <anna@example.org>",
    "from": "orders@shop.example",
    "subject": "Code {{ code }}",
    "html": HTML,
    "variables": {"name": "Anna", "code": 4711},
}
URL = "/v1/messages"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[TransactionalBench]:
    with transactional_bench(tmp_path) as opened:
        yield opened


@contextmanager
def door(made: TransactionalBench, role: str = "sender", tenant: str = "default") -> Iterator[TestClient]:
    def default_from(tenant: str) -> str:
        if tenant != "default":
            raise Invalid("from: this tenant has no usual sender")
        return "hello@shop.example"

    routers = [message_routes(made.service), template_test_routes(made.service, default_from)]
    with client_of(routers, role, tenant) as client:
        yield client


def test_a_message_is_accepted_shown_and_listed(made: TransactionalBench) -> None:
    with door(made) as client:
        sent = client.post(URL, json=BODY)
        assert sent.status_code == 202, sent.text
        assert sent.json() == {"id": sent.json()["id"], "status": "accepted"}
        shown = client.get(f"{URL}/{sent.json()['id']}").json()
        assert (shown["status"], shown["to"], shown["name"]) == ("pending", "anna@example.org", "Anna")
        assert (shown["from"], shown["subject"], shown["next_attempt_at"]) == ("orders@shop.example", "Code {{ code }}", None)
        assert [(event["kind"], event["at"]) for event in shown["events"]] == [("queued", shown["accepted_at"])]
        listed = client.get(URL).json()
        assert [item["id"] for item in listed["items"]] == [shown["id"]]
        assert listed["cursor"] is None


def test_what_happened_to_it_is_shown(made: TransactionalBench) -> None:
    with door(made) as client:
        id = client.post(URL, json=BODY).json()["id"]  # noqa: A001
        made.send(lambda: made.states() == ["sent"])
        shown = client.get(f"{URL}/{id}").json()
        assert [(event["kind"], event["attempt"], event["source"]) for event in shown["events"]] == [
            ("queued", 0, "postroom"),
            ("sent", 1, "smtp"),
        ]
        assert (shown["provider_id"], shown["attempts"]) == ("1", 1)
        assert client.get(URL, params={"status": "sent"}).json()["items"][0]["id"] == id
        assert client.get(URL, params={"status": ["pending", "failed"]}).json()["items"] == []
        assert client.get(URL, params={"day": "2020-02-29"}).json()["items"] == []
        assert client.get(URL, params={"day": "0001-01-01"}).json()["items"] == []
        assert client.get(URL, params={"day": "0"}).status_code == 422


def test_what_cannot_be_sent_is_a_problem(made: TransactionalBench) -> None:
    with door(made) as client:
        assert "to: " in problem(client.post(URL, json={**BODY, "to": "nobody"}), 422)
        assert "'code' is missing" in problem(client.post(URL, json={**BODY, "variables": {"name": "Anna"}}), 422)
        assert "may not send" in problem(client.post(URL, json={**BODY, "from": "ceo@bank.example"}), 403)
        assert "no template" in problem(
            client.post(URL, json={"to": "a@b.example", "from": BODY["from"], "template_id": "x"}), 404
        )
        key = recipient_key(made.tenants.get("default").secret, "anna@example.org")
        made.suppression.add("default", key, address="anna@example.org", reason=SuppressionReason.COMPLAINT)
        assert "suppression list" in problem(client.post(URL, json=BODY), 422)


@pytest.mark.parametrize(
    "change",
    [
        {"variables": {"code": [1], "name": "x"}},
        {"variables": {"code": {"a": 1}, "name": "x"}},
        {"variables": {"na me": "x"}},
        {"variables": {"name": "\0"}},
        {"variables": {"name": "\ud800"}},
        {"to": "a\0@b.example"},
        {"to": "\ud800@b.example"},
        {"subject": "\ud800"},
        {"html": None},
        {"subject": None},
        {"template_id": "x"},
        {"cc": "b@example.org"},
        {"attachments": [{"upload_id": "../x"}]},
        {"topic": "\0"},
        {"to": ["a@b.example", "b@b.example"]},
    ],
)
def test_what_the_document_forbids_is_refused(made: TransactionalBench, change: dict[str, Any]) -> None:
    with door(made) as client:
        content = json.dumps({**BODY, **change})  # in ASCII: the client refuses to send a lone surrogate as such
        assert client.post(URL, content=content, headers={"Content-Type": "application/json"}).status_code == 422
        assert made.states() == []


def test_each_message_of_an_array_has_its_own_result(made: TransactionalBench) -> None:
    key = recipient_key(made.tenants.get("default").secret, "no@example.org")
    made.suppression.add("default", key, address="no@example.org", reason=SuppressionReason.UNSUBSCRIBE)
    with door(made) as client:
        answer = client.post(URL, json=[BODY, {**BODY, "to": "nobody"}, {**BODY, "to": "no@example.org"}, BODY])
        assert answer.status_code == 202
        results = answer.json()["results"]
        assert [result["status"] for result in results] == ["accepted", "refused", "suppressed", "accepted"]
        assert results[1]["problem"]["status"] == 422
        assert [result.get("problem", {}).get("type") for result in results] == [
            None,
            "/problems/invalid-address",
            "/problems/recipient-suppressed",
            None,
        ]
        assert len({results[0]["id"], results[3]["id"]}) == 2
        assert client.post(URL, json=[]).status_code == 422
        assert client.post(URL, json=[BODY] * 101).status_code == 422


def test_faults_are_told_at_their_place_in_the_body(made: TransactionalBench) -> None:
    with door(made) as client:
        one = client.post(URL, json={**BODY, "to": 5}).json()["errors"]
        many = client.post(URL, json=[BODY, {**BODY, "tracking": {"opens": "yes"}}]).json()["errors"]
    assert [(fault["in"], fault["pointer"]) for fault in one] == [("body", "#/to")]
    assert [(fault["in"], fault["pointer"]) for fault in many] == [("body", "#/1/tracking/opens")]


def test_who_may_not_send_may_only_look(made: TransactionalBench) -> None:
    with door(made, "editor") as client:
        problem(client.post(URL, json=BODY), 403)
        assert client.get(URL).status_code == 200


def test_another_tenants_message_is_a_message_that_nobody_has(made: TransactionalBench) -> None:
    made.tenants.create("other")
    with door(made) as client:
        id = client.post(URL, json=BODY).json()["id"]  # noqa: A001
    nobody = id[:-1] + ("3" if id[-1] == "2" else "2")
    with door(made, "admin", "other") as client:
        theirs = problem(client.get(f"{URL}/{id}"), 404)
        nobodys = problem(client.get(f"{URL}/{nobody}"), 404)
        assert theirs.replace(id, "") == nobodys.replace(nobody, "")
        assert client.get(URL).json()["items"] == []


def test_a_foreign_cursor_is_refused(made: TransactionalBench) -> None:
    with door(made) as client:
        client.post(URL, json=BODY)
        problem(client.get(URL, params={"cursor": "nonsense"}), 422)


def test_pages_hold_every_message_once(made: TransactionalBench) -> None:
    with door(made) as client:
        ids = {result["id"] for result in client.post(URL, json=[BODY] * 25).json()["results"]}
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = client.get(URL, params={"limit": 10} | ({"cursor": cursor} if cursor else {})).json()
            seen += [item["id"] for item in page["items"]]
            cursor = page["cursor"]
            if cursor is None:
                break
    assert len(seen) == 25
    assert set(seen) == ids


def test_a_template_is_tested_on_up_to_ten_people(made: TransactionalBench) -> None:
    made.template("welcome")
    with door(made) as client:
        body = {"to": ["me@shop.example", "you@shop.example", "nobody"], "variables": {"name": "Anna", "code": 1}}
        results = client.post("/v1/templates/welcome/test", json=body).json()["results"]
        assert [result["status"] for result in results] == ["accepted", "accepted", "refused"]
        assert client.get(f"{URL}/{results[0]['id']}").json()["from"] == "hello@shop.example"
        assert client.post("/v1/templates/welcome/test", json={"to": ["a@b.example"] * 11}).status_code == 422
        problem(client.post("/v1/templates/gone/test", json={"to": ["a@b.example"]}), 404)


def _keyed_door(made: TransactionalBench) -> TestClient:
    """With a place for idempotency keys."""
    frame = GatewayConfig(authenticator=Believer(), clock=SystemClock(), tables=made.made.tables, secrets=PlainSecrets())
    client = TestClient(create_app(frame, [message_routes(made.service)]), base_url="http://door.example")
    client.headers["Authorization"] = "Bearer sender default"
    return client


def test_twenty_identical_calls_at_once_are_one_message(made: TransactionalBench) -> None:
    with _keyed_door(made) as client, ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: client.post(URL, json=BODY, headers={"Idempotency-Key": "order-1"}), range(20)))
    assert {(answer.status_code, answer.json()["id"]) for answer in answers} == {(202, answers[0].json()["id"])}
    assert made.states() == ["pending"]


def test_a_call_whose_answer_was_lost_makes_the_same_message_when_it_is_repeated(
    made: TransactionalBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The messages were stored, and then the store failed: nobody knows how far it came."""
    wake, keyed = made.streams.wake, {"Idempotency-Key": "order-1"}

    def fails(_ref: CampaignRef) -> None:
        raise Unavailable("the disk is busy")

    monkeypatch.setattr(made.streams, "wake", fails)
    with _keyed_door(made) as client:
        assert client.post(URL, json=[BODY, BODY], headers=keyed).status_code == 503
        assert made.states() == ["pending", "pending"]
        monkeypatch.setattr(made.streams, "wake", wake)
        results = client.post(URL, json=[BODY, BODY], headers=keyed).json()["results"]
        assert [result["status"] for result in results] == ["accepted", "accepted"]
        assert client.post(URL, json=[BODY, BODY], headers=keyed).json()["results"] == results
    assert made.states() == ["pending", "pending"]


def test_the_document_describes_every_field(made: TransactionalBench) -> None:
    with door(made) as client:
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for name in ("NewMessage", "MessageDetail", "MessageResult", "MessageSummary", "TestMessage", "NewAttachment"):
        for field, schema in schemas[name]["properties"].items():
            assert "description" in schema, f"{name}.{field}"
