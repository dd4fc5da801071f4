"""The embedded backend: every adapter over one data directory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from postroom.clock import Clock, SystemClock
from postroom.platform.embedded._encryption import ObjectEncryption
from postroom.platform.embedded._ledger import LedgerFiles
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.feed import SqliteFeed
from postroom.platform.embedded.journal import FileJournals
from postroom.platform.embedded.messages import SqliteMessages
from postroom.platform.embedded.objects import FileObjects
from postroom.platform.embedded.queues import SqliteQueues
from postroom.platform.embedded.rates import SqliteRates
from postroom.platform.embedded.secrets import FILE_NAME, ConfiguredKeys, KeyFile, MasterSecrets
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.embedded.timers import SqliteTimers
from postroom.platform.embedded.transfers import HttpTransfers
from postroom.platform.embedded.workflows import SqliteWorkflows
from postroom.settings import Settings

_HOLDS_PEOPLE = re.compile(r"[^/]+/(uploads/.+|campaigns/[^/]+/(recipients|rejected\.csv|import/(rejected|work)/.+|export.*))")
"""Objects with addresses: uploads, recipient lists, reports of rejected rows, exports."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Members that only an installation on one machine has: its workflow and timer engines, and its master key."""

    master_keys: ConfiguredKeys | KeyFile
    timers: SqliteTimers
    workflows: SqliteWorkflows
    objects: FileObjects
    transfers: HttpTransfers


@dataclass(frozen=True, slots=True)
class MachineStores:
    """`wiring.stores.Stores`, all opened at once."""

    clock: Clock
    secrets: MasterSecrets
    tables: SqliteTables
    objects: FileObjects
    messages: SqliteMessages
    queues: SqliteQueues
    timers: SqliteTimers
    workflows: SqliteWorkflows
    feed: SqliteFeed
    journals: FileJournals
    rates: SqliteRates
    transfers: HttpTransfers
    machine: Machine
    identity: None = None
    """The built-in issuer is a service (`Services.identity`)."""

    def on_one_machine(self, what: str) -> Machine:
        """Return the machine."""
        return self.machine


@contextmanager
def open_embedded(settings: Settings) -> Iterator[MachineStores]:
    """Open the stores, creating what is missing; the context manager closes them."""
    clock, data = SystemClock(), settings.data
    with ExitStack() as stack:
        control = open_control(data)
        stack.callback(control.close)
        ledgers = LedgerFiles(data / "ledgers")
        stack.callback(ledgers.close)
        keys = master_keys(settings, clock)
        secrets = MasterSecrets(keys)
        objects = FileObjects(data / "objects", clock, sealing=ObjectEncryption(secrets, holds_people))
        stack.callback(objects.close)
        rates = SqliteRates(data / "rates.db")
        stack.callback(rates.close)
        tables = SqliteTables(control, clock)
        timers, workflows = SqliteTimers(control, clock), SqliteWorkflows(control, clock)
        transfers = HttpTransfers(objects, tables, secrets, api_base_url=settings.api_base_url, clock=clock)
        yield MachineStores(
            clock=clock,
            secrets=secrets,
            tables=tables,
            objects=objects,
            messages=SqliteMessages(ledgers),
            queues=SqliteQueues(control, clock),
            timers=timers,
            workflows=workflows,
            feed=SqliteFeed(ledgers),
            journals=FileJournals(data / "journals", clock),
            rates=rates,
            transfers=transfers,
            machine=Machine(keys, timers, workflows, objects, transfers),
        )


def holds_people(key: str) -> bool:
    """Whether an object is stored encrypted."""
    return _HOLDS_PEOPLE.fullmatch(key) is not None


def master_keys(settings: Settings, clock: Clock) -> ConfiguredKeys | KeyFile:
    """Return the source of the master keys; creates no key."""
    return KeyFile(key_file(settings), clock) if settings.master_key is None else ConfiguredKeys(settings.master_key)


def key_file(settings: Settings) -> Path:
    """Return the file of the master key, which is used unless the key itself is a setting."""
    return settings.master_key_file or settings.data / FILE_NAME
