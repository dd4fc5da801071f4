"""Amazon SES events through the HTTP server of `postroom serve`: verified, stored, applied.

    python -m bench.notices [--notices N]

A real `postroom serve`, and SNS's connections to it from this process, each with one notice at a time; every notice is about
another message, one in ten is a hard bounce. 1. How many a second are answered, which is when they are durable. 2. How many a
second are on the records, the feedback process's work included. The rate asked for is 500.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.fakes.ses_simulator import notices
from tests.fakes.ses_simulator.api import Accepted
from tests.fakes.ses_simulator.simulator import SesSimulator
from tests.fakes.ses_simulator.sns import ARN, Topic
from tests.flow.campaign_kit import until
from tests.flow.serve_kit import Caller, Served, served

from postroom.model.campaign import CampaignRef
from postroom.model.message import Message
from postroom.model.tokens import MessageRef, ses_tags

CONNECTIONS = 16
_HEADER = b"Received: from a.example by b.example with ESMTPS id 4Xyz; Tue, 24 Nov 2026 10:00:00 +0000\r\n" * 6 + b"\r\n"


def campaign_of(office: Served, caller: Caller, people: int) -> CampaignRef:
    """One that is imported, and not sent."""
    rows = "".join(f"p{number}@x.example\n" for number in range(people))
    body = {
        "name": "News",
        "template_id": caller.template("<p>{{ email }}</p>", subject="Hi"),
        "upload_id": caller.upload(f"email\n{rows}".encode()),
        "from": "news@shop.example",
        "start": False,
    }
    campaign = caller.call("POST", "/v1/campaigns", 201, body)["id"]
    until(lambda: caller.call("GET", f"/v1/campaigns/{campaign}/status", 200)["status"] == "ready", "the import")
    return CampaignRef("default", campaign)


def messages_of(office: Served, ref: CampaignRef) -> Iterator[Message]:
    cursor: str | None = None
    with office.opened() as postroom:
        while True:
            page = postroom.messages.list(ref, cursor=cursor, limit=1_000)
            yield from page.messages
            cursor = page.cursor
            if cursor is None:
                return


def request_of(topic: Topic, ref: CampaignRef, message: Message, number: int) -> bytes:
    """What SNS posts, ready to leave."""
    tags = dict(ses_tags(MessageRef(0, ref.campaign, message.batch, message.key, 1)))
    taken = Accepted(f"0102{number:012x}", message.address, "news@shop.example", "postroom", tags, _HEADER, 1, time.time())
    made = notices.delivery(taken, time.time()) if number % 10 else notices.bounce(taken, time.time())
    body = json.dumps(topic.notification(made)).encode()
    head = f"POST /hooks/ses HTTP/1.1\r\nHost: door\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def post_all(port: int, requests: list[bytes]) -> None:
    """Over as many connections as SNS would have, each with one notice at a time."""
    waiting = iter(requests)

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in waiting:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(head.decode())
        writer.close()

    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--notices", type=int, default=3_000)
    count = parser.parse_args().notices
    topic = Topic(version="2")
    with tempfile.TemporaryDirectory() as name, SesSimulator(topic=topic) as ses, served(Path(name), ses_topics=ARN) as office:
        office.environ["AWS_ENDPOINT_URL_SNS"] = ses.url
        office.serve()
        office.command("sender", "trust", "news@shop.example")
        caller = office.key()
        ref = campaign_of(office, caller, count)
        requests = [request_of(topic, ref, message, number) for number, message in enumerate(messages_of(office, ref))]
        path = f"/v1/campaigns/{ref.campaign}/status"

        def applied() -> bool:
            counts = caller.call("GET", path, 200)["counts"]
            return bool(counts["delivered"] + counts["bounced"] == count)

        began = time.monotonic()
        asyncio.run(post_all(office.port, requests))
        answered = time.monotonic() - began
        until(applied, "all notices to be applied", 120)
        done = time.monotonic() - began
    print(f"{'verified and stored':28}{count / answered:9,.0f} notices/s")
    print(f"{'and on the records':28}{count / done:9,.0f} notices/s")


if __name__ == "__main__":
    main()
