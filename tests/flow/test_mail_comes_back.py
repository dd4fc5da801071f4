"""A campaign whose recipients' servers, mailbox providers and mail programs answer by mail: the records say what those did."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from postroom.ledger.arrivals import QUEUE
from postroom.model.event import EventKind
from postroom.model.message import MessageState
from tests.fakes.correspondents import Correspondents, answer
from tests.fakes.mailbox_servers import PASSWORD, USER, Store, mailbox_server
from tests.fakes.smtp_sink import SmtpSink
from tests.flow.serve_kit import Caller, Served, free_port, served

DOMAIN = "bounces.shop.example"
EACH = 6
STATES = {
    "gone": MessageState.BOUNCED,
    "full": MessageState.BOUNCED,
    "slow": MessageState.SENT,
    "took": MessageState.DELIVERED,
    "angry": MessageState.COMPLAINED,
    "away": MessageState.SENT,
    "leaves": MessageState.SENT,
    "asks": MessageState.SENT,
    "forged": MessageState.SENT,
    "quiet": MessageState.SENT,
}
EVENTS = {
    "gone": [EventKind.BOUNCED],
    "full": [EventKind.BOUNCED],
    "slow": [EventKind.DELAYED],
    "took": [EventKind.DELIVERED],
    "angry": [EventKind.COMPLAINED],
    "leaves": [EventKind.UNSUBSCRIBED],
    "asks": [EventKind.UNSUBSCRIBED],
}
"""Beside `sent`, which all have: one, or none."""
REASONS = {"gone": "bounce", "angry": "complaint", "leaves": "unsubscribe", "asks": "unsubscribe"}


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with SmtpSink() as sink:
        yield sink


def order(office: Served, caller: Caller) -> str:
    """A campaign to `EACH` of each kind; its id."""
    office.command("sender", "vouch", "shop.example")
    rows = "email\n" + "".join(f"{does}-{n}@example.com\n" for n in range(EACH) for does in STATES)
    body = {
        "name": "News",
        "template_id": caller.template("<p>Hello</p>", subject="Hi"),
        "upload_id": caller.upload(rows.encode()),
    }
    campaign: str = caller.call("POST", "/v1/campaigns", 201, body | {"from": "News <news@shop.example>"})["id"]
    return campaign


def end_leases(office: Served) -> None:
    """As if the minute had passed that a killed process leaves its items leased."""
    with closing(sqlite3.connect(office.data / "control.db", timeout=30)) as database, database:
        database.execute("UPDATE queued SET visible_at = 0 WHERE queue = ? AND dead = 0", (QUEUE,))


def applied(office: Served) -> bool:
    """Whether all that was heard is part of the records."""
    with closing(sqlite3.connect(office.data / "control.db", timeout=30)) as database:
        (waiting,) = database.execute("SELECT count(*) FROM queued WHERE queue = ?", (QUEUE,)).fetchone()
    return not waiting


def does(address: str) -> str:
    return address.partition("-")[0]


def assert_agree(office: Served, campaign: str, caller: Caller) -> None:
    """The ledger, the timelines and the suppression list say what the recipients did: all of it, once, and nothing else."""
    with office.opened() as postroom:
        home = next(iter(postroom.records.list("default").campaigns)).home
        assert home.campaign == campaign
        messages = postroom.messages.list(home, limit=1_000).messages
        states = Counter((does(message.address), message.state) for message in messages)
        timelines = {message.address: postroom.messages.timeline(home, message.batch, message.key) for message in messages}
        engagement = postroom.messages.totals(home).engagement
    assert states == dict.fromkeys(STATES.items(), EACH)
    wrong = {
        address: kinds
        for address, events in timelines.items()
        if (kinds := [event.kind for event in events if event.kind is not EventKind.SENT]) != EVENTS.get(does(address), [])
    }
    assert not wrong
    assert engagement.unsubscribed == 2 * EACH
    listed = caller.call("GET", "/v1/suppressions?limit=1000", 200)["items"]
    assert Counter(entry["reason"] for entry in listed) == {"bounce": EACH, "complaint": EACH, "unsubscribe": 2 * EACH}
    named = {does(entry["address"]): entry["reason"] for entry in listed if entry["address"]}
    assert named.items() <= REASONS.items()


def test_what_comes_back_while_its_process_is_killed_again_and_again_is_neither_lost_nor_counted_twice(
    tmp_path: Path, sink: SmtpSink
) -> None:
    port = free_port()
    settings = {"mail": f"smtp://127.0.0.1:{sink.port}?tls=none", "bounce_domain": DOMAIN, "feedback_listen": f"127.0.0.1:{port}"}
    with served(tmp_path, **settings) as office, Correspondents(sink, port) as people:
        server = office.serve()
        caller = office.key()
        campaign = order(office, caller)
        answering = (len(STATES) - 1) * EACH
        for share in (0.1, 0.4, 0.7):
            server.until(lambda share=share: len(people.answered) >= share * answering, "answers")  # type: ignore[misc]  # bound now
            (victim,) = office.role("feedback")
            os.kill(victim, signal.SIGKILL)
            server.until(lambda victim=victim: office.role("feedback") not in ([], [victim]), "another process")  # type: ignore[misc]
        server.until(lambda: len(people.answered) == answering, "all answers")
        assert caller.settled(campaign)["status"] == "completed"
        end_leases(office)
        server.until(lambda: applied(office), "all of them to be applied")
        assert_agree(office, campaign, caller)


def test_what_comes_back_to_a_mailbox_is_heard_too(tmp_path: Path, sink: SmtpSink) -> None:
    store = Store()
    with mailbox_server("imap", store) as port:
        url = f"imap://{USER.replace('@', '%40')}:{PASSWORD.replace('@', '%40').replace('/', '%2F')}@127.0.0.1:{port}?tls=none"
        settings = {"mail": f"smtp://127.0.0.1:{sink.port}?tls=none", "bounce_domain": DOMAIN, "feedback_mailbox": url}
        with served(tmp_path, **settings) as office:
            server = office.serve()
            caller = office.key()
            campaign = order(office, caller)
            assert caller.settled(campaign)["status"] == "completed"
            for mail in sink.accepted:
                if letter := answer(mail):
                    store.add(f"Delivered-To: {letter[0]}\r\n".encode() + letter[1])
            (watching,) = office.role("feedback")
            os.kill(watching, signal.SIGKILL)  # the next one looks at once; this one would within a minute
            server.until(lambda: len(store.uids) == EACH, "the mailbox to be emptied, but for forged mail")
            server.until(lambda: applied(office), "all of them to be applied")
            assert_agree(office, campaign, caller)
