"""A provider whose number for the day is used up while a server sends: the campaign's status says so, until there is more."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.smtp_sink import SmtpSink
from tests.flow.serve_kit import served


def test_a_campaign_that_waits_for_another_day_says_so_whoever_is_killed(tmp_path: Path) -> None:
    with SmtpSink() as sink, served(tmp_path) as office:
        relay = "provider", "add", "relay", f"smtp://127.0.0.1:{sink.port}?tls=none"
        assert office.command(*relay, "--per-day", "20")[0] == 0
        assert office.command("sender", "trust", "example.com")[0] == 0
        server = office.serve()
        caller = office.key()
        body = {
            "name": "News",
            "template_id": caller.template("<p>Hello</p>", subject="Hi"),
            "upload_id": caller.upload(("email\n" + "".join(f"p{n}@example.com\n" for n in range(30))).encode()),
            "from": "news@example.com",
            "provider": "relay",
        }
        campaign = caller.call("POST", "/v1/campaigns", 201, body)["id"]

        def waiting_for() -> str:
            return caller.call("GET", f"/v1/campaigns/{campaign}/status", 200)["waiting_for"] or ""

        server.until(lambda: waiting_for() != "", "the day to be used up")
        said = waiting_for()
        assert said.startswith("today's 18 recipients of the provider relay for campaigns are used up; it goes on at ")
        assert said.endswith("T00:00Z")
        _, _, shown = office.command("campaign", "show", campaign)
        assert f"waiting: {said}" in shown
        server.until(lambda: len(sink.accepted) == 18, "what the day allows to be sent")

        assert office.command(*relay, "--per-day", "200", "--replace")[0] == 0
        assert caller.settled(campaign)["waiting_for"] is None
        assert sorted(sink.recipients()) == sorted(f"p{n}@example.com" for n in range(30))
