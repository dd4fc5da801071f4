"""What is examined and copied without opening the installation: `doctor`, backups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from postroom.clock import SystemClock
from postroom.ledger.campaigns import Campaigns
from postroom.model.finding import Finding, Level
from postroom.platform.embedded._control import open_control
from postroom.platform.embedded.backup import DirectoryArchive
from postroom.platform.embedded.probe import examine_data
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.mail.probe import examine_relay
from postroom.platform.mail.resolver import Resolver
from postroom.platform.mail.url import parse_provider
from postroom.services.backup import BackupService
from postroom.services.doctor import Check, Doctor
from postroom.services.sending_domain import examine as examine_domain
from postroom.settings import Settings
from postroom.wiring.mail import INBOX, no_relay


def backups(settings: Settings) -> BackupService:
    """Copies of the data directory, and their way back; needs nothing opened."""
    return BackupService(DirectoryArchive(settings.data, SystemClock()), _records)


@contextmanager
def _records(data: Path) -> Iterator[Campaigns]:
    clock = SystemClock()
    with closing(open_control(data)) as control:
        yield Campaigns(SqliteTables(control, clock), clock)


def doctor(settings: Settings, domain: str | None, selectors: tuple[str, ...]) -> Doctor:
    """What can be examined of this installation; opens nothing yet."""
    checks: list[tuple[str, Check]] = [("data directory", partial(examine_data, settings.data))]
    if settings.mail == INBOX:
        checks.append(("mail server", no_relay))
    else:
        checks.append(("mail server", lambda: examine_relay(parse_provider(settings.mail))))
    if settings.public_url is not None:
        checks.append(("public URL", partial(_unanswered, settings.public_url)))
    if domain is not None:
        checks.append((f"domain {domain}", partial(examine_domain, domain, selectors, Resolver())))
    return Doctor(checks)


def _unanswered(public_url: str) -> Iterator[Finding]:
    text = f"links, pixel and unsubscribe lead to {public_url}, and this release does not answer there yet"
    todo = "unset POSTROOM_PUBLIC_URL unless a server of yours answers /t/ and /u/"
    yield Finding("public URL", Level.WARN, text, todo)
