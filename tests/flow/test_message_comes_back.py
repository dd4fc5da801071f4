"""A single message that comes back: its timeline, the callbacks, the suppression list, and the next one to the same address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fakes.correspondents import Correspondents
from tests.fakes.smtp_sink import SmtpSink
from tests.flow.callbacks_kit import NETWORKS, assert_told, happened, receiving, subscribe, until_told
from tests.flow.serve_kit import free_port, served

GONE = "gone-1@example.com"


def test_a_message_that_is_returned_says_so_everywhere_and_the_next_is_refused_with_the_reason(tmp_path: Path) -> None:
    port = free_port()
    with SmtpSink() as sink, receiving() as (receiver, url):
        settings = {"mail": f"smtp://127.0.0.1:{sink.port}?tls=none", "bounce_domain": "bounces.shop.example"}
        settings |= {"feedback_listen": f"127.0.0.1:{port}", "callback_networks": NETWORKS}
        with served(tmp_path, **settings) as office, Correspondents(sink, port):
            office.command("sender", "trust", "shop.example")
            server = office.serve()
            caller = office.key()
            subscribe(office, url)

            def send(to: str) -> Any:
                body = {"to": to, "from": "news@shop.example", "subject": "Hi", "html": "<p>Hello</p>"}
                return caller.call("POST", "/v1/messages", 202, [body])["results"][0]

            sent = send(GONE)["id"]

            def record() -> Any:
                return caller.call("GET", f"/v1/messages/{sent}", 200)

            server.until(lambda: record()["status"] == "bounced", "it to come back")
            events = record()["events"]
            assert [event["kind"] for event in events if event["kind"] != "bounced"] == ["queued", "sent"]
            (bounced,) = [event for event in events if event["kind"] == "bounced"]
            assert (bounced["bounce"]["type"], bounced["bounce"]["class"]) == ("hard", "mailbox")
            (entry,) = caller.call("GET", "/v1/suppressions", 200)["items"]
            assert (entry["address"], entry["reason"], entry["source"]) == (GONE, "bounce", f"{sent}/{bounced['id']}")

            refused = send(GONE)
            assert refused["status"] == "suppressed"
            assert refused["problem"]["detail"] == f"{GONE} is on the suppression list: mail to it was returned"
            assert send("quiet-1@example.com")["status"] == "accepted"
            server.until(lambda: len(sink.accepted) == 2, "the other to leave")
            with office.opened() as postroom:
                until_told(postroom, lambda: receiver.tells() == happened(postroom) and len(receiver.taken) == 5, "all of it")
                assert_told(receiver, postroom)
            told = {tell.event for tell in receiver.tells() if tell.message == sent}
            assert told == {event["id"] for event in events}
