"""`/v1/providers` at the door: who may, what is shown, what two editors see of each other, and never a password."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from postroom.gateway.routes.providers import providers_routes
from postroom.ledger.providers import ProviderCredentials, Providers
from postroom.model.finding import Finding, Level
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.mail.provider_url import check_provider_url
from postroom.services.providers import ProviderService
from tests.fakes.clock import ManualClock
from tests.fakes.secrets import PlainSecrets
from tests.gateway.kit import client_of, problem

PASSWORD = "hunter2 ä/@:"
RELAY = {"name": "relay", "url": "smtp://news@93.184.215.14:587?tls=starttls", "password": PASSWORD, "per_second": 14}
CHANGED = {"url": RELAY["url"], "per_second": 7}


class House:
    def __init__(self, tables: SqliteTables, clock: ManualClock) -> None:
        self.providers = Providers(tables, PlainSecrets(), clock, default_url="smtp://boss:topsecret@10.0.0.1")
        self.clock = clock
        self.tested: list[str] = []
        self.level = Level.OK
        self.service = ProviderService(
            self.providers, check=lambda url, trusted: check_provider_url(url, trusted=trusted), examine=self._examine
        )

    def _examine(self, means: ProviderCredentials) -> list[Finding]:
        self.tested.append(means.url)
        return [Finding("TLS", Level.OK, "TLSv1.3"), Finding("AUTH", self.level, "news", "check it")]

    def client(self, role: str = "admin", tenant: str = "acme") -> TestClient:
        return client_of([providers_routes(self.service)], role, tenant)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    clock = ManualClock()
    with closing(open_control(tmp_path)) as control:
        yield House(SqliteTables(control, clock), clock)


@pytest.fixture
def client(house: House) -> Iterator[TestClient]:
    with house.client() as client:
        yield client


def test_a_provider_is_made_shown_and_listed_without_its_password(house: House, client: TestClient) -> None:
    made = client.post("/v1/providers", json=RELAY)
    assert made.status_code == 201
    assert made.headers["location"] == "/v1/providers/relay"
    expected = {
        "name": "relay",
        "url": RELAY["url"],
        "has_password": True,
        "per_second": 14.0,
        "per_day": None,
        "connections": None,
        "warm_up": None,
        "today": None,
        "streams": ["bulk", "transactional"],
        "shared": False,
    }
    assert {name: value for name, value in made.json().items() if name != "created_at"} == expected
    shown = client.get("/v1/providers/relay")
    assert (shown.json(), shown.headers["etag"]) == (made.json(), made.headers["etag"])
    listed = client.get("/v1/providers").json()
    assert [item["name"] for item in listed["items"]] == ["relay", "default"]
    assert listed["cursor"] is None
    assert (
        house.providers.credentials("acme", "relay").url == "smtp://news:hunter2%20%C3%A4%2F%40%3A@93.184.215.14:587?tls=starttls"
    )
    everything = made.text + shown.text + json.dumps(listed)
    assert "hunter2" not in everything
    assert "topsecret" not in everything


def test_where_shared_ones_lead_is_for_operators(house: House) -> None:
    inside = {"name": "inside", "url": "smtp://boss:topsecret@10.0.0.1?tls=starttls", "shared": True}
    with house.client() as tenant, house.client("admin+op") as operator:
        problem(tenant.post("/v1/providers", json=inside), 403)
        assert operator.post("/v1/providers", json=inside).status_code == 201
        for name in ("inside", "default"):
            assert tenant.get(f"/v1/providers/{name}").json()["url"] is None
            assert "10.0.0.1" in operator.get(f"/v1/providers/{name}").json()["url"]
            problem(tenant.post(f"/v1/providers/{name}/test"), 403)
        for response in (tenant.put("/v1/providers/inside", json=CHANGED), tenant.delete("/v1/providers/inside")):
            assert "operator" in problem(response, 403)
        listed = tenant.get("/v1/providers").text
        assert "10.0.0.1" not in listed
        assert "boss" not in listed
        assert operator.delete("/v1/providers/inside").status_code == 204


@pytest.mark.parametrize(
    ("role", "statuses"), [("viewer", (200, 403)), ("editor", (200, 403)), ("sender", (200, 403)), ("admin", (200, 201))]
)
def test_everybody_sees_and_admins_change(house: House, role: str, statuses: tuple[int, int]) -> None:
    with house.client(role) as client:
        assert client.get("/v1/providers").status_code == statuses[0]
        assert client.post("/v1/providers", json=RELAY).status_code == statuses[1]
        if statuses[1] == 403:
            problem(client.put("/v1/providers/relay", json=CHANGED), 403)
            problem(client.delete("/v1/providers/relay"), 403)
            problem(client.post("/v1/providers/relay/test"), 403)


def test_another_tenants_answers_as_one_that_nobody_has(house: House, client: TestClient) -> None:
    client.post("/v1/providers", json=RELAY)
    with house.client(tenant="other") as other:
        for name in ("relay", "missing"):
            said = {
                problem(response, 404).replace(name, "…")
                for response in (
                    other.get(f"/v1/providers/{name}"),
                    other.put(f"/v1/providers/{name}", json=CHANGED),
                    other.delete(f"/v1/providers/{name}"),
                    other.post(f"/v1/providers/{name}/test"),
                )
            }
            assert said == {"there is no provider …"}
        assert other.post("/v1/providers", json=RELAY).status_code == 201
    assert house.tested == []


def test_a_name_is_taken_once(client: TestClient) -> None:
    client.post("/v1/providers", json=RELAY)
    problem(client.post("/v1/providers", json=RELAY), 409)
    problem(client.put("/v1/providers/default", json=CHANGED), 409)
    problem(client.delete("/v1/providers/default"), 409)


def test_two_editors_do_not_undo_each_other(house: House, client: TestClient) -> None:
    etag = client.post("/v1/providers", json=RELAY).headers["etag"]
    assert client.get("/v1/providers/relay", headers={"If-None-Match": etag}).status_code == 304
    changed = client.put("/v1/providers/relay", json=CHANGED, headers={"If-Match": etag})
    assert (changed.status_code, changed.json()["per_second"], changed.json()["has_password"]) == (200, 7.0, True)
    assert changed.headers["etag"] != etag
    problem(client.put("/v1/providers/relay", json=CHANGED, headers={"If-Match": etag}), 412)
    assert client.get("/v1/providers/relay", headers={"If-None-Match": etag}).status_code == 200
    new_password = client.put("/v1/providers/relay", json={**CHANGED, "password": "other"})
    assert new_password.headers["etag"] != changed.headers["etag"]
    assert house.providers.credentials("acme", "relay").url.startswith("smtp://news:other@")


def test_another_url_needs_its_password_again(house: House, client: TestClient) -> None:
    client.post("/v1/providers", json=RELAY)
    for url in ("smtp://news@93.184.215.15:587?tls=starttls", "smtp://news@93.184.215.14:587?tls=starttls&verify=no"):
        assert "password" in problem(client.put("/v1/providers/relay", json={"url": url}), 422)
    assert "93.184.215.14:587?tls=starttls" in house.providers.credentials("acme", "relay").url


@pytest.mark.parametrize(
    "body",
    [
        {"url": "http://example.com"},
        {"url": "inbox:"},
        {"url": "smtp://"},
        {"url": "smtp://127.0.0.1"},
        {"url": "smtp://169.254.169.254:80"},
        {"url": "smtp://[::ffff:10.0.0.1]"},
        {"url": "smtp://localhost"},
        {"url": "smtps://93.184.215.14?ca_file=/etc/passwd"},
        {"url": "smtp://93.184.215.14?bogus=1"},
        {"url": "smtp://93.184.215.14", "password": "no user"},
        {"url": "smtp://u:p@93.184.215.14", "password": "twice"},
        {"url": "smtp://u@93.184.215.14"},
        {"url": "smtp://93.184.215.14", "per_second": 0},
        {"url": "smtp://93.184.215.14", "per_day": 0},
        {"url": "smtp://93.184.215.14", "connections": 1_001},
        {"url": "smtp://93.184.215.14", "streams": []},
        {"url": "smtp://93.184.215.14", "streams": ["other"]},
        {"url": "smtp://93.184.215.14", "unknown": 1},
        {"url": "smtp://93.184.215.14", "name": "Relay"},
        {"url": "smtp://93.184.215.14", "name": "default"},
        {"url": "smtp://" + "a" * 1_000},
    ],
)
def test_what_is_no_provider_is_said_and_makes_none(client: TestClient, body: dict[str, object]) -> None:
    detail = problem(client.post("/v1/providers", json={"name": "relay", **body}), 422)
    assert "hunter2" not in detail
    assert [item["name"] for item in client.get("/v1/providers").json()["items"]] == ["default"]


def test_a_test_says_whether_it_works(house: House, client: TestClient) -> None:
    client.post("/v1/providers", json=RELAY)
    tested = client.post("/v1/providers/relay/test").json()
    assert tested["works"] is True
    assert tested["findings"][1] == {"subject": "AUTH", "level": "ok", "text": "news", "todo": "check it"}
    assert len(house.tested) == 1
    house.level = Level.FAIL
    assert client.post("/v1/providers/relay/test").json()["works"] is False


def test_what_is_deleted_is_gone(client: TestClient) -> None:
    client.post("/v1/providers", json=RELAY)
    assert client.delete("/v1/providers/relay").status_code == 204
    problem(client.get("/v1/providers/relay"), 404)
    problem(client.delete("/v1/providers/relay"), 404)


def test_without_credentials_nothing_is_said(house: House) -> None:
    with house.client() as client:
        del client.headers["Authorization"]
        for response in (client.get("/v1/providers"), client.post("/v1/providers", json=RELAY)):
            problem(response, 401)


def test_a_warm_up_begins_today_and_goes_on_through_a_change(house: House, client: TestClient) -> None:
    made = client.post("/v1/providers", json={**RELAY, "warm_up": {"start_per_day": 200, "factor": 1.5}}).json()
    assert made["warm_up"] == {"start_per_day": 200, "factor": 1.5, "from": "2026-09-21", "to_per_day": 1_000_000_000}
    assert made["today"] == 200
    house.clock.advance(2 * 86_400)
    ramp = {"start_per_day": 200, "factor": 1.5, "to_per_day": 5_000}
    changed = client.put("/v1/providers/relay", json={**CHANGED, "warm_up": ramp}).json()
    assert (changed["warm_up"]["from"], changed["today"]) == ("2026-09-21", 450)
    moved = client.put("/v1/providers/relay", json={**CHANGED, "per_day": 300, "warm_up": {**ramp, "from": "2026-09-20"}}).json()
    assert (moved["warm_up"]["from"], moved["today"]) == ("2026-09-20", 300)
    assert client.put("/v1/providers/relay", json=CHANGED).json()["warm_up"] is None


@pytest.mark.parametrize(
    "ramp",
    [
        {"start_per_day": 200},
        {"start_per_day": 9, "factor": 1.5},
        {"start_per_day": 200, "factor": 1},
        {"start_per_day": 200, "factor": "2"},
        {"start_per_day": 200, "factor": 2, "from": 5},
        {"start_per_day": 200, "factor": 2, "from": "2026-02-30"},
        {"start_per_day": 200, "factor": 2, "to_per_day": 100},
    ],
    ids=str,
)
def test_what_is_no_warm_up_is_refused(client: TestClient, ramp: dict[str, object]) -> None:
    problem(client.post("/v1/providers", json={**RELAY, "warm_up": ramp}), 422)
