"""A campaign that people read: what they open, click and unsubscribe, by what is in the mail as it was delivered."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.fakes.smtp_sink import SmtpSink
from tests.flow.campaign_kit import until
from tests.flow.serve_kit import Caller, served

PEOPLE = ("anna", "ben", "cara", "dan", "eve")
HTML = (
    '<html><body><p>Hello {{ name }}: <a href="https://shop.example/spring?a=1&amp;b=2">spring</a>, '
    '<a href="https://shop.example/for/{{ name }}">yours</a></p></body></html>'
)
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
APPLE = "Mozilla/5.0"


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with SmtpSink() as sink:
        yield sink


@dataclass(frozen=True)
class Mail:
    """As a recipient has it."""

    message: EmailMessage

    @property
    def html(self) -> str:
        body = self.message.get_body(("html",))
        assert body is not None
        return str(body.get_content())

    @property
    def pixel(self) -> str:
        (found,) = re.findall(r'<img src="([^"]+)"', self.html)
        return unescape(found)

    @property
    def links(self) -> list[str]:
        return [unescape(each) for each in re.findall(r'href="([^"]+)"', self.html)]

    @property
    def way_out(self) -> str:
        """RFC 2369's, if it is RFC 8058's too."""
        assert self.message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        found = re.search(r"<(http[^>]+)>", self.message["List-Unsubscribe"])
        assert found
        return found[1]


def mails(sink: SmtpSink) -> dict[str, Mail]:
    """The last one of each recipient, by the name before the @."""
    found = {}
    for each in sink.accepted:
        message = email.message_from_bytes(each.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        found[each.recipient.partition("@")[0]] = Mail(message)
    return found


def fetch(url: str, agent: str) -> requests.Response:
    return requests.get(url, headers={"User-Agent": agent}, timeout=30, allow_redirects=False)


def order(caller: Caller, topic: str | None) -> str:
    """A campaign to everybody, sent; its id."""
    rows = "email,name\n" + "".join(f"{name}@example.com,{name}\n" for name in PEOPLE)
    body = {"name": "News", "template_id": caller.template(HTML), "upload_id": caller.upload(rows.encode())}
    body |= {"from": "Shop News <news@shop.example>"} | ({"topic": topic} if topic else {})
    campaign: str = caller.call("POST", "/v1/campaigns", 201, body)["id"]
    assert caller.settled(campaign)["status"] == "completed"
    return campaign


def message(caller: Caller, campaign: str, name: str) -> dict[str, Any]:
    items = caller.call("GET", f"/v1/campaigns/{campaign}/messages", 200)["items"]
    (found,) = [one["id"] for one in items if one["address"] == f"{name}@example.com"]
    record: dict[str, Any] = caller.call("GET", f"/v1/campaigns/{campaign}/messages/{found}", 200)
    return record


def events(caller: Caller, campaign: str, name: str) -> list[tuple[str, bool]]:
    """What people, or machines, did with the mail."""
    listed = message(caller, campaign, name)["events"]
    return [(one["kind"], one.get("machine", False)) for one in listed if one["source"] in {"tracking", "unsubscribe"}]


def shown(caller: Caller, campaign: str, wanted: dict[str, int]) -> Callable[[], bool]:
    return lambda: caller.call("GET", f"/v1/campaigns/{campaign}/status", 200)["engagement"] == wanted


def test_people_read_click_and_leave_and_the_next_campaign_leaves_them_alone(tmp_path: Path, sink: SmtpSink) -> None:
    with served(tmp_path, mail=f"smtp://127.0.0.1:{sink.port}?tls=none") as office:
        office.serve(public_url=office.url)
        office.command("sender", "trust", "shop.example")
        caller = office.key()
        campaign = order(caller, "news")
        received = mails(sink)
        assert received.keys() == set(PEOPLE)

        # At once: so fast is nobody, if the two seconds are not over already.
        assert fetch(received["eve"].pixel, BROWSER).content.startswith(b"GIF89a")
        until(lambda: bool(events(caller, campaign, "eve")), "the hit to be told")
        sent, opened = (one for one in message(caller, campaign, "eve")["events"] if one["kind"] in {"sent", "opened"})
        too_soon = datetime.fromisoformat(opened["at"]) - datetime.fromisoformat(sent["at"]) < timedelta(seconds=2)
        assert opened["machine"] is too_soon

        # A program that is none of a person's: whenever it comes.
        fetch(received["dan"].pixel, APPLE)
        requests.head(received["dan"].links[0], headers={"User-Agent": BROWSER}, timeout=30)

        # People, once they can.
        until(lambda: _passed(caller, campaign), "two seconds to pass since the mail left")
        fetch(received["anna"].pixel, GMAIL)
        assert [fetch(link, BROWSER).headers["location"] for link in received["ben"].links] == [
            "https://shop.example/spring?a=1&b=2",
            "https://shop.example/for/ben",
        ]
        one_click = requests.post(received["cara"].way_out, data={"List-Unsubscribe": "One-Click"}, timeout=30)
        assert one_click.status_code == 200
        opens = 1 if too_soon else 2
        until(shown(caller, campaign, {"opened": opens, "clicked": 1, "unsubscribed": 1}), "what people did to be counted")
        assert events(caller, campaign, "anna") == [("opened", False)]
        assert events(caller, campaign, "ben") == [("clicked", False), ("clicked", False)]
        assert events(caller, campaign, "cara") == [("unsubscribed", False)]
        assert sorted(events(caller, campaign, "dan")) == [("clicked", True), ("opened", True)]

        # Off the topic, and nothing else; until they take it back.
        entries = caller.call("GET", "/v1/suppressions", 200)["items"]
        assert [(one["address"], one["reason"], one["topic"]) for one in entries] == [("cara@example.com", "unsubscribe", "news")]
        sink.accepted.clear()
        order(caller, "news")
        assert mails(sink).keys() == set(PEOPLE) - {"cara"}
        order(caller, None)
        assert mails(sink).keys() == set(PEOPLE)
        page = requests.post(received["cara"].way_out, data={"choice": "undo-topic"}, timeout=30)
        assert "Shop News" in page.text
        assert caller.call("GET", "/v1/suppressions", 200)["items"] == []
        until(lambda: message(caller, campaign, "cara")["unsubscribed_at"] is None, "the undo to be told")


def _passed(caller: Caller, campaign: str) -> bool:
    """By the door's own clock, as far as the status tells."""
    finished = caller.call("GET", f"/v1/campaigns/{campaign}/status", 200)["finished_at"]
    return (datetime.now(UTC) - datetime.fromisoformat(finished)).total_seconds() > 2.5
