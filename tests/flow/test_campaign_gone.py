"""A campaign that is deleted, or no longer kept, while people still answer it: what they want is heard, and nothing breaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from postroom.clock import Instant
from postroom.ledger.inbound_events import FEEDBACK_QUEUE
from postroom.platform.ports.queues import QueueDepth
from tests.fakes.correspondents import Correspondents, read
from tests.fakes.smtp_sink import SmtpSink
from tests.flow.callbacks_kit import NETWORKS, receiving, subscribe
from tests.flow.serve_kit import Caller, Served, free_port, served

PEOPLE = ("gone", "full", "slow", "took", "angry", "away", "leaves", "asks", "forged", "presses", "quiet")
DAY_MS = 86_400_000


def delete(_office: Served, caller: Caller, campaign: str) -> None:
    """By a person."""
    caller.call("DELETE", f"/v1/campaigns/{campaign}", 204)


def outlive(office: Served, _caller: Caller, _campaign: str) -> None:
    """As after the days for which it is kept."""
    with office.opened() as postroom:
        later = Instant(postroom.clock.now() + 40 * DAY_MS)
        assert postroom.campaign_retention.run(later, days=30, stopped=lambda: False) == 1


@pytest.mark.parametrize("ends", [delete, outlive])
def test_people_who_answer_a_campaign_that_is_gone_are_heard(tmp_path: Path, ends: Callable[[Served, Caller, str], None]) -> None:
    port = free_port()
    with SmtpSink() as sink, receiving() as (_, url):
        settings = {"mail": f"smtp://127.0.0.1:{sink.port}?tls=none", "bounce_domain": "bounces.shop.example"}
        settings |= {"feedback_listen": f"127.0.0.1:{port}", "callback_networks": NETWORKS}
        with served(tmp_path, **settings) as office:
            office.command("sender", "trust", "shop.example")
            server = office.serve(public_url=office.url)
            caller = office.key()
            subscribe(office, url)
            body = {
                "name": "News",
                "template_id": caller.template('<p>Hello <a href="https://shop.example/spring">spring</a></p>', subject="Hi"),
                "upload_id": caller.upload(("email\n" + "".join(f"{does}-1@example.com\n" for does in PEOPLE)).encode()),
                "from": "news@shop.example",
            }
            campaign = caller.call("POST", "/v1/campaigns", 201, body)["id"]
            assert caller.settled(campaign)["status"] == "completed"
            ends(office, caller, campaign)

            with Correspondents(sink, port) as people:
                server.until(lambda: len(people.answered) == len(PEOPLE) - 1, "all of them to answer")
                with office.opened() as postroom:
                    server.until(lambda: postroom.queues.depth(FEEDBACK_QUEUE) == QueueDepth(0, 0, 0, 0), "all of it to be heard")
            pixel, link = (requests.get(url, timeout=20, allow_redirects=False) for _, url in read(sink.accepted[0]))
            assert (pixel.status_code, link.status_code) == (200, 404)
            listed = caller.call("GET", "/v1/suppressions?limit=1000", 200)["items"]
            assert Counter(entry["reason"] for entry in listed) == {"bounce": 1, "complaint": 1, "unsubscribe": 3}
            assert "is started again" not in server.stderr
