"""`postroom doctor` and backups: both read the data directory without opening the installation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from postroom.clock import SystemClock
from postroom.errors import Invalid
from postroom.gateway.reachable import examine_public_url
from postroom.ledger.bulk_update import BulkUpdate, hold_streams
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.dkim import DkimKeys, keys_for_domain
from postroom.ledger.providers import Providers
from postroom.ledger.tenants import Tenants
from postroom.model.dkim import DomainKeys
from postroom.model.finding import Finding, Level
from postroom.model.ids import CAMPAIGN_ID_LENGTH, KEY_BYTES, Key, encode
from postroom.model.provider import INBOX
from postroom.model.sender import covering, sender_name
from postroom.model.stream import is_stream
from postroom.model.tenant import DEFAULT_TENANT
from postroom.model.tokens import TokenSealer
from postroom.platform.embedded._ledger import LedgerFiles
from postroom.platform.embedded._sqlite import CONTROL_FILE, open_control
from postroom.platform.embedded.backup import DirectoryArchive
from postroom.platform.embedded.doctor import check_data_directory, check_encryption
from postroom.platform.embedded.journal import FileJournals
from postroom.platform.embedded.messages import SqliteMessages
from postroom.platform.embedded.secrets import MasterSecrets
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.embedded.workflows import SqliteWorkflows
from postroom.platform.mail.resolver import Resolver
from postroom.platform.mail.ses_url import SesConfig
from postroom.platform.mail.smtp_probe import accepts_recipients, examine_relay
from postroom.services.backup import BackupService
from postroom.services.doctor import BounceProbe, Check, Doctor, check_bounce_domain, check_dkim_keys, unread_bounce_domain
from postroom.services.doctor import check_sending_domain as examine_domain
from postroom.services.providers import warming
from postroom.settings import Settings
from postroom.wiring.container import check_inbound_mail
from postroom.wiring.embedded import holds_people, key_file, master_keys
from postroom.wiring.providers import examine_account, examine_inbox, parse_config


def backups(settings: Settings) -> BackupService:
    """Return the service that copies and restores the data directory."""
    return BackupService(DirectoryArchive(settings.data, SystemClock()), _records, partial(_hold_streams, settings))


@contextmanager
def _records(data: Path) -> Iterator[Campaigns]:
    clock = SystemClock()
    with closing(open_control(data)) as control:
        yield Campaigns(SqliteTables(control, clock), clock)


def _hold_streams(settings: Settings, data: Path, reason: str) -> int:
    clock = SystemClock()
    with closing(open_control(data)) as control, closing(LedgerFiles(data / "ledgers")) as ledgers:
        messages, journals = SqliteMessages(ledgers), FileJournals(data / "journals", clock)
        return hold_streams(
            [ref for ref in ledgers.refs() if is_stream(ref.campaign)],
            messages,
            SqliteWorkflows(control, clock),
            bulk_update=BulkUpdate(messages, journals, clock, lease_ms=round(settings.lease * 1000)),
            clock=clock,
            reason=reason,
        )


def build_doctor(settings: Settings, domain: str | None, selectors: tuple[str, ...]) -> Doctor:
    """Return the doctor with all checks that apply to these settings; opens nothing yet."""
    checks: list[tuple[str, Check]] = [("data directory", partial(check_data_directory, settings.data))]
    checks.append(("master key", partial(_encryption, settings)))
    if settings.mail == INBOX:
        checks.append(("mail server", examine_inbox))
    else:
        checks.append(("mail server", partial(_mail_server, settings, domain)))
    if settings.public_url is not None:
        checks.append(("public URL", partial(examine_public_url, settings.public_url)))
    checks.append(("way back", partial(_inbound_mail, settings)))
    if settings.bounce_domain is not None:
        checks.append(("bounce domain", partial(_bounce_domain, settings, settings.bounce_domain)))
    checks.append(("warm-up", partial(_warm_ups, settings)))
    checks.append(("DKIM keys", partial(_dkim, settings, domain)))
    if domain is not None:
        checks.append((f"domain {domain}", partial(_domain, settings, domain, selectors)))
    return Doctor(checks)


def _mail_server(settings: Settings, domain: str | None) -> Iterator[Finding]:
    config = parse_config(settings.mail, settings.aws, trusted=True)
    if isinstance(config, SesConfig):
        return examine_account(config, settings.aws, SystemClock(), topics=settings.ses_topics, domain=domain)
    return examine_relay(config)


def _inbound_mail(settings: Settings) -> Iterator[Finding]:
    """The check that `postroom serve` makes before it starts. Raises `Invalid`."""
    check_inbound_mail(settings)
    yield from ()


def _bounce_domain(settings: Settings, domain: str) -> Iterator[Finding]:
    yield from check_bounce_domain(domain, Resolver(), _bounce_probe(settings) if settings.feedback_listen else None)
    if not (settings.feedback_listen or settings.feedback_mailbox or settings.ses_topics):
        yield from unread_bounce_domain(domain)


def _bounce_probe(settings: Settings) -> BounceProbe | None:
    """Return a valid return path of no campaign, and an invalid one; None if nothing was sent yet."""
    with _tables(settings) as tables:
        tenant = None if tables is None else Tenants(tables, SystemClock()).get(DEFAULT_TENANT)
    if tenant is None:
        return None
    valid, invalid = (
        TokenSealer(each, encode(0, CAMPAIGN_ID_LENGTH)).return_path(0, Key(bytes(KEY_BYTES)), 1)
        for each in (tenant, replace(tenant, secret=os.urandom(len(tenant.secret))))
    )
    return BounceProbe(valid, invalid, accepts_recipients)


def _domain(settings: Settings, domain: str, selectors: tuple[str, ...]) -> Iterator[Finding]:
    with _tables(settings) as tables:
        signed = tables is not None and any(True for _ in _keys_for(tables, domain))
    yield from examine_domain(domain, selectors, Resolver(), signed=signed)


def _dkim(settings: Settings, domain: str | None) -> Iterator[Finding]:
    """Check the keys that sign; no finding without any."""
    with _tables(settings) as tables:
        if tables is not None:
            keys = DkimKeys(tables, MasterSecrets(master_keys(settings, SystemClock())))
            yield from check_dkim_keys(_keys_for(tables, domain), keys, Resolver())


def _warm_ups(settings: Settings) -> Iterator[Finding]:
    """Report shared providers that are being warmed up; no finding without any."""
    with _tables(settings) as tables:
        if tables is not None:
            clock = SystemClock()
            secrets = MasterSecrets(master_keys(settings, clock))
            yield from warming(Providers(tables, secrets, clock, default_url=settings.mail).list(None), clock.now())


def _keys_for(tables: SqliteTables, domain: str | None) -> Iterator[DomainKeys]:
    """Keys of the domain and its parents; all keys if `domain` is None."""
    for name in [None] if domain is None else covering(f"postmaster@{sender_name(domain)}")[1:]:
        yield from keys_for_domain(tables, name)


@contextmanager
def _tables(settings: Settings) -> Iterator[SqliteTables | None]:
    """Yield None if nothing was stored yet; creates nothing."""
    if not (settings.data / CONTROL_FILE).exists():
        yield None
        return
    with closing(open_control(settings.data)) as control:
        yield SqliteTables(control, SystemClock())


def _encryption(settings: Settings) -> Iterator[Finding]:
    keys, index = master_keys(settings, SystemClock()), settings.data / "objects" / "objects.db"
    return check_encryption(keys, key_file(settings), index=index, applies=holds_people)


def check_master_key(settings: Settings) -> None:
    """Raises `Invalid` or `Unavailable` when encrypted data cannot be opened: a server that started would create a new master key
    in place of the missing one."""
    for finding in _encryption(settings):
        if finding.level is Level.FAIL:
            raise Invalid(f"{finding.text}: {finding.todo}")
