"""What every command does around its own work: settings read, installation opened, errors said in one line, exit codes.

Who the command line acts as, and the trail it leaves: whoever can open the installation's data may do everything, and what
they change stands in the audit trail like what is changed through the door.

As there, an entry is durable before the change is made, and completed after it: a `kill -9` in between leaves an entry
without an end, and whoever reads it looks at the record. What cannot be recorded is not done.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from postroom.errors import Conflict, Invalid, PostroomError
from postroom.ledger.audit import AuditLog
from postroom.model.access import Principal, PrincipalKind, Role
from postroom.model.audit import AuditRecord
from postroom.model.tenant import DEFAULT_TENANT
from postroom.settings import FILE_NAME, Settings
from postroom.wiring import Container, open_app

DONE = 0
FAILED = 1
BAD_INPUT = 2
NOT_ALL_SENT = 3


def load_settings(**overrides: object) -> Settings:
    """From the environment, `postroom.toml` beside it, and the command line's own options. `Invalid`."""
    toml = Path(FILE_NAME)
    return Settings.load(os.environ, toml if toml.exists() else None, overrides)


@contextmanager
def session(**overrides: object) -> Iterator[Container]:
    """The installation, opened for one command. `overrides`: settings by field name; None is "not given"."""
    with open_app(load_settings(**overrides)) as postroom:
        yield postroom


def exit_code(error: PostroomError) -> int:
    """What the process ends with."""
    return BAD_INPUT if isinstance(error, Invalid) else FAILED


def say(text: str) -> None:
    """A line for the person, on standard error: standard output is for data. Nobody listening, or a full disk where it is
    kept, stops no campaign and no server."""
    person: TextIO | None = sys.stderr
    with suppress(OSError):
        if person is not None:  # closed by whoever started us
            person.write(text + "\n")
            person.flush()


_DONE = 200


@dataclass(slots=True)
class Change:
    """What a command is about to do."""

    target: str
    """The record, such as `key/2abc…`; to be set where only the change itself tells."""


def operator(tenant: str) -> Principal:
    """The person at the machine, in that tenant."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container without a user of that number
        name = "operator"
    return Principal(PrincipalKind.OPERATOR, name, name, tenant, Role.ADMIN, operator=True)


def of_tenant(tenant: str) -> str:
    """What a command that is shown to somebody needs for it to be about that tenant."""
    return "" if tenant == DEFAULT_TENANT else " --tenant " + (tenant or "''")


@contextmanager
def recorded(postroom: Container, command: str, *, tenant: str, target: str = "") -> Iterator[Change]:
    """Around what changes something: `tenant` is whose trail it belongs in, empty for the installation's own."""
    change = Change(target)
    who = operator(tenant)
    begun = AuditRecord(
        id=postroom.audit.new_id(),
        actor=f"{who.kind}:{who.id}",
        name=who.name,
        address="",
        action=f"postroom {command}",
        target=target,
    )
    postroom.audit.write(tenant, begun)
    try:
        yield change
    except PostroomError as error:
        from postroom.gateway.errors import problem_type_of  # loads a web framework that no other command needs

        _complete(postroom.audit, tenant, replace(begun, target=change.target, status=problem_type_of(error).status))
        raise
    _complete(postroom.audit, tenant, replace(begun, target=change.target, status=_DONE))


def _complete(log: AuditLog, tenant: str, ended: AuditRecord) -> None:
    with suppress(Conflict):  # it took more than a minute, and may be sealed: it stays as it was begun
        log.write(tenant, ended)
