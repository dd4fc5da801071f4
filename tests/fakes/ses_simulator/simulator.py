"""The simulator, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Container, Iterable
from types import TracebackType
from typing import Self

from tests.fakes.ses_simulator.api import Accepted, Api
from tests.fakes.ses_simulator.fates import Fates
from tests.fakes.ses_simulator.rules import Options, Rule
from tests.fakes.ses_simulator.server import Session
from tests.fakes.ses_simulator.sns import Hook, Topic


class SesSimulator:
    """See the package's text."""

    def __init__(
        self,
        rules: Iterable[Rule] = (),
        options: Options | None = None,
        *,
        fates: Fates | None = None,
        hook: str | None = None,
        publish: Callable[[dict[str, object]], None] | None = None,
        topic: Topic | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """`hook`: where notices go, as SNS posts them; `publish`: what takes them bare, at once. Without either they are only
        kept (`notices`)."""
        self.options = options or Options()
        self.host, self.port = host, port
        self.topic = topic or Topic()
        self.fates = fates or Fates()
        self.notices: list[dict[str, object]] = []
        """Those of SES, as it would report them, in the order in which it would."""
        self.api = Api(self.options, self._report)
        self.open: set[Session] = set()
        self.connections = 0
        self.most_at_once = 0
        self.calls = 0
        self._rules = list(rules)
        self._hook = Hook(self.topic, hook) if hook else None
        self._publish = publish
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="ses-simulator", daemon=True)
        self._ready = threading.Event()
        self._stop = asyncio.Event()

    @property
    def url(self) -> str:
        """For `endpoint=`."""
        return f"http://{self.host}:{self.port}"

    @property
    def provider(self) -> str:
        """For POSTROOM_MAIL."""
        key, secret = self.options.access_key_id, self.options.secret_access_key.replace("/", "%2F").replace("+", "%2B")
        return f"ses://{key}:{secret}@{self.options.region}?configuration_set=postroom&endpoint={self.url}"

    @property
    def accepted(self) -> list[Accepted]:
        return self.api.accepted

    @property
    def violations(self) -> list[str]:
        return self.api.violations

    def recipients(self) -> list[str]:
        """Of all that was accepted."""
        return [message.recipient for message in self.accepted]

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._serve())
        finally:
            self.loop.close()

    async def _serve(self) -> None:
        server = await self.loop.create_server(lambda: Session(self), self.host, self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for session in list(self.open):
            session.transport.abort()
        if self._hook is not None:
            await self._hook.close()
        await asyncio.sleep(0)

    # For its sessions.

    def opened(self, session: Session) -> int:
        self.open.add(session)
        self.connections += 1
        self.most_at_once = max(self.most_at_once, len(self.open))
        return self.connections

    def called(self) -> None:
        self.calls += 1

    def violation(self, text: str) -> None:
        self.violations.append(text)

    def rule(self, recipient: str, only: Container[str] | None = None) -> Rule | None:
        """The first that fits; `only`: of these actions (others are left to be asked for later)."""
        early = ("refuse", "drop_head", "deafen")
        return next(
            (
                rule
                for rule in self._rules
                if (rule.action in only if only else rule.action not in early) and rule.fits(recipient)
            ),
            None,
        )

    def page(self, path: str) -> bytes | None:
        """What is there without a signature: the certificate, the address that confirms a subscription."""
        return self.topic.page(path)

    def _report(self, message: Accepted) -> None:
        for notice in self.fates.of(message, self.options):
            self.notices.append(notice)
            if self._hook is not None:
                self._hook.send(notice)
            if self._publish is not None:
                self._publish(notice)
