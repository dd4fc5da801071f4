"""What every command shares: settings, the opened installation, exit codes, messages on standard error, and the audit trail.

A person who can open the installation's data may do everything, and each change is recorded in the audit trail as changes
through the API are. An entry is durable before the change is made and completed after it: a `kill -9` in between leaves an entry
without an end, and the record itself shows whether the change was made. A change that cannot be recorded is not made.
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
_OK = 200


def load_settings(**overrides: object) -> Settings:
    """Load settings from the environment and from `postroom.toml` in the current directory.

    `overrides` are settings by field name, from command-line options; None means not given. Raises `Invalid`.
    """
    toml = Path(FILE_NAME)
    return Settings.load(os.environ, toml if toml.exists() else None, overrides)


@contextmanager
def session(**overrides: object) -> Iterator[Container]:
    """Open the installation for one command; `overrides` as in `load_settings`."""
    with open_app(load_settings(**overrides)) as postroom:
        yield postroom


@contextmanager
def tenant_session(tenant: str, data: Path | None) -> Iterator[Container]:
    """Open the installation for a command about one tenant. Raises `NotFound` if there is no such tenant."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        yield postroom


def exit_code(error: PostroomError) -> int:
    """Return the exit code for an error: 2 for bad input, else 1."""
    return BAD_INPUT if isinstance(error, Invalid) else FAILED


def say(text: str) -> None:
    """Write a line to standard error; standard output is for data.

    Errors are ignored: a closed terminal or a full disk must not stop a campaign or a server.
    """
    stream: TextIO | None = sys.stderr
    with suppress(OSError):
        if stream is not None:  # None if the parent process closed it
            stream.write(text + "\n")
            stream.flush()


@dataclass(slots=True)
class Change:
    """A change that is being recorded in the audit trail."""

    target: str
    """The record, such as `key/2abc…`. Set it inside the `with` block if only the change itself produces the id."""


def operator(tenant: str) -> Principal:
    """Return the operating-system user as an administrator of that tenant."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container whose user id has no name
        name = "operator"
    return Principal(PrincipalKind.OPERATOR, name, name, tenant, Role.ADMIN, operator=True)


def tenant_option(tenant: str) -> str:
    """Return the `--tenant` option for a suggested command, with a leading space; "" for the default tenant."""
    return "" if tenant == DEFAULT_TENANT else " --tenant " + (tenant or "''")


@contextmanager
def recorded(postroom: Container, command: str, *, tenant: str, target: str = "") -> Iterator[Change]:
    """Record the change made in the block in the audit trail of `tenant`; `INSTALLATION` (empty) for the installation's own."""
    change = Change(target)
    actor = operator(tenant)
    begun = AuditRecord(
        id=postroom.audit.new_id(),
        actor=f"{actor.kind}:{actor.id}",
        name=actor.name,
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
    _complete(postroom.audit, tenant, replace(begun, target=change.target, status=_OK))


def _complete(log: AuditLog, tenant: str, ended: AuditRecord) -> None:
    with suppress(Conflict):  # the command took more than a minute and the entry may be sealed: it stays without an end
        log.write(tenant, ended)
