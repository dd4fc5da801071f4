"""Alive and ready: what is not ready is named, why is not told, and a check that hangs is not waited for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from fastapi import FastAPI

from postroom.errors import Unavailable
from postroom.gateway.app import create_app
from postroom.gateway.limits import RequestLimits
from postroom.gateway.routes import system
from postroom.gateway.state import GatewayConfig
from tests.fakes.clock import ManualClock
from tests.gateway.frame_kit import ask, call
from tests.gateway.kit import Believer


def fine() -> None:
    pass


def away() -> None:
    raise Unavailable("/data/control.db")


def app_of(*checks: tuple[str, Callable[[], None]], limits: RequestLimits | None = None) -> FastAPI:
    frame = GatewayConfig(authenticator=Believer(), clock=ManualClock(), limits=limits or RequestLimits())
    return create_app(frame, [system.health_routes(checks)])


def test_a_door_is_alive_whatever_is_ready() -> None:
    answer = ask(app_of(("storage", away)), "GET", "/healthz")
    assert (answer.status, answer.json) == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_who_only_asks_for_the_head_is_answered_too(path: str) -> None:
    """Load balancers do, and `curl -I`."""
    assert ask(app_of(("storage", fine)), "HEAD", path).status == 200
    assert ask(app_of(("storage", away)), "HEAD", "/readyz").status == 503


def test_a_door_is_ready_when_all_is() -> None:
    answer = ask(app_of(("storage", fine), ("mail", fine)), "GET", "/readyz")
    assert (answer.status, answer.json) == (200, {"status": "ok", "checks": {"storage": True, "mail": True}})


def test_what_is_not_ready_is_named_and_why_is_logged_only(caplog: pytest.LogCaptureFixture) -> None:
    answer = ask(app_of(("storage", away), ("mail", fine)), "GET", "/readyz")
    assert (answer.status, answer.json) == (503, {"status": "not ready", "checks": {"storage": False, "mail": True}})
    assert "control.db" in caplog.text


def test_a_check_that_hangs_is_not_waited_for_nor_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "_CHECK_S", 0.02)
    released, started = threading.Event(), []

    def hangs() -> None:
        started.append(True)
        assert released.wait(10)

    app = app_of(("storage", hangs))
    try:
        assert [ask(app, "GET", "/readyz").status for _ in range(3)] == [503] * 3
        assert started == [True]
    finally:
        released.set()


def test_who_asks_all_the_time_makes_nobody_think_the_door_sick() -> None:
    released, started = threading.Event(), []

    def slow() -> None:
        started.append(True)
        assert released.wait(10)

    app = app_of(("storage", slow))

    async def several() -> list[int]:
        first = asyncio.create_task(call(app, "GET", "/readyz"))
        while not started:
            await asyncio.sleep(0)
        second = asyncio.create_task(call(app, "GET", "/readyz"))
        for _ in range(200):  # it gets as far as it can, on this loop alone
            await asyncio.sleep(0)
        released.set()
        return [(await first).status, (await second).status]

    assert asyncio.run(several()) == [200, 200]
    assert started == [True]


def test_both_are_answered_when_there_is_no_room_for_anything_else() -> None:
    app = app_of(("storage", fine), limits=RequestLimits(in_progress=0))
    assert [ask(app, "GET", path).status for path in ("/healthz", "/readyz", "/openapi.json")] == [200, 200, 503]
