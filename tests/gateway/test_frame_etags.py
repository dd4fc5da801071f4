"""Entity tags: who has the newest is not sent it again, who changes an old one is refused."""

from __future__ import annotations

import pytest

from postroom.gateway.errors import PreconditionFailed
from postroom.gateway.etags import demand, etag_of, matches
from tests.gateway.frame_kit import EDITOR, Things, ask, door


@pytest.mark.parametrize(
    ("field", "has_it"),
    [
        (None, False),
        ('"1"', True),
        ('W/"1"', True),
        ('"0", "1"', True),
        ('"0","1"', True),
        ("*", True),
        ('"2"', False),
        ("1", False),
    ],
)
def test_a_poller_has_it_or_not(field: str | None, has_it: bool) -> None:
    assert matches(field, etag_of(1)) is has_it


@pytest.mark.parametrize("field", [None, '"1"', '"0", "1"', "*"])
def test_who_read_the_newest_may_change_it(field: str | None) -> None:
    demand(field, etag_of(1))


@pytest.mark.parametrize("field", ['"0"', 'W/"1"', "1", '"11"'])
def test_who_did_not_is_refused(field: str) -> None:
    with pytest.raises(PreconditionFailed):
        demand(field, etag_of(1))


def test_on_the_wire_nothing_new_is_304_without_a_body() -> None:
    answer = ask(door(Things()), "GET", "/v1/things/a", headers={**EDITOR, "If-None-Match": '"1"'})
    assert (answer.status, answer.body, answer.fields["etag"]) == (304, b"", '"1"')


@pytest.mark.parametrize(("field", "status"), [('"1"', 200), ('"2"', 412), ("odd", 412), ("x" * 1_001, 422)])
def test_on_the_wire_an_old_version_is_412(field: str, status: int) -> None:
    answer = ask(door(Things()), "PUT", "/v1/things/a", headers={**EDITOR, "If-Match": field}, json={"name": "a"})
    assert answer.status == status
    if status == 412:
        assert answer.json["type"] == "/problems/changed-since"
