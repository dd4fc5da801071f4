"""The guard of a running server: what bounces too often is warned of, then paused, and goes on once a person resumes it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.correspondents import Correspondents
from tests.fakes.smtp_sink import Rule, SmtpSink
from tests.flow.serve_kit import Caller, free_port, served

DOMAIN = "bounces.shop.example"
_EARLY_S = 30
"""Into a minute: half of one is enough to send what is left and to hear of it."""
REFUSED = Rule("rcpt", "reply", 550, "5.1.1 no such user", to="nobody-*")


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with SmtpSink([REFUSED]) as sink:
        yield sink


def order(caller: Caller, name: str, *, rate: int | None = None, **people: int) -> str:
    """A campaign to so many people of its own of each kind (fakes.correspondents; `nobody`: refused at once); its id."""
    rows = "email\n" + "".join(f"{does}-{name}{n}@example.com\n" for does, size in people.items() for n in range(size))
    body = {
        "name": name,
        "template_id": caller.template("<p>Hello</p>", subject="Hi"),
        "upload_id": caller.upload(rows.encode()),
        "from": "news@shop.example",
        "rate": rate,
    }
    campaign: str = caller.call("POST", "/v1/campaigns", 201, body)["id"]
    return campaign


def status(caller: Caller, campaign: str) -> Any:
    return caller.call("GET", f"/v1/campaigns/{campaign}/status", 200)


def said(caller: Caller, action: str) -> dict[str, str]:
    """What the guard has to say, by what it is about."""
    entries = caller.call("GET", "/v1/audit?limit=200", 200)["items"]
    return {entry["target"]: entry["reason"] for entry in entries if entry["action"] == action and entry["reason"]}


def test_what_bounces_is_warned_of_then_paused_and_goes_on_when_a_person_says_so(tmp_path: Path, sink: SmtpSink) -> None:
    port = free_port()
    settings = {"mail": f"smtp://127.0.0.1:{sink.port}?tls=none", "bounce_domain": DOMAIN}
    settings |= {"feedback_listen": f"127.0.0.1:{port}"}
    settings |= {"guard_sample": "40", "bounce_warn": "5", "bounce_pause": "30"}
    with served(tmp_path, **settings) as office, Correspondents(sink, port) as people:
        server = office.serve()
        office.command("sender", "trust", "shop.example")
        caller = office.key()

        # One of ten refused at once: that is said, and no more. So many that the provider's rate stays within its limit as well.
        mild = order(caller, "mild", nobody=20, quiet=180)
        assert caller.settled(mild)["status"] == "completed"
        # A fifth refused at once, a fifth returned later: each alone is borne, both together are too much.
        bad = order(caller, "bad", nobody=60, gone=60, quiet=180, rate=10)
        server.until(lambda: status(caller, bad)["status"] == "paused", "the guard")
        shown = status(caller, bad)
        assert shown["reason"].startswith("the guard paused it: ")
        assert "bounced for good in the last 1 h; the limit is 30 %" in shown["reason"]
        assert shown["counts"]["pending"] > 0
        assert people.answered, "some of it came back by mail"
        assert said(caller, "guard pause campaign") == {f"campaign/{bad}": shown["reason"]}
        server.until(lambda: f"campaign/{mild}" in said(caller, "guard warn"), "the warning")
        assert "10 % of messages bounced for good" in said(caller, "guard warn")[f"campaign/{mild}"]

        # Whoever resumes it has seen why: it goes on, though people bounce as before. Its window starts at the next whole minute, so
        # all that is left has to go out before that, or it would be paused again, rightly.
        server.until(lambda: time.time() % 60 < _EARLY_S, "a minute with time left")
        caller.call("PATCH", f"/v1/campaigns/{bad}", 200, {"rate": None})
        caller.call("POST", f"/v1/campaigns/{bad}/resume", 200)
        settled = caller.settled(bad)
        assert settled["status"] == "completed", settled["reason"]
        assert set(Counter(sink.recipients()).values()) == {1}
        server.until(lambda: status(caller, bad)["counts"]["bounced"] == 120, "all of them to be counted")
