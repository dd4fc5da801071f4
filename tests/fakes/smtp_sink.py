"""A scripted SMTP server: takes mail, misbehaves as told, and records exactly what it accepted.

In a test: `with SmtpSink(rules, options) as sink: … sink.port … sink.accepted`; it runs in a thread of its own, on loopback.
For tests that kill processes: `python -m tests.fakes.smtp_sink --port 0 --record FILE --rules JSON` prints its port, and appends a
line per accepted message to FILE (recipient, return path, SHA-256 of the content; tab-separated) *before* it answers 250.

It also judges its client: `violations` lists what RFC 5321 and RFC 2920 forbid (bytes between DATA and its 354, a second command in
flight without PIPELINING, bare line ends, MAIL inside a transaction).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import ssl
import threading
import time
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.fakes.smtp_rules import Rule, Script, rules_from
from tests.fakes.smtp_session import Acceptance, Answer, Options, Session

__all__ = ["Acceptance", "Answer", "Options", "Rule", "SmtpSink"]


class SmtpSink:
    """See the module's text."""

    def __init__(self, rules: list[Rule] | None = None, options: Options | None = None, *, record: Path | None = None) -> None:
        self.options = options or Options()
        self.script = Script(rules or [])
        self.accepted: list[Acceptance] = []
        self.answers: list[Answer] = []
        self.dots: list[str] = []
        """Recipients whose final dot arrived, whatever came of it."""
        self.violations: list[str] = []
        self.commands: list[str] = []
        self.connections = 0
        self.most_at_once = 0
        self.reads = 0
        """Times that bytes came in: with pipelining, round trips."""
        self.open: set[Session] = set()
        self.port = 0
        self.recent: list[float] = []
        self.loop: asyncio.AbstractEventLoop
        self.context = self._tls()
        self._record = record
        self._record_fd = -1
        self._thread: threading.Thread | None = None

    def recipients(self) -> list[str]:
        """Of all accepted messages, in order, duplicates and all."""
        return [one.recipient for one in self.accepted]

    def __enter__(self) -> SmtpSink:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="smtp-sink", daemon=True)
        self._thread.start()
        if not ready.wait(10):
            raise RuntimeError("the sink did not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        assert self._thread is not None
        self._thread.join(10)

    def _run(self, ready: threading.Event) -> None:
        self.loop = asyncio.new_event_loop()
        server = self.loop.run_until_complete(self.listen(0))
        ready.set()
        self.loop.run_forever()
        self.loop.run_until_complete(self.shut(server))
        self.loop.close()

    async def listen(self, port: int) -> asyncio.Server:
        """On the running loop."""
        if self._record is not None:
            self._record_fd = os.open(self._record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.loop = asyncio.get_running_loop()
        immediate = self.context if self.options.tls == "tls" else None
        server = await self.loop.create_server(lambda: Session(self), "127.0.0.1", port, ssl=immediate, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def shut(self, server: asyncio.Server) -> None:
        server.close()
        for session in list(self.open):
            session.end(reset=True)
        for _ in range(100):
            if not self.open:
                break
            await asyncio.sleep(0.01)
        if self._record_fd >= 0:
            os.close(self._record_fd)

    def accept(self, acceptance: Acceptance) -> None:
        """Durable in the page cache before it is answered: a killed process keeps it."""
        if self._record_fd >= 0:
            line = f"{acceptance.recipient}\t{acceptance.mail_from}\t{acceptance.digest}\n"
            os.write(self._record_fd, line.encode())
        self.accepted.append(acceptance)

    def too_fast(self) -> bool:
        if not self.options.rate:
            return False
        now = time.monotonic()
        self.recent = [one for one in self.recent if now - one < 1]
        if len(self.recent) >= self.options.rate:
            return True
        self.recent.append(now)
        return False

    def _tls(self) -> ssl.SSLContext | None:
        if self.options.tls == "none":
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.options.certificate, self.options.key)
        return context


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--rules", default="[]", help="a JSON list of rules")
    parser.add_argument("--options", default="{}", help="a JSON object of options")
    args = parser.parse_args()
    asyncio.run(_serve(args))


async def _serve(args: argparse.Namespace) -> None:
    known = {one.name for one in fields(Options)}
    options: dict[str, Any] = {"keep_content": False, **json.loads(args.options)}
    if not known.issuperset(options):
        raise SystemExit(f"unknown options: {set(options) - known}")
    sink = SmtpSink(rules_from(json.loads(args.rules)), Options(**options), record=args.record)
    server = await sink.listen(args.port)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        sink.loop.add_signal_handler(number, stop.set)
    print(sink.port, flush=True)
    await stop.wait()
    await sink.shut(server)


if __name__ == "__main__":
    main()
