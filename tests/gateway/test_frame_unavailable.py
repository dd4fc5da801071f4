"""A store that does not answer: each call says so and when to come again, and all works as soon as the store does."""

from __future__ import annotations

from postroom.errors import PostroomError, Unavailable
from tests.fakes.clock import ManualClock
from tests.gateway.frame_kit import EDITOR, Things, ask, door


def test_calls_fail_while_the_store_is_away_and_work_when_it_is_back() -> None:
    error: PostroomError | None = Unavailable("away")

    def fail() -> None:
        if error is not None:
            raise error

    app = door(Things(before=fail), ManualClock())
    for _ in range(20):
        answer = ask(app, "GET", "/v1/things/a", headers=EDITOR)
        assert (answer.status, "retry-after" in answer.fields) == (503, True)
    assert ask(app, "GET", "/openapi.json").status == 200
    error = None
    assert ask(app, "GET", "/v1/things/a", headers=EDITOR).status == 200
