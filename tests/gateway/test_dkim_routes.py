"""`/v1/senders/{name}/dkim` at the door."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from postroom.gateway.routes.senders import dkim_routes, sender_routes
from postroom.ledger.dkim import DkimKeys
from postroom.ledger.senders import Senders
from postroom.model.tenant import DEFAULT_TENANT
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.ports.tables import ItemKey
from postroom.services.dkim import DkimService
from postroom.services.senders import SenderService
from tests.fakes.clock import ManualClock
from tests.fakes.secrets import PlainSecrets
from tests.gateway.kit import client_of, problem

SHOP = "/v1/senders/shop.example/dkim"
ADDRESS = "/v1/senders/news@shop.example/dkim"


class Dns:
    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}

    def txt(self, name: str) -> list[str]:
        return self.texts.get(name, [])

    def publish(self, key: dict[str, Any]) -> None:
        self.texts[key["record"]["name"]] = [key["record"]["value"]]


@contextmanager
def opened(root: Path, dns: Dns) -> Iterator[TestClient]:
    """An admin of the default tenant, which has entered shop.example."""
    clock = ManualClock()
    with closing(open_control(root)) as control:
        tables = SqliteTables(control, clock)
        senders = SenderService(Senders(tables, clock), dns, clock)
        routes = dkim_routes(senders, DkimService(DkimKeys(tables, PlainSecrets()), dns, clock))
        with client_of([sender_routes(senders), routes], "admin", DEFAULT_TENANT, tables=tables) as door:
            for name in ("shop.example", "news@shop.example"):
                assert door.post("/v1/senders", json={"name": name}).status_code == 201
            yield door


@pytest.fixture
def dns() -> Dns:
    return Dns()


@pytest.fixture
def door(tmp_path: Path, dns: Dns) -> Iterator[TestClient]:
    with opened(tmp_path, dns) as client:
        yield client


def standing(door: TestClient) -> dict[str, str]:
    """The state of each key."""
    return {key["selector"]: key["status"] for key in door.get(SHOP).json()["keys"]}


def verify(door: TestClient, selector: str) -> dict[str, Any]:
    answer = door.post(f"{SHOP}/{selector}/verify")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def test_a_key_is_made_published_verified_replaced_and_removed(door: TestClient, dns: Dns) -> None:
    old = door.post(SHOP, json={"ed25519": True}).json()["keys"]
    assert [key["algorithm"] for key in old] == ["rsa", "ed25519"]
    assert "no TXT record" in verify(door, old[0]["selector"])["finding"]
    for key in old:
        dns.publish(key)
        assert verify(door, key["selector"])["status"] == "active"
    new = door.post(SHOP, json={}).json()["keys"]
    assert [key["algorithm"] for key in new] == ["rsa", "ed25519"]
    dns.publish(new[0])
    verify(door, new[0]["selector"])
    assert list(standing(door).values()) == ["retired", "active", "active", "waiting"]
    assert door.delete(f"{SHOP}/{old[0]['selector']}").status_code == 204
    assert problem(door.delete(f"{SHOP}/{old[0]['selector']}"), 404)
    assert old[0]["selector"] not in standing(door)


def test_a_repeated_call_makes_the_same_keys(door: TestClient) -> None:
    first, again = (door.post(SHOP, json={}, headers={"Idempotency-Key": "one"}).json() for _ in range(2))
    assert first == again
    assert len(standing(door)) == 1


def test_an_addresss_keys_are_its_domains(door: TestClient) -> None:
    made = door.post(ADDRESS, json={}).json()
    assert made["domain"] == "shop.example"
    assert [key["selector"] for key in made["keys"]] == list(standing(door))


def test_only_for_senders_that_are_entered(door: TestClient) -> None:
    assert problem(door.post("/v1/senders/other.example/dkim", json={}), 404)
    assert problem(door.get("/v1/senders/other.example/dkim"), 404)


def test_eleven_keys_are_one_too_many(door: TestClient) -> None:
    for _ in range(5):
        assert door.post(SHOP, json={"ed25519": True}).status_code == 201
    assert "at most" in problem(door.post(SHOP, json={"ed25519": False}), 409)


def test_no_answer_holds_a_private_part(door: TestClient, tmp_path: Path) -> None:
    made = door.post(SHOP, json={}).text + door.get(SHOP).text
    with closing(open_control(tmp_path)) as control:
        item = SqliteTables(control, ManualClock()).get(ItemKey(f"{DEFAULT_TENANT}#dkim", "shop.example"))
        stored = DkimKeys(SqliteTables(control, ManualClock()), PlainSecrets()).signing(DEFAULT_TENANT, ["shop.example"])
    assert item is not None
    assert stored is None
    assert item.data["keys"][0]["sealed"] not in made
