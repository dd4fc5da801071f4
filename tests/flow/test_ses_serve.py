"""`postroom serve` through SES and back: records, suppression list and callbacks agree with what SES did, whatever went wrong."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.fakes.ses_simulator import notices
from tests.fakes.ses_simulator.api import Accepted
from tests.fakes.ses_simulator.fates import Fates
from tests.fakes.ses_simulator.rules import Options, Rule
from tests.fakes.ses_simulator.simulator import SesSimulator
from tests.fakes.ses_simulator.sns import ARN
from tests.flow.callbacks_kit import NETWORKS, Receiver, assert_told, happened, receiving, subscribe, until_told
from tests.flow.campaign_kit import until
from tests.flow.serve_kit import Caller, Served, free_port, served

GROUPS = {"fine": 20, "gone": 6, "spam": 4, "full": 4, "slow": 4, "taken": 2, "returned": 2}
FATES = {
    "fine": ("send", "delivery"),
    "gone": ("send", "bounce"),
    "spam": ("send", "delivery", "complaint"),
    "full": ("send", "mailbox_full"),
    "slow": ("send", "delay", "delivery"),
}
"""The others' answers are lost, and nothing is heard of them at first."""
ENDS = {"fine": "delivered", "gone": "bounced", "spam": "complained", "full": "bounced", "slow": "delivered"}
PEOPLE = [f"{group}{number}@x.example" for group, size in GROUPS.items() for number in range(size)]


def group_of(address: str) -> str:
    return address.partition("@")[0].rstrip("0123456789")


def fate(message: Accepted) -> Iterable[str]:
    return FATES.get(group_of(message.recipient), ())


@pytest.fixture
def port() -> int:
    """The door's."""
    return free_port()


@pytest.fixture
def ses(port: int) -> Iterator[SesSimulator]:
    """Takes 200 a second and says so, is too slow now and then all the same, and repeats its notices in any order."""
    rules = [
        Rule("error", 429, "TooManyRequestsException", "Maximum sending rate exceeded.", every=9, times=4),
        Rule("accept_drop", to="taken*"),
        Rule("accept_drop", to="returned*"),
    ]
    fates = Fates(script=fate, repeats=2, shuffled=True)
    with SesSimulator(
        rules, Options(rate=200, quota=10_000), fates=fates, hook=f"http://127.0.0.1:{port}/hooks/ses"
    ) as simulator:
        yield simulator


@pytest.fixture
def office(tmp_path: Path, ses: SesSimulator, port: int) -> Iterator[Served]:
    with served(tmp_path, mail=ses.provider, ses_topics=ARN, callback_networks=NETWORKS) as opened:
        opened.port, opened.url = port, f"http://127.0.0.1:{port}"
        opened.environ |= {"POSTROOM_LISTEN": f"127.0.0.1:{port}", "AWS_ENDPOINT_URL_SNS": ses.url}
        opened.serve()
        yield opened


@pytest.fixture
def receiver(office: Served) -> Iterator[Receiver]:
    with receiving() as (receiver, url):
        subscribe(office, url)
        yield receiver


@pytest.fixture
def caller(office: Served) -> Caller:
    code, _, err = office.command("sender", "trust", "news@shop.example")
    assert code == 0, err
    return office.key()


def post(office: Served, ses: SesSimulator, document: dict[str, Any]) -> None:
    """What SNS would."""
    for _ in range(2):
        answer = requests.post(f"{office.url}/hooks/ses", json=ses.topic.notification(document), timeout=20)
        assert answer.status_code == 200, answer.text


def states(caller: Caller, campaign: str) -> dict[str, str]:
    items = caller.call("GET", f"/v1/campaigns/{campaign}/messages?limit=1000", 200)["items"]
    return {item["address"]: item["status"] for item in items}


def counted(found: dict[str, str]) -> dict[str, Counter[str]]:
    return {group: Counter(state for address, state in found.items() if group_of(address) == group) for group in GROUPS}


def test_what_ses_did_is_what_the_records_and_the_list_say_and_what_is_told(
    office: Served, receiver: Receiver, caller: Caller, ses: SesSimulator
) -> None:
    body = {
        "name": "test",
        "template_id": caller.template("<p>{{ email }}</p>", subject="Hi"),
        "upload_id": caller.upload(("email\n" + "\n".join(PEOPLE) + "\n").encode()),
        "from": "news@shop.example",
    }
    campaign = caller.call("POST", "/v1/campaigns", 201, body)["id"]
    single = caller.call(
        "POST",
        "/v1/messages",
        202,
        {"to": "bounce@simulator.amazonses.com", "from": "news@shop.example", "subject": "Hi", "html": "<p>Hi</p>"},
    )["id"]
    until(lambda: len(ses.accepted) > 10, "mail to leave")
    for door in office.role("http"):  # SNS brings again what the killed one did not answer
        os.kill(door, signal.SIGKILL)
    until(office.ready, "another door")

    lost = {"taken": Counter(unknown=2), "returned": Counter(unknown=2)}
    ends = {group: Counter({end: GROUPS[group]}) for group, end in ENDS.items()} | lost
    until(lambda: counted(states(caller, campaign)) == ends, "all that SES has told to be noted")
    assert Counter(ses.recipients()) == Counter([*PEOPLE, "bounce@simulator.amazonses.com"]), "each once, throttled or not"
    until(lambda: caller.call("GET", f"/v1/messages/{single}", 200)["status"] == "bounced", "the single message to be returned")

    for message in ses.accepted:  # now it is heard what became of those whose answers were lost
        if group_of(message.recipient) == "taken":
            post(office, ses, notices.send(message, message.at))
        elif group_of(message.recipient) == "returned":
            post(office, ses, notices.bounce(message, message.at))
    ends |= {"taken": Counter(sent=2), "returned": Counter(bounced=2)}
    until(lambda: counted(states(caller, campaign)) == ends, "the unknown ones to be settled", 20)
    assert caller.settled(campaign)["status"] == "completed"

    listed = {item["address"]: item["reason"] for item in caller.call("GET", "/v1/suppressions?limit=1000", 200)["items"]}
    bounced = {address: "bounce" for address in PEOPLE if group_of(address) in ("gone", "returned")}
    complained = {address: "complaint" for address in PEOPLE if group_of(address) == "spam"}
    assert listed == {**bounced, **complained, "bounce@simulator.amazonses.com": "bounce"}
    assert ses.violations == []
    with office.opened() as postroom:
        until_told(postroom, lambda: receiver.tells() == happened(postroom), "all of it to be told")
        assert_told(receiver, postroom)
    bounces = {tell.recipient for tell in receiver.tells() if tell.type == "message.bounced"}
    assert bounces == {
        *bounced,
        *(address for address in PEOPLE if group_of(address) == "full"),
        "bounce@simulator.amazonses.com",
    }
