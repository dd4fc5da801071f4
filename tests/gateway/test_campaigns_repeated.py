"""A campaign that was ordered with an `Idempotency-Key`: made once, as it was first meant, whatever dies."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from postroom.gateway.app import create_app
from postroom.gateway.idempotency import LEASE_MS
from postroom.gateway.state import GatewayConfig
from postroom.model.template import TemplateContent
from tests.fakes.faults import Killed
from tests.fakes.secrets import PlainSecrets
from tests.gateway.campaign_office import TEMPLATE, Office, office
from tests.gateway.frame_kit import ask
from tests.gateway.kit import Believer, problem

KEYED = {"Authorization": "Bearer sender default", "Idempotency-Key": "k1"}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Office]:
    with office(tmp_path) as opened:
        yield opened


@pytest.fixture
def app(desk: Office) -> FastAPI:
    clock = desk.made.clock
    frame = GatewayConfig(authenticator=Believer(), clock=clock, tables=desk.made.tables, secrets=PlainSecrets())
    return create_app(frame, desk.routes())


def test_a_call_that_died_midway_makes_the_campaign_it_began(desk: Office, app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(desk.objects, "put", die)
        with pytest.raises(Killed):
            ask(app, "POST", "/v1/campaigns", headers=KEYED, json=desk.order())
    with TestClient(app, headers=KEYED) as client:
        desk.versions.append(TemplateContent(TEMPLATE, 2, "Other", "<p>other</p>", None))
        desk.made.clock.advance(LEASE_MS / 1_000 + 1)
        first = client.post("/v1/campaigns", json=desk.order())
        assert (first.status_code, first.json()["template_version"]) == (201, 1)
        again = client.post("/v1/campaigns", json=desk.order())
        assert (again.json(), again.headers["location"]) == (first.json(), first.headers["location"])
        assert again.headers["idempotent-replayed"] == "true"
        assert len(client.get("/v1/campaigns").json()["items"]) == 1
        problem(client.post("/v1/campaigns", json=desk.order(name="Winter")), 409)


def test_twenty_identical_orders_at_once_make_one_campaign(desk: Office, app: FastAPI) -> None:
    with TestClient(app, headers=KEYED) as client:

        def order(_: int) -> str:
            return str(client.post("/v1/campaigns", json=desk.order()).json()["id"])

        with ThreadPoolExecutor(20) as callers:
            assert len(set(callers.map(order, range(20)))) == 1
        assert len(client.get("/v1/campaigns").json()["items"]) == 1


def test_a_verb_that_is_repeated_is_answered_as_the_first_time(desk: Office, app: FastAPI) -> None:
    with TestClient(app, headers={"Authorization": "Bearer sender default"}) as client:
        campaign = client.post("/v1/campaigns", json=desk.order(start=False)).json()["id"]
        first = client.post(f"/v1/campaigns/{campaign}/cancel", headers=KEYED)
        again = client.post(f"/v1/campaigns/{campaign}/cancel", headers=KEYED)
        assert first.json() == again.json()
        assert first.headers["etag"] == again.headers["etag"]
