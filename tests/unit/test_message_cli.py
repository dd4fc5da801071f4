"""`postroom message show`: one message with all that happened to it, of a campaign or a single one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from postroom.clock import Instant
from postroom.entrypoints.cli import app
from postroom.entrypoints.cli.session import session
from postroom.errors import NotFound
from postroom.model.campaign import CampaignRef, CampaignStatus, Import
from postroom.model.event import Bounce, BounceClass, BounceType, Event, EventKind
from postroom.model.ids import KEY_BYTES, Key
from postroom.model.message import MessageRow, MessageStatus, Settlement
from postroom.model.tokens import message_id, parse_message_id
from postroom.platform.ports.messages import ReportedEvent
from postroom.services.message_acceptance import AcceptedMessage, MessageRequest
from tests.fakes.campaigns import campaign_record, campaign_spec

KEY = Key(bytes(KEY_BYTES))


@pytest.fixture(autouse=True)
def ref(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTROOM_DATA", str(tmp_path / "data"))


def run(*words: str) -> str:
    done = CliRunner().invoke(app, words)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.stderr
    return done.stdout


def told(kind: EventKind, minute: int, **more: Any) -> Event:
    return Event(kind=kind, attempt=1, at=Instant(1_893_499_200_000 + 60_000 * minute), id=kind.value, source="dsn", **more)


def sent_campaign() -> CampaignRef:
    """Its one message is sent."""
    with session() as postroom:
        messages, now = postroom.messages, postroom.clock.now()
        ref = postroom.records.new_ref("default")
        source = Import("upload", "people.csv", batches=1, rows=1)
        postroom.records.create(campaign_record(ref, CampaignStatus.COMPLETED, now, spec=campaign_spec("Spring"), source=source))
        messages.create(ref, 1)
        messages.store(ref, [MessageRow(0, KEY, 2, "anna@example.com", None, "[]")], now)
        opened = messages.open(ref, 0, "w", now, lease_ms=1_000)
        assert opened is not None
        sent = Settlement(KEY, MessageStatus.SENT, 1, now, None, 250, "2.0.0 Ok")
        messages.record(ref, 0, opened.fence, [sent], [], now, lease_ms=1_000)
        messages.close(ref, 0, opened.fence)
    return ref


def report(ref: CampaignRef, *events: Event) -> None:
    with session() as postroom:
        postroom.messages.record_events(ref, [ReportedEvent(0, KEY, event) for event in events], postroom.clock.now())


def test_a_message_of_a_campaign_with_its_timeline() -> None:
    ref = sent_campaign()
    bounced = told(EventKind.BOUNCED, 2, bounce=Bounce(BounceType.HARD, BounceClass.MAILBOX, "5.1.1"), detail="5.1.1 \x1b[2Jgone")
    report(ref, bounced, told(EventKind.CLICKED, 1, url="https://shop.example/", machine=True))
    id_ = message_id(ref, KEY)
    head, *lines = run("message", "show", id_).splitlines()
    assert head == "anna@example.com  bounced  5.1.1 �[2Jgone"
    assert [line.split("\t")[1] for line in lines] == ["queued", "sent", "clicked (a machine)", "bounced (hard, mailbox)"]
    assert "https://shop.example/" in lines[2]
    shown = json.loads(run("message", "show", id_, "--json"))
    assert (shown["id"], shown["status"], shown["clicked_at"]) == (id_, "bounced", None)
    assert shown["events"][-1]["bounce"] == {"type": "hard", "class": "mailbox", "code": "5.1.1"}
    (listed,) = map(json.loads, run("campaign", "messages", ref.campaign, "--json").splitlines())
    assert (listed["id"], listed["unsubscribed_at"]) == (id_, None)


def test_people_show_in_the_numbers_of_their_campaign() -> None:
    ref = sent_campaign()
    assert "opened" not in run("campaign", "show", ref.campaign)
    report(ref, told(EventKind.OPENED, 1))
    assert ["opened", "1"] in [line.split() for line in run("campaign", "show", ref.campaign).splitlines()]
    assert json.loads(run("campaign", "show", ref.campaign, "--json"))["engagement"]["opened"] == 1


def test_a_single_message() -> None:
    run("sender", "trust", "shop@example.com")
    with session() as postroom:
        seed = postroom.transactional.new_seed()
        request = MessageRequest(to="anna@example.org", from_="shop@example.com", subject="Hello", html="<p>Hello</p>")
        (accepted,) = postroom.transactional.submit("default", [request], seed=seed)
        assert isinstance(accepted, AcceptedMessage)
    shown = json.loads(run("message", "show", accepted.id, "--json"))
    assert (shown["address"], shown["status"]) == ("anna@example.org", "pending")
    assert [event["kind"] for event in shown["events"]] == ["queued"]
    other = parse_message_id(accepted.id)[0] + "-" + "2" * 20
    with pytest.raises(NotFound):
        run("message", "show", other)
