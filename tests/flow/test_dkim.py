"""Mail is signed as it leaves through SMTP: campaigns and single messages, each as its receiver gets it. Where its sender's key
cannot be used nothing leaves, and people are told why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dkim  # type: ignore[import-untyped]  # it has no types

from postroom.model.dkim import record_name
from postroom.platform.ports.tables import ItemKey, Put
from tests.fakes.smtp_sink import SmtpSink
from tests.flow.campaign_kit import MakeOffice, Office, until, write_csv
from tests.flow.serve_kit import Caller, served

DOMAIN = "a.example"
PUBLIC_URL = "https://mail.example.com"
RECORD = ItemKey("default#dkim", DOMAIN)
WHY = re.compile(r"a\.example cannot be signed .* master key 0123456789ab, which is gone; bring it back")
Dns = Callable[..., bytes | None]


def with_keys(office: Office) -> Dns:
    """Two keys that sign, and the DNS as dkimpy asks it."""
    with office.opened() as postroom:
        made = postroom.dkim.add("default", DOMAIN, ed25519=True)
        for key in made:
            postroom.dkim.trust("default", DOMAIN, key.selector)
    zone = {f"{record_name(key.selector, DOMAIN)}.".encode(): key.record.encode() for key in made}
    return lambda name, timeout=5: zone.get(name)


def signed_names(content: bytes, dns: Dns) -> list[set[str]]:
    """What each signature covers; both are valid."""
    for number in (0, 1):
        assert dkim.DKIM(content).verify(idx=number, dnsfunc=dns)
    head = re.sub(rb"\r\n[ \t]", b"", content.partition(b"\r\n\r\n")[0])
    found = re.findall(rb"^DKIM-Signature:.* h=([^;]+);", head, re.MULTILINE)
    return [set(each.decode().split(":")) for each in found]


@contextmanager
def unusable(office: Office) -> Iterator[None]:
    """The master key that the DKIM keys were encrypted under is gone."""
    with office.opened() as postroom:
        item = postroom.tables.get(RECORD)
        assert item is not None
        lost = [{**key, "sealed": re.sub(r"^s1\.\w+", "s1.0123456789ab", key["sealed"])} for key in item.data["keys"]]
        postroom.tables.write([Put(RECORD, {"keys": lost})])
    yield
    with office.opened() as postroom:
        postroom.tables.write([Put(RECORD, item.data)])


def test_each_message_of_a_campaign_is_verified(make_office: MakeOffice) -> None:
    people = [f"p{number}@x.example" for number in range(40)]
    with SmtpSink() as sink:
        office: Office = make_office(sink.port, public_url=PUBLIC_URL)
        dns = with_keys(office)
        write_csv(office.recipients, people)
        office.template.write_text('<p>Grüße {{ name }}</p>\n.\n..\n<a href="https://shop.example/">x</a> \t \n\n\n')
        assert office.send().wait() == 0
    assert sorted(sink.recipients()) == sorted(people)
    for one in sink.accepted:
        for names in signed_names(one.content, dns):
            assert names >= {"From", "To", "Subject", "Date", "Message-ID", "List-Unsubscribe", "List-Unsubscribe-Post"}


def test_a_server_lets_nothing_leave_unsigned_and_says_why(tmp_path: Path) -> None:
    """Single messages are signed too. Where the key cannot be used, one waits, and a campaign is paused."""
    with SmtpSink() as sink, served(tmp_path, mail=f"smtp://127.0.0.1:{sink.port}?tls=none", public_url=PUBLIC_URL) as office:
        dns = with_keys(office)
        with office.opened() as postroom:
            postroom.senders.trust("default", DOMAIN, operator="olga")
        office.serve()
        caller = office.key()
        single(caller, "Hello")
        until(lambda: len(sink.accepted) == 1, "the message")
        with unusable(office):
            news = campaign(caller)
            paused = caller.settled(news)
            assert paused["status"] == "paused"
            assert WHY.search(paused["reason"])
            rehearsed = caller.call("POST", f"/v1/campaigns/{news}/dry-run", 200)  # shows what would leave, and needs no key
            assert (rehearsed["accepted"], rehearsed["not_composed"]) == (1, 0)
            waiting = single(caller, "Hello again")
            until(lambda: look(caller, waiting)["status"] == "deferred", "the message to wait")
            assert WHY.search(look(caller, waiting)["reply"])
            assert len(sink.accepted) == 1
    assert all("List-Unsubscribe-Post" in names for names in signed_names(sink.accepted[0].content, dns))


def campaign(caller: Caller) -> str:
    """To one person; its id."""
    body = {"name": "News", "template_id": caller.template("<p>Hi</p>", subject="Hi"), "from": f"news@{DOMAIN}"}
    upload = caller.upload(b"email\nann@x.example\n")
    found: str = caller.call("POST", "/v1/campaigns", 201, {**body, "upload_id": upload})["id"]
    return found


def single(caller: Caller, html: str) -> str:
    body = {"to": "ann@x.example", "from": f"news@{DOMAIN}", "subject": "Hi", "html": f"<p>{html}</p>", "unsubscribe": True}
    found: str = caller.call("POST", "/v1/messages", 202, body)["id"]
    return found


def look(caller: Caller, id: str) -> dict[str, str]:  # noqa: A002
    found: dict[str, str] = caller.call("GET", f"/v1/messages/{id}", 200)
    return found
