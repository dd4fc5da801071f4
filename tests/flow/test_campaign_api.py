"""Campaigns operated over HTTP while the server's workers are at them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest

from tests.flow.campaign_kit import until
from tests.flow.serve_kit import Caller, Served, served

PEOPLE = 200


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all campaigns of this file: they know nothing of each other."""
    with served(tmp_path_factory.mktemp("served")) as opened:
        opened.serve()
        yield opened


@pytest.fixture(scope="module")
def caller(office: Served) -> Caller:
    code, _, err = office.command("sender", "trust", "news@shop.example")
    assert code == 0, err
    return office.key()


def order(caller: Caller, **fields: Any) -> str:
    """The path of a new campaign to everybody."""
    rows = "".join(f"p{number}@x.example,{'' if number % 10 == 0 else f'P{number}'}\n" for number in range(PEOPLE))
    body = {
        "name": "test",
        "template_id": caller.template("<p>{{ name }}</p>"),
        "upload_id": caller.upload(f"Mail,Vorname\n{rows}".encode()),
        "from": "news@shop.example",
        "columns": {"name": "Vorname"},
        **fields,
    }
    return f"/v1/campaigns/{caller.call('POST', '/v1/campaigns', 201, body)['id']}"


def counts(caller: Caller, path: str) -> dict[str, int]:
    found: dict[str, int] = caller.call("GET", f"{path}/status", 200)["counts"]
    return found


def test_cancelled_in_the_middle_nothing_more_leaves_and_nobody_waits(caller: Caller) -> None:
    path = order(caller, rate=20, missing="empty")
    until(lambda: counts(caller, path)["sent"] > 5, "the campaign to send")
    assert caller.call("POST", f"{path}/cancel", 200)["status"] == "cancelled"
    until(lambda: sum(counts(caller, path)[state] for state in ("pending", "sending", "deferred")) == 0, "the rest to be skipped")
    ended = counts(caller, path)
    assert 5 < ended["sent"] < PEOPLE
    assert ended["sent"] + ended["skipped"] == ended["accepted"] == PEOPLE


def test_paused_it_rests_and_resumed_it_is_completed(caller: Caller) -> None:
    path = order(caller, rate=100, missing="empty")
    until(lambda: counts(caller, path)["sent"] > 5, "the campaign to send")
    assert caller.call("POST", f"{path}/pause", 200)["status"] == "paused"
    until(lambda: counts(caller, path)["sending"] == 0, "what is in flight to land")
    assert counts(caller, path)["pending"] > 0
    caller.call("POST", f"{path}/resume", 200)
    assert caller.settled(path.rpartition("/")[2])["counts"]["sent"] == PEOPLE


def test_who_failed_is_tried_again(caller: Caller) -> None:
    path = order(caller)
    campaign = path.rpartition("/")[2]
    assert caller.settled(campaign)["counts"]["failed"] == PEOPLE // 10
    assert caller.call("POST", f"{path}/retry-failed", 202) == {"messages": PEOPLE // 10}

    def tried_again() -> bool:
        items = caller.call("GET", f"{path}/messages?status=failed&limit=1000", 200)["items"]
        return len(items) == PEOPLE // 10 and all(one["attempts"] == 2 for one in items)

    until(tried_again, "the second attempt")
    assert caller.settled(campaign)["status"] == "completed"
    rows = list(csv.DictReader(io.StringIO(caller.call("GET", f"{path}/export.csv", 200))))
    assert sorted(row["status"] for row in rows) == ["failed"] * (PEOPLE // 10) + ["sent"] * (PEOPLE - PEOPLE // 10)
