"""A newcomer's first hour, as docs/tutorial/first-program.md tells it: start, sign in, template, upload, campaign, status, mail."""

from __future__ import annotations

import re
from pathlib import Path

import requests

from tests.flow.serve_kit import Caller, served, sign_in

CSV = "E-Mail;First Name;City\nanna@example.com;Anna;Oslo\nbo@example.com;;Lund\nANNA@example.com;Anna;Oslo\nnot-an-address;Cy;Rome\n"


def test_from_the_first_start_to_the_message_in_the_inbox(tmp_path: Path) -> None:
    with served(tmp_path) as office:
        server = office.serve()
        server.until(lambda: "no user can sign in yet" in server.stderr, "the first invitation")
        link = re.search(r"http://\S+", server.stderr[server.stderr.index("no user can") :])
        assert link
        somebody = Caller(office.url, sign_in(office.url, link[0]))
        assert somebody.call("GET", "/v1/tenants/me", 200)["you"]["operator"] is True
        somebody.call("POST", "/v1/senders/news@shop.example/trust", 200)
        template = somebody.template("<p>Hello {{ first_name | default('you') }} in {{ city }}</p>", subject="For {{ city }}")
        upload = somebody.upload(CSV.encode())
        seen = somebody.call("GET", f"/v1/uploads/{upload}", 200)
        assert seen["status"] == "ready", seen
        campaign = somebody.call(
            "POST",
            "/v1/campaigns",
            201,
            {"name": "First", "template_id": template, "upload_id": upload, "from": "News <news@shop.example>"},
            headers={"Idempotency-Key": "first"},
        )["id"]
        status = somebody.settled(campaign)
        counts = status["counts"]
        assert (status["status"], counts["rows"], counts["sent"], counts["duplicate"], counts["invalid"]) == (
            "completed",
            4,
            2,
            1,
            1,
        )
        assert "not-an-address" in somebody.call("GET", f"/v1/campaigns/{campaign}/rejected.csv", 200)
        _, listed, _ = office.command("inbox", "list")
        assert "anna@example.com" in listed
        assert "bo@example.com" in listed
        single = somebody.call(
            "POST",
            "/v1/messages",
            202,
            {"to": "cy@example.com", "from": "news@shop.example", "template_id": template, "variables": {"city": "Rome"}},
        )
        server.until(
            lambda: somebody.call("GET", f"/v1/messages/{single['id']}", 200)["status"] == "sent", "the single message to leave"
        )
        assert requests.get(f"{office.url}/v1/campaigns", timeout=5).status_code == 401
        server.process.terminate()
        assert server.wait(30) == 0
        assert not office.processes()
