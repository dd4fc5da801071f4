"""Erasures over HTTP: asked for by admins, carried out by the workers, told without an address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from postroom.errors import Conflict
from postroom.gateway.routes.recipients import erasure_routes
from postroom.platform.ports.tables import ItemKey, Put
from postroom.services.erasure_requests import ERASE, ErasureRequests
from tests.fakes.faults import Faults, Killed
from tests.gateway.kit import client_of, problem
from tests.unit.erasure_kit import ANNA, House, house

PATH = "/v1/erasures"
Knock = Callable[..., TestClient]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as made:
        yield made


def requests(home: House) -> ErasureRequests:
    return ErasureRequests(home.service, home.stores.tables, home.stores.workflows, home.clock)


@pytest.fixture
def knock(home: House) -> Iterator[Knock]:
    """Somebody at the door."""
    with ExitStack() as stack:

        def client(role: str = "admin", tenant: str = "default") -> TestClient:
            routes = erasure_routes(requests(home))
            return stack.enter_context(client_of([routes], role, tenant, tables=home.stores.tables))

        yield client


def work(home: House) -> bool:
    """What is due, as a worker does it; whether there was something."""
    return home.stores.workflows.run_due(ERASE, requests(home).handle, "worker", lease_ms=10_000)


def test_a_person_is_erased_and_no_answer_and_no_record_says_who(home: House, knock: Knock) -> None:
    campaign, admin = home.everywhere(), knock()
    asked = admin.post(PATH, json={"address": f"Anna <{ANNA.upper()}>"})
    assert (asked.status_code, asked.json()["status"], asked.json()["found"]) == (202, "running", None)
    assert work(home)
    done = admin.get(f"{PATH}/{asked.json()['id']}").json()
    assert (done["status"], done["person"], done["found"]["campaigns"]) == ("done", home.anna.hex(), [campaign.ref.campaign])
    assert done["ended_at"] is not None
    assert home.traces() == []
    assert "anna" not in (asked.text + str(done)).lower()
    assert not work(home)
    (entry, *_) = [entry for entry in home.audit.list("default").items if entry.action == "erase"]
    assert entry.actor == "user:admin@default.example"


def test_while_something_is_imported_it_waits_and_then_goes_on(home: House, knock: Knock) -> None:
    campaign, admin = home.campaign(imported=False), knock()
    asked = admin.post(PATH, json={"address": ANNA}).json()["id"]
    assert work(home)
    waits = admin.get(f"{PATH}/{asked}").json()
    assert (waits["status"], waits["found"]["waiting"]) == ("waiting", [campaign.ref.campaign])
    assert not work(home)
    home.imported(campaign.ref)
    home.clock.advance(31)
    assert work(home)
    assert admin.get(f"{PATH}/{asked}").json()["status"] == "done"
    assert home.traces() == []


def test_the_same_call_again_is_the_same_erasure(home: House, knock: Knock) -> None:
    admin = knock()
    headers = {"Idempotency-Key": "one"}
    first = admin.post(PATH, json={"address": ANNA}, headers=headers).json()["id"]
    assert admin.post(PATH, json={"address": ANNA}, headers=headers).json()["id"] == first
    with pytest.raises(Conflict):
        requests(home).ask("default", first, "bob@mail.example", forget_suppression=False, actor="user:1")


def test_asked_for_and_killed_before_the_workflow_began_it_begins_when_it_is_looked_at(home: House, knock: Knock) -> None:
    workflows = Faults(1).wrap(home.stores.workflows)
    dying = ErasureRequests(home.service, home.stores.tables, workflows, home.clock)
    asked = dying.new_id()
    with pytest.raises(Killed):
        dying.ask("default", asked, ANNA, forget_suppression=True, actor="user:1")
    assert not work(home)
    assert knock().get(f"{PATH}/{asked}").json()["status"] == "running"
    assert work(home)
    assert knock().get(f"{PATH}/{asked}").json()["status"] == "done"


def test_one_that_cannot_go_on_says_so(home: House, knock: Knock) -> None:
    asked = knock().post(PATH, json={"address": ANNA}).json()["id"]
    campaign = home.campaign()
    home.stores.tables.write([Put(ItemKey("default#campaigns", campaign.ref.campaign), {"damaged": True})])
    assert work(home)
    assert knock().get(f"{PATH}/{asked}").json()["status"] == "failed"


def test_only_admins_and_only_their_own_tenants(home: House, knock: Knock) -> None:
    home.tenants.create("other")
    problem(knock("sender").post(PATH, json={"address": ANNA}), 403)
    asked = knock().post(PATH, json={"address": ANNA}).json()["id"]
    problem(knock("sender").get(f"{PATH}/{asked}"), 403)
    problem(knock(tenant="other").get(f"{PATH}/{asked}"), 404)
    problem(knock().get(f"{PATH}/2222222222222222"), 404)


@pytest.mark.parametrize(
    "body", [{}, {"address": "nobody"}, {"address": ANNA, "forget_suppression": 1}, {"address": "a\0@b.example"}]
)
def test_what_is_no_request_is_refused(knock: Knock, body: dict[str, object]) -> None:
    problem(knock().post(PATH, json=body), 422)
