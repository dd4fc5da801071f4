"""How fast the SMTP mailer hands messages over: `python -m bench.smtp [--messages N]`.

1. Against Postfix's `smtp-sink` on this machine, as a ratio to `smtp-source -d -s 32` (C, which composes and records nothing) in
   the same run; with the CPU time of our process a message.
2. Against a relay 50 ms away (a proxy on loopback that delays each direction by 25 ms) over 20 connections: 400 a second is one
   round trip a message.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from typing import cast

import uvloop

from postroom.model.tokens import MessageRef
from postroom.platform.mail.port import Result, Verdict
from postroom.platform.mail.smtp import SmtpMailer
from postroom.platform.mail.smtp_url import SmtpConfig

SIZE = 6_000
DEPTH = 256
"""Deliveries kept in the mailer's hands, as a sender with two open groups would."""
CONTENT = b"From: a@example.com\r\nSubject: bench\r\n\r\n" + b"x" * 70 + b"\r\n"
CONTENT += (b"y" * 70 + b"\r\n") * ((SIZE - len(CONTENT)) // 72)


class Run:
    """Keeps `DEPTH` deliveries in the mailer until `messages` are settled."""

    def __init__(self, mailer: SmtpMailer, messages: int) -> None:
        self.mailer = mailer
        self.left_to_submit = messages
        self.left_to_settle = messages
        self.refused = 0
        self.done = asyncio.get_running_loop().create_future()

    def submit(self) -> None:
        if self.left_to_submit:
            self.left_to_submit -= 1
            self.mailer.submit(BenchDelivery(self, self.left_to_submit))

    def settled(self, result: Result) -> None:
        self.refused += result.verdict is not Verdict.ACCEPTED
        self.left_to_settle -= 1
        if not self.left_to_settle:
            self.done.set_result(None)
        self.submit()


class BenchDelivery:
    """One message, composed at no cost."""

    __slots__ = ("rcpt_to", "run")
    mail_from = "bounce@example.com"
    ref: MessageRef | None = None

    def __init__(self, run: Run, number: int) -> None:
        self.run = run
        self.rcpt_to = f"user{number}@example.net"

    def compose(self) -> bytes:
        return CONTENT

    def handing_over(self) -> bool:
        return True

    def settled(self, result: Result) -> None:
        self.run.settled(result)


async def send(config: SmtpConfig, messages: int) -> tuple[float, float]:
    """Messages a second, and microseconds of CPU a message, of this process."""
    mailer = SmtpMailer(config)
    await mailer.start()
    run = Run(mailer, messages)
    began, cpu = time.monotonic(), _cpu_s()
    for _ in range(DEPTH):
        run.submit()
    await run.done
    took, cpu = time.monotonic() - began, _cpu_s() - cpu
    await mailer.close(5)
    if run.refused:
        raise SystemExit(f"{run.refused} of {messages} messages were not accepted")
    return messages / took, cpu / messages * 1e6


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@contextlib.contextmanager
def smtp_sink() -> Iterator[int]:
    """Postfix's sink on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    unprivileged = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen([_tool("smtp-sink"), *unprivileged, f"127.0.0.1:{port}", "1000"])
    try:
        _await_port(port)
        yield port
    finally:
        process.terminate()
        process.wait()


def _await_port(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise SystemExit("smtp-sink did not start")


def _tool(name: str) -> str:
    found = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if found is None:
        print(f"skipped: {name} is missing (Debian's postfix package has it)")
        raise SystemExit(0)
    return found


def source_rate(port: int, messages: int, size: int = SIZE) -> float:
    """What Postfix's own load generator reaches."""
    began = time.monotonic()
    command = [_tool("smtp-source"), "-d", "-s", "32", "-m", str(messages), "-l", str(size), f"127.0.0.1:{port}"]
    subprocess.run(command, check=True)
    return messages / (time.monotonic() - began)


@contextlib.asynccontextmanager
async def far_away(port: int, delay_s: float) -> AsyncIterator[int]:
    """A proxy to `port` that delays every byte by `delay_s`, each way."""
    loop = asyncio.get_running_loop()

    class Side(asyncio.Protocol):
        def __init__(self, other: Side | None = None) -> None:
            self.other = other
            self.early: list[bytes] = []

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.Transport", transport)
            if self.other is None:
                self.dial = loop.create_task(loop.create_connection(lambda: Side(self), "127.0.0.1", port))
            else:
                self.other.other = self

        def data_received(self, data: bytes) -> None:
            loop.call_later(delay_s, self._pass_on, data)

        def _pass_on(self, data: bytes) -> None:
            assert self.other is not None
            self.other.transport.write(data)

        def connection_lost(self, exc: Exception | None) -> None:
            if self.other is not None:
                loop.call_later(delay_s, self.other.transport.close)

    server = await loop.create_server(Side, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def send_far(port: int, messages: int) -> float:
    """Over 20 connections and 50 ms; ramping up included."""
    async with far_away(port, 0.025) as far:
        rate, _ = await send(SmtpConfig("127.0.0.1", far, connections=20), messages)
        await asyncio.sleep(0.1)
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--connections", type=int, default=16)
    messages = parser.parse_args().messages
    connections = parser.parse_args().connections
    with smtp_sink() as port:
        source_rate(port, messages // 5)
        theirs = source_rate(port, messages)
        print(f"smtp-source -d -s 32        {theirs:9,.0f} messages/s")
        for name, runner in (("uvloop", uvloop.run), ("asyncio", asyncio.run)):
            ours, cpu = runner(send(SmtpConfig("127.0.0.1", port, connections=connections), messages))
            print(
                f"SmtpMailer on {name:8}      {ours:9,.0f} messages/s, ratio {ours / theirs:.2f}, {cpu:.1f} µs of CPU a message"
            )
        print(f"50 ms away, 20 connections  {uvloop.run(send_far(port, 4_000)):9,.0f} messages/s")


if __name__ == "__main__":
    main()
