"""How many reports a second the listener takes in: from the final dot to what they say being durable, and only then answered.

    python -m bench.listener [reports]

The listener runs in a process of its own with the real inbound mail processor and stores; clients in other processes
bring delivery reports with 20 KB of the returned mail. Beside it stands what reading them alone takes.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import smtplib
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

from postroom.events.bounce_parser import parse_report
from postroom.events.bounce_parser.mime import MAX_PARSED_BYTES
from postroom.events.inbound_mail import InboundMailProcessor
from postroom.events.tracking import TenantSecretCache
from postroom.events.unsubscribe import UnsubscribeService
from postroom.ledger.inbound_events import FEEDBACK_QUEUE, InboundEventQueue
from postroom.ledger.suppression import SuppressionList
from postroom.ledger.tenants import Tenants
from postroom.model.ids import Key, encode
from postroom.model.tokens import TokenSealer
from postroom.platform.mail.listener import MAX_BYTES, Listener
from postroom.platform.mail.listener_session import ListenerConfig
from postroom.settings import Settings
from postroom.wiring.stores import open_stores

DOMAIN: Final = "bounces.example"
CLIENTS: Final = 2
CONNECTIONS: Final = 10
"""Of each client."""
RETURNED: Final = "<p style='margin:0'>Good news about what you subscribed to, in plain words.</p>\n" * 250


def report(to: str, number: int) -> bytes:
    """As Postfix writes it."""
    text = f"""From: MAILER-DAEMON@mx.example.net
To: {to}
Message-ID: <{number}@mx.example.net>
Subject: Undelivered Mail Returned to Sender
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b

This is the mail system at host mx.example.net.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: rfc822; r{number}@example.net
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 no such user

--b
Content-Type: message/rfc822

From: news@shop.example

{RETURNED}
--b--
"""
    return text.replace("\n", "\r\n").encode()


def serve(data: Path, door: socket.socket, answer: multiprocessing.connection.Connection) -> None:
    """The process that is measured; its processor time at the end."""
    with open_stores(Settings(data=data)) as stores:
        clock, arrivals = stores.clock, InboundEventQueue(stores.queues)
        tenants = Tenants(stores.tables, clock)
        wishes = UnsubscribeService(tenants, SuppressionList(stores.tables, clock), arrivals, clock)
        mailroom = InboundMailProcessor(arrivals, wishes, secret_of=TenantSecretCache(tenants, clock), domain=DOMAIN, clock=clock)
        terms = ListenerConfig(name=DOMAIN, max_bytes=MAX_BYTES, kept_bytes=MAX_PARSED_BYTES)

        async def run() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            threading.Thread(target=lambda: (answer.recv(), loop.call_soon_threadsafe(stop.set)), daemon=True).start()
            before = resource.getrusage(resource.RUSAGE_SELF)
            await Listener(mailroom, terms).serve(door, stop)
            after = resource.getrusage(resource.RUSAGE_SELF)
            answer.send(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

        asyncio.run(run())


def bring(port: int, mails: list[tuple[str, bytes]]) -> None:
    """On so many connections at once."""

    def lane(share: list[tuple[str, bytes]]) -> None:
        with smtplib.SMTP("127.0.0.1", port) as client:
            for to, content in share:
                client.sendmail("", [to], content)

    lanes = [threading.Thread(target=lane, args=(mails[n::CONNECTIONS],)) for n in range(CONNECTIONS)]
    for each in lanes:
        each.start()
    for each in lanes:
        each.join()


def main() -> None:
    """Print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4_000
    spawn = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as root, socket.create_server(("127.0.0.1", 0), backlog=512) as door:
        data = Path(root) / "data"
        with open_stores(Settings(data=data)) as stores:
            sealer = TokenSealer(Tenants(stores.tables, stores.clock).get("default"), encode(2**79 + 98765, 16))
        addresses = [f"{sealer.return_path(1, Key(n.to_bytes(12, 'big')), 1)}@{DOMAIN}" for n in range(count)]
        mails = [(address, report(address, n)) for n, address in enumerate(addresses)]
        ours, theirs = spawn.Pipe()
        server = spawn.Process(target=serve, args=(data, door, theirs))
        server.start()
        port = door.getsockname()[1]
        clients = [spawn.Process(target=bring, args=(port, mails[n::CLIENTS])) for n in range(CLIENTS)]
        began = time.perf_counter()
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        took = time.perf_counter() - began
        ours.send(None)
        worked = ours.recv()
        server.join()
        with open_stores(Settings(data=data)) as stores:
            depth = stores.queues.depth(FEEDBACK_QUEUE)
    began_reading = time.process_time()
    for to, content in mails:
        parse_report(content, recipient=to)
    reading = time.process_time() - began_reading
    print(
        f"{count:,} reports of {len(mails[0][1]) // 1024} KB over {CLIENTS * CONNECTIONS} connections, {depth.ready} items queued"
    )
    print(f"  taken in                       {count / took:8,.0f} a second")
    print(f"  by the listener's processor    {count / worked:8,.0f} a second a core")
    print(f"  read only                      {count / reading:8,.0f} a second a core")


if __name__ == "__main__":
    main()
