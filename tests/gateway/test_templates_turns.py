"""Checking templates takes turns: whatever templates cost, and however many come, the threads that all calls share stay free."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from postroom.errors import Invalid
from postroom.gateway import limits
from postroom.gateway.errors import Overloaded
from postroom.gateway.limits import ConcurrencyLimit
from postroom.gateway.routes.templates import templates_routes
from postroom.model.template import NewTemplate
from postroom.services.templates import TemplateService
from tests.gateway.kit import client_of, problem
from tests.unit.template_kit import open_templates

_SOON_S = 20
URL = "/v1/templates"
NEW = {"name": "News", "subject": "Hello", "html": "<p>Hi</p>"}


@contextmanager
def taken(places: ConcurrencyLimit, *tenants: str) -> Iterator[None]:
    """A caller of each tenant holds a place: some at work, the others waiting."""
    holding, leave = threading.Semaphore(0), threading.Event()

    def hold(tenant: str) -> None:
        with places.slot(tenant):
            holding.release()
            assert leave.wait(_SOON_S)

    with ThreadPoolExecutor(len(tenants)) as callers:
        done: list[Future[None]] = [callers.submit(hold, tenant) for tenant in tenants]
        try:
            for _ in range(min(len(tenants), limits.WORKING)):
                assert holding.acquire(timeout=_SOON_S)
            wait_until_all_came(places, len(tenants))
            yield
        finally:
            leave.set()
        for each in done:
            each.result(_SOON_S)


def wait_until_all_came(places: ConcurrencyLimit, count: int) -> None:
    ticks, patience = threading.Event(), 2_000
    while places.count < count and patience:
        patience -= 1
        ticks.wait(0.01)
    assert places.count == count


def test_as_many_as_may_be_are_let_in_and_one_more_is_refused() -> None:
    places = ConcurrencyLimit("x")
    callers = [f"t{at % 4}" for at in range(limits.PLACES)]
    with taken(places, *callers), pytest.raises(Overloaded, match="nothing was done"), places.slot("another"):
        pass
    with places.slot("another"):
        pass


def test_no_tenant_takes_all_places() -> None:
    places = ConcurrencyLimit("x")
    with taken(places, *["greedy"] * limits.PER_TENANT, "modest"), pytest.raises(Overloaded), places.slot("greedy"):
        pass


def test_a_place_is_given_back_where_the_work_fails() -> None:
    places = ConcurrencyLimit("x")
    for _ in range(limits.PLACES + 1):
        with pytest.raises(Invalid), places.slot("acme"):
            raise Invalid("no template")
    assert places.count == 0


def test_one_too_many_is_refused_and_everything_else_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service is not taken for sick, however often that happens: reading goes on."""
    monkeypatch.setattr(limits, "PER_TENANT", 1)
    checking, leave = threading.Event(), threading.Event()
    with open_templates(tmp_path) as home:
        service = home.service()
        with client_of([templates_routes(service)], "editor", "acme", tables=home.tables) as door:
            template = door.post(URL, json=NEW).json()["id"]
            _hold(monkeypatch, service, checking, leave)
            with ThreadPoolExecutor(1) as callers:
                first = callers.submit(door.post, f"{URL}/validate", json=NEW)
                assert checking.wait(_SOON_S)
                for _ in range(6):
                    _all_refused(door, template)
                assert door.get(f"{URL}/{template}").status_code == 200
                leave.set()
                assert first.result(_SOON_S).status_code == 200
            assert door.post(URL, json=NEW).status_code == 201


def _hold(patched: pytest.MonkeyPatch, service: TemplateService, checking: threading.Event, leave: threading.Event) -> None:
    check = service.validate

    def slow(tenant: str, new: NewTemplate) -> object:
        checking.set()
        assert leave.wait(_SOON_S)
        return check(tenant, new)

    patched.setattr(service, "validate", slow)


def _all_refused(door: TestClient, template: str) -> None:
    for method, path, body in (
        ("POST", URL, NEW),
        ("PUT", f"{URL}/{template}", NEW),
        ("POST", f"{URL}/validate", NEW),
        ("POST", f"{URL}/{template}/preview", {}),
    ):
        answer = door.request(method, path, json=body)
        assert "too many templates" in problem(answer, 503)
        assert answer.headers["Retry-After"] == "1"
