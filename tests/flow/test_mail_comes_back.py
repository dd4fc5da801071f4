"""A campaign whose recipients' servers, mailbox providers and mail programs answer by mail: the records say what those did."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from postroom.ledger.inbound_events import FEEDBACK_QUEUE
from postroom.model.event import EventKind
from postroom.model.message import MessageStatus
from postroom.model.provider_status import OWN_EVENT_PREFIX
from tests.fakes.correspondents import Correspondents, answer
from tests.fakes.mailbox_servers import PASSWORD, USER, Store, mailbox_server
from tests.fakes.smtp_sink import SmtpSink
from tests.flow.callbacks_kit import NETWORKS, assert_told, happened, receiving, subscribe, until_told
from tests.flow.serve_kit import Caller, Served, free_port, served

DOMAIN = "bounces.shop.example"
EACH = 5
CONNECTIONS = 4
"""Of all workers."""
HITS_MOMENT_S = 1.0
"""What a killed door may lose of opens and clicks: 250 ms, and what a busy disk takes."""
STATES = {
    "gone": MessageStatus.BOUNCED,
    "full": MessageStatus.BOUNCED,
    "slow": MessageStatus.SENT,
    "took": MessageStatus.DELIVERED,
    "angry": MessageStatus.COMPLAINED,
    "away": MessageStatus.SENT,
    "leaves": MessageStatus.SENT,
    "asks": MessageStatus.SENT,
    "forged": MessageStatus.SENT,
    "quiet": MessageStatus.SENT,
}
"""Of those who answer by mail."""
ALL_STATES = STATES | {"reads": MessageStatus.SENT, "presses": MessageStatus.SENT}
EVENTS = {
    "gone": [EventKind.BOUNCED],
    "full": [EventKind.BOUNCED],
    "slow": [EventKind.DELAYED],
    "took": [EventKind.DELIVERED],
    "angry": [EventKind.COMPLAINED],
    "leaves": [EventKind.UNSUBSCRIBED],
    "asks": [EventKind.UNSUBSCRIBED],
    "reads": [EventKind.OPENED, EventKind.CLICKED],
    "presses": [EventKind.UNSUBSCRIBED],
}
"""Beside what our own worker tells, which all have: what was reported of them."""
REASONS = {"gone": "bounce", "angry": "complaint", "leaves": "unsubscribe", "asks": "unsubscribe", "presses": "unsubscribe"}
ROLES = ("worker", "feedback", "callbacks", "http", "timers")


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with SmtpSink() as sink:
        yield sink


def order(office: Served, caller: Caller, kinds: Iterable[str], *, rate: int | None = None) -> str:
    """A campaign to `EACH` of each kind; its id."""
    office.command("sender", "trust", "shop.example")
    rows = "email\n" + "".join(f"{does}-{n}@example.com\n" for n in range(EACH) for does in kinds)
    html = '<html><body><p>Hello, here is the <a href="https://shop.example/spring">spring</a></p></body></html>'
    body = {
        "name": "News",
        "template_id": caller.template(html, subject="Hi"),
        "upload_id": caller.upload(rows.encode()),
        "rate": rate,
    }
    campaign: str = caller.call("POST", "/v1/campaigns", 201, body | {"from": "News <news@shop.example>"})["id"]
    return campaign


def end_leases(office: Served) -> None:
    """As if the minute had passed that a killed process leaves its items leased."""
    with closing(sqlite3.connect(office.data / "control.db", timeout=30)) as database, database:
        database.execute("UPDATE queued SET visible_at = 0 WHERE queue = ? AND dead = 0", (FEEDBACK_QUEUE,))


def applied(office: Served) -> bool:
    """Whether all that was heard is part of the records."""
    with closing(sqlite3.connect(office.data / "control.db", timeout=30)) as database:
        (waiting,) = database.execute("SELECT count(*) FROM queued WHERE queue = ?", (FEEDBACK_QUEUE,)).fetchone()
    return not waiting


def does(address: str) -> str:
    return address.partition("-")[0]


def assert_agree(
    office: Served, caller: Caller, sink: SmtpSink, kinds: Mapping[str, MessageStatus], *, fleeting: Collection[str] = ()
) -> None:
    """The ledger, the timelines and the suppression list say what the recipients did: all of it, once, and nothing else.

    Only a killed worker leaves messages in doubt, one a connection at most. `fleeting`: of what these read some may be lost.
    """
    arrived = set(sink.recipients())
    with office.opened() as postroom:
        (campaign,) = postroom.records.list("default").items
        home = campaign.ref
        messages = postroom.messages.list(home, limit=1_000).messages
        timelines = {message.address: postroom.messages.timeline(home, message.batch, message.key) for message in messages}
        engagement = postroom.messages.totals(home).engagement
    assert len(messages) == EACH * len(kinds)
    unknown = {message.address for message in messages if message.status is MessageStatus.UNKNOWN}
    assert len(unknown) <= CONNECTIONS
    assert {message.address for message in messages} - arrived <= unknown
    wrong = {m.address: m.status for m in messages if m.address not in unknown and m.status is not kinds[does(m.address)]}
    assert not wrong
    heard = {
        address: [event.kind for event in events if not event.id.startswith(OWN_EVENT_PREFIX)]
        for address, events in timelines.items()
    }
    expected = {address: EVENTS.get(does(address), []) if address in arrived else [] for address in timelines}
    different = {address for address in heard if heard[address] != expected[address]}
    assert different <= set(fleeting)
    assert all(set(heard[address]) < set(EVENTS["reads"]) for address in different)
    reasons = Counter(REASONS[does(address)] for address in arrived if does(address) in REASONS)
    assert engagement.unsubscribed == reasons["unsubscribe"]
    listed = caller.call("GET", "/v1/suppressions?limit=1000", 200)["items"]
    assert Counter(entry["reason"] for entry in listed) == reasons
    named = {does(entry["address"]): entry["reason"] for entry in listed if entry["address"]}
    assert named.items() <= REASONS.items()


def kill(office: Served, role: str) -> None:
    """One of them."""
    victim, *_ = office.role(role)
    os.kill(victim, signal.SIGKILL)


def test_while_each_process_is_killed_nothing_that_comes_back_is_lost_or_counted_twice_or_told_by_two_names(
    tmp_path: Path, sink: SmtpSink
) -> None:
    port = free_port()
    settings = {"mail": f"smtp://127.0.0.1:{sink.port}?tls=none&connections={CONNECTIONS // 2}", "bounce_domain": DOMAIN}
    settings |= {"feedback_listen": f"127.0.0.1:{port}", "callback_networks": NETWORKS}
    with receiving() as (receiver, url), served(tmp_path, **settings) as office, Correspondents(sink, port) as people:
        server = office.serve(public_url=office.url)
        caller = office.key()
        subscribe(office, url)
        campaign = order(office, caller, ALL_STATES, rate=30)  # slow enough to be met while it sends
        killed_at = {}
        for number, role in enumerate(ROLES):
            wanted = 4 + number * 11
            server.until(lambda wanted=wanted: len(people.answered) >= wanted, f"{wanted} answers")  # type: ignore[misc]  # bound now
            kill(office, role)
            killed_at[role] = time.monotonic()
        assert caller.settled(campaign)["status"] == "completed"
        answering = {address for address in sink.recipients() if does(address) != "quiet"}
        server.until(lambda: people.answered.keys() == answering, "all answers")
        server.until(lambda: all(office.role(role) for role in ROLES), "another process for each")
        end_leases(office)
        server.until(lambda: applied(office), "all of them to be applied")
        fleeting = {
            address
            for address, at in people.answered_at.items()
            if does(address) == "reads" and abs(killed_at["http"] - at) <= HITS_MOMENT_S
        }
        assert_agree(office, caller, sink, ALL_STATES, fleeting=fleeting)
        with office.opened() as postroom:
            until_told(postroom, lambda: receiver.tells() == happened(postroom), "all of them to be told")
            assert_told(receiver, postroom)


def test_what_comes_back_to_a_mailbox_is_heard_too(tmp_path: Path, sink: SmtpSink) -> None:
    store = Store()
    with mailbox_server("imap", store) as port:
        url = f"imap://{USER.replace('@', '%40')}:{PASSWORD.replace('@', '%40').replace('/', '%2F')}@127.0.0.1:{port}?tls=none"
        settings = {"mail": f"smtp://127.0.0.1:{sink.port}?tls=none", "bounce_domain": DOMAIN, "feedback_mailbox": url}
        with served(tmp_path, **settings) as office:
            server = office.serve()
            caller = office.key()
            campaign = order(office, caller, STATES)
            assert caller.settled(campaign)["status"] == "completed"
            for mail in sink.accepted:
                if letter := answer(mail):
                    store.add(f"Delivered-To: {letter[0]}\r\n".encode() + letter[1])
            (watching,) = office.role("feedback")
            os.kill(watching, signal.SIGKILL)  # the next one looks at once; this one would within a minute
            server.until(lambda: len(store.uids) == EACH, "the mailbox to be emptied, but for forged mail")
            server.until(lambda: applied(office), "all of them to be applied")
            assert_agree(office, caller, sink, STATES)
