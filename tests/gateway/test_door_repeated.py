"""Whatever is made with an `Idempotency-Key` is made once, through the whole door: by twenty identical calls at the same time, and
by a call that dies at any write and comes again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from postroom.gateway.idempotency import LEASE_MS
from postroom.ledger import scheduler_messages
from postroom.model.access import Role
from tests.fakes.clock import ManualClock
from tests.fakes.faults import Killed
from tests.gateway.door_kit import Household, WholeDoor, household, letter, whole_door
from tests.gateway.door_recipes import order, single
from tests.gateway.frame_kit import ask
from tests.gateway.server_kit import served

CALLERS = 20
TENANT = "default"
Json = dict[str, Any]

MADE: dict[str, tuple[str, Callable[[Household, int], Any]]] = {
    "/v1/templates": ("id", lambda home, at: letter("twice")),
    "/v1/uploads": ("id", lambda home, at: {"kind": "asset", "filename": "a.pdf", "content_type": "application/pdf", "size": 5}),
    "/v1/campaigns": ("id", lambda home, at: order()(home, home)),
    "/v1/messages": ("id", lambda home, at: single()(home, home)),
    "/v1/keys": ("id", lambda home, at: {"name": "shop", "role": "viewer"}),
    "/v1/users": ("id", lambda home, at: {"subject": f"s{at}", "role": "viewer", "name": "Ann"}),
    "/v1/senders": ("name", lambda home, at: {"name": f"s{at}.example"}),
    "/v1/providers": ("name", lambda home, at: {"name": f"p{at}", "url": "smtp://mail.relay.example:587"}),
    "/v1/callbacks": ("id", lambda home, at: {"url": f"https://s{at}.example/hook"}),
    "/v1/suppressions": ("address", lambda home, at: {"address": f"s{at}@mail.example"}),
}
"""What tells one from another, and the body of a call: the `at`-th of its kind."""
WRITES = {
    "tables": ("write",),
    "objects": ("put", "delete", "purge"),
    "messages": ("create", "store", "drop", "recount"),
    "queues": ("send",),
    "workflows": ("start", "restart", "stop"),
    "timers": ("set", "cancel"),
}


@dataclass
class Place:
    """A door, somebody before it, and what they may refer to."""

    door: WholeDoor
    home: Household
    key: str

    def post(self, path: str, at: int) -> Any:
        """The `at`-th call of its kind; again: its repetition."""
        headers = {"Authorization": f"Bearer {self.key}", "Idempotency-Key": f"key {at}"}
        return ask(self.door.app, "POST", path, headers=headers, json=MADE[path][1](self.home, at))

    def listed(self, path: str) -> set[str]:
        """All there are."""
        query = "" if path in {"/v1/providers", "/v1/callbacks"} else "?limit=1000"  # these answer with one page
        answer = ask(self.door.app, "GET", f"{path}{query}", headers={"Authorization": f"Bearer {self.key}"})
        assert answer.json["cursor"] is None
        return {each[MADE[path][0]] for each in answer.json["items"]}

    def imports(self) -> list[str]:
        """Campaigns whose import is begun."""
        return [run.execution for run in self.door.postroom.workflows.running(scheduler_messages.IMPORT)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    clock = ManualClock()
    monkeypatch.setattr("postroom.wiring.embedded.SystemClock", lambda: clock)
    return clock


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with whole_door(tmp_path) as door:
        yield Place(door, household(door, TENANT, "zebra"), door.key(TENANT, Role.ADMIN))


@pytest.mark.parametrize("path", MADE)
def test_twenty_identical_calls_at_once_make_one(place: Place, path: str) -> None:
    """All of them over connections of their own, and all with the same answer."""
    before = place.listed(path)
    headers = {"Authorization": f"Bearer {place.key}", "Idempotency-Key": "at once"}
    with served(lambda _: place.door.app) as url, ThreadPoolExecutor(CALLERS) as callers:

        def call(_: int) -> requests.Response:
            return requests.post(url + path, json=MADE[path][1](place.home, 0), headers=headers, timeout=30)

        answers = list(callers.map(call, range(CALLERS)))
    assert {(answer.status_code, answer.content) for answer in answers} == {(answers[0].status_code, answers[0].content)}
    assert answers[0].ok
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert place.listed(path) - before == {answers[0].json()[MADE[path][0]]}


class Deaths:
    """Of a process, at the `at`-th write to any store, before or after it took effect."""

    def __init__(self, at: int, *, after: bool) -> None:
        self._left = at
        self._after = after

    def patch(self, door: WholeDoor, patched: pytest.MonkeyPatch) -> None:
        for name, methods in WRITES.items():
            store = getattr(door.postroom, name)
            for method in methods:
                patched.setattr(store, method, self._counted(getattr(store, method)))

    def _counted(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Killed
            answer = write(*args, **options)
            if self._left == 0:
                raise Killed
            return answer

        return counted


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("path", MADE)
def test_a_call_that_dies_at_any_write_and_comes_again_makes_one(
    clock: ManualClock, place: Place, monkeypatch: pytest.MonkeyPatch, path: str, after: bool
) -> None:
    for at in itertools.count(1):
        before, importing = place.listed(path), set(place.imports())
        with monkeypatch.context() as patched:
            Deaths(at, after=after).patch(place.door, patched)
            try:
                place.post(path, at)
            except Killed:
                died = True
            else:
                died = False
        clock.advance(LEASE_MS / 1_000 + 1)
        answer = place.post(path, at)
        assert answer.status < 300, answer.body
        assert place.listed(path) - before == {answer.json[MADE[path][0]]}
        assert set(place.imports()) - importing == ({answer.json["id"]} if path == "/v1/campaigns" else set())
        assert orjson.loads(place.post(path, at).body) == answer.json
        if not died:
            break
    assert at > 3, "there is something to die at"
