"""`postroom callback`: what operators do at the machine about where a tenant's own systems are told."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from postroom.entrypoints.cli import app
from postroom.entrypoints.cli.session import session
from postroom.errors import Conflict, Invalid, NotFound
from postroom.ledger.callback_deliveries import EndpointRef
from postroom.model.callback import DeliveryStatus

URL = "https://shop.example/hook"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTROOM_DATA", str(tmp_path / "data"))


def run(line: str, *, code: int = 0) -> str:
    """What it printed to standard output; an error as it is raised."""
    done = CliRunner().invoke(app, line.split())
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.stderr
    return done.stdout


def told(line: str) -> Any:
    return json.loads(run(f"{line} --json"))


def made(options: str = "") -> str:
    found: str = told(f"callback add {URL} {options}")["id"]
    return found


def give_up(callback: str, delivery: str, answer: str = "no") -> None:
    """As a day of failures ends."""
    with session() as postroom:
        lane = EndpointRef("default", callback)
        taken = postroom.deliveries.claim(lane, limit=33, lease_ms=60_000)
        (mine,) = [each for each in taken if each.delivery.id == delivery]
        over = replace(
            mine.delivery,
            status=DeliveryStatus.DEAD,
            due=None,
            attempts=13,
            last_at=postroom.clock.now(),
            last_status=500,
            last_text=answer,
        )
        postroom.deliveries.settle([mine], [over])


def secret_of(text: str) -> bytes:
    assert text.startswith("whsec_")
    return base64.b64decode(text.strip().removeprefix("whsec_"))


def test_callbacks_are_added_listed_shown_changed_and_removed() -> None:
    added = told(f"callback add {URL} --event message.bounced --event message.complained --batch --description shop")
    assert len(secret_of(added.pop("secret"))) == 32
    assert (added["url"], added["events"], added["batch"]) == (URL, ["message.bounced", "message.complained"], True)
    assert told(f"callback show {added['id']}") == added
    assert told("callback list") == [added]
    changed = told(f"callback change {added['id']} --event message.opened --no-batch --disable")
    assert (changed["events"], changed["batch"], changed["enabled"]) == (["message.opened"], False, False)
    assert (changed["url"], changed["description"]) == (URL, "shop")
    assert told(f"callback change {added['id']} --enable")["enabled"] is True
    run(f"callback remove {added['id']}")
    assert told("callback list") == []


def test_without_events_it_is_told_of_all_but_queued() -> None:
    events = told(f"callback show {made()}")["events"]
    assert len(events) == 10
    assert "message.queued" not in events


def test_a_secret_is_the_only_line_on_standard_output_and_never_shown_again() -> None:
    first = run(f"callback add {URL}")
    (callback,) = [each["id"] for each in told("callback list")]
    second = run(f"callback rotate-secret {callback}")
    assert secret_of(first) != secret_of(second)
    shown = run("callback list") + run(f"callback show {callback}") + json.dumps(told(f"callback show {callback}"))
    assert "whsec_" not in shown
    with session() as postroom:
        endpoint = postroom.callbacks.get("default", callback)
        assert postroom.callbacks.signing_secrets(endpoint) == [secret_of(second), secret_of(first)]


def test_campaigns_secret_is_shown_whenever_it_is_asked_for() -> None:
    first = run("callback campaign-secret")
    assert run("callback campaign-secret") == first
    assert told("callback campaign-secret") == {"secret": first.strip()}
    assert secret_of(run("callback campaign-secret --rotate")) != secret_of(first)


def test_a_test_waits_for_a_server_and_is_seen_among_deliveries() -> None:
    callback = made()
    delivery = run(f"callback test {callback}").strip()
    assert told(f"callback test {callback}").keys() == {"delivery_id"}
    listed = told(f"callback deliveries {callback} --status pending")
    assert {each["id"] for each in listed} > {delivery}
    shown = told(f"callback deliveries {callback} {delivery}")
    assert (shown["status"], shown["last"], json.loads(shown["body"])["type"]) == ("pending", None, "postroom.test")
    assert len(told(f"callback deliveries {callback} --limit 1")) == 1
    assert told(f"callback deliveries {callback} --status dead") == []
    assert run(f"callback deliveries {callback}").count("\n") == 2


def test_what_was_given_up_is_told_again_all_or_one() -> None:
    callback = made()
    delivery = run(f"callback test {callback}").strip()
    give_up(callback, delivery, "out of\norder")
    shown = told(f"callback deliveries {callback} {delivery}")
    assert (shown["tries"], shown["last"]["status"], shown["last"]["text"]) == (13, 500, "out of\norder")
    assert run(f"callback deliveries {callback}").endswith("\t500 out of order\n")
    assert "last status\t500\n" in run(f"callback deliveries {callback} {delivery}")
    assert told(f"callback redeliver {callback} --since 2100-01-01T00:00:00Z") == {"count": 0}
    assert told(f"callback redeliver {callback}") == {"count": 1}
    assert told(f"callback redeliver {callback}") == {"count": 0}
    assert told(f"callback redeliver {callback} {delivery}") == {"count": 1}


def test_how_one_stands_is_said_in_the_list() -> None:
    callback = made()
    with session() as postroom:
        postroom.callbacks.failed(postroom.callbacks.get("default", callback))
    assert "\tfailing since " in run("callback list")
    with session() as postroom:
        postroom.callbacks.disable(postroom.callbacks.get("default", callback), "it answered 410")
    assert "\tdisabled: it answered 410\t" in run("callback list")


@pytest.mark.parametrize(
    "line",
    [
        "callback add http://shop.example/",
        "callback add https://10.0.0.1/",
        f"callback add {URL} --event bounced",
        f"callback add {URL} --event message.vanished",
        f"callback add {URL} --description {'x' * 201}",
        "callback redeliver aeqs6ksh3xegymb7 --since yesterday",
        "callback redeliver aeqs6ksh3xegymb7 a --since 2026-12-01T09:00:00Z",
    ],
)
def test_what_makes_no_sense_is_refused(line: str) -> None:
    with pytest.raises(Invalid):
        run(line)
    assert told("callback list") == []


def test_one_that_is_switched_off_is_not_tested() -> None:
    callback = made()
    run(f"callback change {callback} --disable")
    with pytest.raises(Conflict):
        run(f"callback test {callback}")


def test_each_tenant_has_its_own() -> None:
    run("tenant add acme")
    callback = made()
    assert told("callback list --tenant acme") == []
    for line in ("show {}", "remove {}", "rotate-secret {}", "test {}", "deliveries {}", "redeliver {}", "change {} --disable"):
        with pytest.raises(NotFound):
            run(f"callback {line.format(callback)} --tenant acme")
    with pytest.raises(NotFound):
        run("callback list --tenant nobody")
    assert [each["enabled"] for each in told("callback list")] == [True]


def test_networks_of_ones_own_are_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROOM_CALLBACK_NETWORKS", "10.0.0.0/8")
    assert told("callback add http://10.0.0.1:8080/hook")["url"] == "http://10.0.0.1:8080/hook"
