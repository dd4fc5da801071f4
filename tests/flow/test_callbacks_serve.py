"""Callbacks as a tenant's system gets them from a running server, whose process for them is killed again and again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from postroom.model.event import EventKind
from tests.flow.callbacks_kit import NETWORKS, pass_time, receiving, subscribe, until_told
from tests.flow.campaign_kit import until
from tests.flow.serve_kit import served

PEOPLE = 120


def test_every_event_is_told_although_the_process_is_killed(tmp_path: Path) -> None:
    with receiving() as (receiver, url), served(tmp_path, callback_networks=NETWORKS) as office:
        server = office.serve()
        caller = office.key()
        subscribe(office, url, EventKind.QUEUED, EventKind.SENT)
        with office.opened() as postroom:
            assert office.command("sender", "trust", "example.com")[0] == 0
            rows = "email,name\n" + "".join(f"p{number}@example.com,N\n" for number in range(PEOPLE))
            ordered = {
                "name": "News",
                "template_id": caller.template("<p>Hello {{ name }}</p>"),
                "upload_id": caller.upload(rows.encode()),
                "from": "news@example.com",
            }
            campaign = caller.call("POST", "/v1/campaigns", 201, ordered)["id"]
            for enough in (20, 80, 150):
                until(lambda enough=enough: len(receiver.told) >= enough, f"{enough} requests")  # type: ignore[misc]
                (victim,) = office.role("callbacks")
                os.kill(victim, signal.SIGKILL)
                server.until(lambda gone=victim: office.role("callbacks") not in ([], [gone]), "another one")  # type: ignore[misc]
                pass_time(postroom)
            caller.settled(campaign)
            expected = {f"message.{what} p{number}@example.com" for what in ("queued", "sent") for number in range(PEOPLE)}
            until_told(postroom, lambda: receiver.events().keys() == expected, "everything to be told")
        assert set(receiver.events().values()) == {1}, "what is told twice has the same id"
        assert all(len(set(bodies)) == 1 for bodies in receiver.told.values())
