"""The embedded backend: a temporary directory and a clock that moves only when a test advances it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI

from postroom.gateway.routes.uploads import transfers_routes
from postroom.identity.directory import UserDirectory
from postroom.platform.embedded._encryption import ObjectEncryption
from postroom.platform.embedded._ledger import LedgerFiles
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.feed import SqliteFeed
from postroom.platform.embedded.journal import FileJournals
from postroom.platform.embedded.messages import SqliteMessages
from postroom.platform.embedded.objects import FileObjects
from postroom.platform.embedded.queues import SqliteQueues
from postroom.platform.embedded.rates import SqliteRates
from postroom.platform.embedded.secrets import KeyFile, MasterSecrets
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.embedded.timers import SqliteTimers
from postroom.platform.embedded.transfers import HttpTransfers
from postroom.platform.embedded.workflows import SqliteWorkflows
from postroom.platform.ports.identity import Invitation
from tests.fakes.clock import ManualClock
from tests.gateway.kit import app_of
from tests.gateway.server_kit import served
from tests.identity.provider_kit import PASSWORD, provider_on


class EmbeddedBackend:
    """See `tests.contract.backend.Backend`. Each client has connections of its own, so that clients meet only in the files."""

    def __init__(self, root: Path, closers: ExitStack) -> None:
        self.root = root
        self.clock = ManualClock()
        self._closers = closers

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def fire(self) -> None:
        self.timers().fire_due(self.clock.now())

    def tables(self) -> SqliteTables:
        return SqliteTables(self._closers.enter_context(closing(open_control(self.root))), self.clock)

    def messages(self) -> SqliteMessages:
        return SqliteMessages(self._closers.enter_context(closing(LedgerFiles(self.root / "ledgers"))))

    def objects(self) -> FileObjects:
        return self._closers.enter_context(closing(FileObjects(self.root / "objects", self.clock)))

    def queues(self) -> SqliteQueues:
        return SqliteQueues(self._closers.enter_context(closing(open_control(self.root))), self.clock)

    def timers(self) -> SqliteTimers:
        return SqliteTimers(self._closers.enter_context(closing(open_control(self.root))), self.clock)

    def workflows(self) -> SqliteWorkflows:
        return SqliteWorkflows(self._closers.enter_context(closing(open_control(self.root))), self.clock)

    def rates(self) -> SqliteRates:
        return self._closers.enter_context(closing(SqliteRates(self.root / "rates.db")))

    def journals(self) -> FileJournals:
        return FileJournals(self.root / "journals", self.clock)

    def secrets(self) -> MasterSecrets:
        return MasterSecrets(KeyFile(self.root / "master.key", self.clock))

    def identity(self) -> UserDirectory:
        return UserDirectory(provider_on(self.tables(), self.clock))

    def set_password(self, invited: Invitation) -> None:
        provider_on(self.tables(), self.clock).accept_invitation(str(invited.link).partition("token=")[2], PASSWORD)

    def transfers(self) -> HttpTransfers:
        made: list[HttpTransfers] = []

        def app(url: str) -> FastAPI:
            objects = self.objects()
            made.append(HttpTransfers(objects, self.tables(), self.secrets(), api_base_url=url, clock=self.clock))
            return app_of(transfers_routes(objects, made[0]))

        self._closers.enter_context(served(app))
        return made[0]

    def feed(self) -> SqliteFeed:
        return SqliteFeed(self._closers.enter_context(closing(LedgerFiles(self.root / "ledgers"))))


@contextmanager
def open_backend(request: pytest.FixtureRequest) -> Iterator[EmbeddedBackend]:
    """A backend in the test's own directory."""
    root: Path = request.getfixturevalue("tmp_path")
    with ExitStack() as closers:
        yield EmbeddedBackend(root, closers)


class SealedBackend(EmbeddedBackend):
    """The embedded backend with every object encrypted."""

    def objects(self) -> FileObjects:
        sealing = ObjectEncryption(self.secrets(), lambda _key: True)
        return self._closers.enter_context(closing(FileObjects(self.root / "objects", self.clock, sealing=sealing)))


@contextmanager
def open_sealed_backend(request: pytest.FixtureRequest) -> Iterator[SealedBackend]:
    """A backend in the test's own directory, its objects encrypted."""
    root: Path = request.getfixturevalue("tmp_path")
    with ExitStack() as closers:
        yield SealedBackend(root, closers)
