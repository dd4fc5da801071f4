"""The only file that knows the adapters: Settings → Postroom."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from postroom.clock import Clock, SystemClock
from postroom.delivery.composing import Composing
from postroom.delivery.contents import Contents
from postroom.delivery.singles import Singles
from postroom.errors import Invalid, Unsupported
from postroom.gateway.auth import TokenAuthenticator
from postroom.gateway.jwks import HttpJwks, LocalJwks
from postroom.issuer.issuer import Issuer
from postroom.issuer.tokens import AUDIENCE
from postroom.ledger.access import Memberships
from postroom.ledger.audit import AuditLog
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.finish import Finish
from postroom.ledger.keys import Keys
from postroom.ledger.providers import ProviderMeans, Providers
from postroom.ledger.senders import Senders
from postroom.ledger.streams import Streams
from postroom.ledger.suppression import Suppression
from postroom.ledger.sweep import Sweep
from postroom.ledger.tenants import Tenants
from postroom.model.campaign import Home, Policies
from postroom.model.finding import Finding, Level
from postroom.pipeline.scheduler import Scheduler
from postroom.pipeline.sender.sender import Sender, SenderOptions, Stores
from postroom.pipeline.sender.way_out import WayOut
from postroom.pipeline.splitter import Checkpoints, Splitter
from postroom.platform.embedded._control import open_control
from postroom.platform.embedded._files import FileLock
from postroom.platform.embedded._ledger import Ledgers
from postroom.platform.embedded._sealed import Sealing
from postroom.platform.embedded.backup import DirectoryArchive
from postroom.platform.embedded.feed import SqliteFeed
from postroom.platform.embedded.journal import FileJournals
from postroom.platform.embedded.messages import SqliteMessages
from postroom.platform.embedded.objects import FileObjects
from postroom.platform.embedded.probe import examine_data
from postroom.platform.embedded.queues import SqliteQueues
from postroom.platform.embedded.rates import SqliteRates
from postroom.platform.embedded.secrets import FILE_NAME, GivenKeys, KeyFile, MasterSecrets
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.embedded.timers import SqliteTimers
from postroom.platform.embedded.workflows import SqliteWorkflows
from postroom.platform.mail.inbox import Inbox
from postroom.platform.mail.port import Mailer
from postroom.platform.mail.probe import examine_relay
from postroom.platform.mail.reach import check, relay
from postroom.platform.mail.resolver import Resolver
from postroom.platform.mail.smtp import SmtpMailer
from postroom.platform.mail.url import parse_provider
from postroom.platform.ports.rates import Limit
from postroom.platform.ports.secrets import Secrets
from postroom.services.backup import BackupService
from postroom.services.campaign_changes import Changes
from postroom.services.campaigns import CampaignService
from postroom.services.doctor import Check, Doctor
from postroom.services.inbox import InboxService
from postroom.services.keys import ApiKeys
from postroom.services.members import Members
from postroom.services.providers import ProviderService
from postroom.services.rotation import Rotation
from postroom.services.senders import SenderService
from postroom.services.sending_domain import examine as examine_domain
from postroom.services.status import StatusService
from postroom.services.suppression import SuppressionLists
from postroom.settings import Settings

INBOX = "inbox:"
DEFAULT_PROVIDER = "default"
"""The provider of a campaign that names none: the setting POSTROOM_MAIL, as it is when the mail leaves."""

_TEST_S = 20.0
"""For a relay that is tested while a caller waits: less than a call may take."""
_HOLDS_PEOPLE = re.compile(r"[^/]+/(uploads/.+|campaigns/[^/]+/(recipients|rejected\.csv|import/rejected/.+|export.*))")
"""Objects that are stored encrypted."""


@dataclass(frozen=True, slots=True)
class Postroom:
    """One installation, put together."""

    settings: Settings
    clock: Clock
    secrets: Secrets
    rotation: Rotation
    tables: SqliteTables
    objects: FileObjects
    messages: SqliteMessages
    queues: SqliteQueues
    timers: SqliteTimers
    workflows: SqliteWorkflows
    feed: SqliteFeed
    journals: FileJournals
    tenants: Tenants
    providers: Providers
    provider_verbs: ProviderService
    memberships: Memberships
    members: Members
    api_keys: ApiKeys
    authenticator: TokenAuthenticator
    audit: AuditLog
    sender_identities: Senders
    senders: SenderService
    issuer: Issuer | None
    """None: people sign in at an issuer of others (POSTROOM_ISSUER)."""
    records: Campaigns
    checkpoints: Checkpoints
    campaigns: CampaignService
    changes: Changes
    status: StatusService
    suppressions: SuppressionLists
    inbox: InboxService
    inbox_server: Inbox
    composing: Composing
    streams: Streams
    splitter: Splitter
    scheduler: Scheduler
    sender: Sender

    @contextmanager
    def run_lock(self, home: Home) -> Iterator[bool]:
        """Whether this process alone runs the campaign's workers; the lock is gone with the process, however that ends."""
        with self._lock(home.campaign) as taken:
            yield taken

    @contextmanager
    def serving(self) -> Iterator[bool]:
        """Whether this process alone is the server; the lock is gone with the process, however that ends."""
        with self._lock("serve", patience_s=1.0) as taken:  # others only look whether it is free
            yield taken

    def is_served(self) -> bool:
        """Whether a server runs on this data."""
        with self._lock("serve") as free:
            return not free

    @contextmanager
    def _lock(self, name: str, *, patience_s: float = 0.0) -> Iterator[bool]:
        path = self.settings.data / "locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            yield lock.try_acquire_for(patience_s)
        finally:
            lock.close()


@contextmanager
def open_postroom(settings: Settings) -> Iterator[Postroom]:
    """The installation that the settings describe; its files are closed at the end. `Invalid`: mail cannot leave as they say."""
    if settings.mail != INBOX:
        parse_provider(settings.mail)
    clock = SystemClock()
    data = settings.data
    lease_ms = round(settings.lease * 1000)
    with ExitStack() as stack:
        control = open_control(data)
        stack.callback(control.close)
        ledgers = Ledgers(data / "ledgers")
        stack.callback(ledgers.close)
        keys = _master_keys(settings, clock)
        secrets = MasterSecrets(keys)
        sealing = Sealing(secrets, lambda key: _HOLDS_PEOPLE.fullmatch(key) is not None)
        objects = FileObjects(data / "objects", clock, sealing=sealing)
        stack.callback(objects.close)
        rates = SqliteRates(data / "rates.db")
        stack.callback(rates.close)
        tables, queues = SqliteTables(control, clock), SqliteQueues(control, clock)
        timers, workflows = SqliteTimers(control, clock), SqliteWorkflows(control, clock)
        messages, journals = SqliteMessages(ledgers), FileJournals(data / "journals", clock)
        tenants, campaigns, suppression = Tenants(tables, clock), Campaigns(tables, clock), Suppression(tables, clock)
        providers = Providers(tables, secrets, clock, default_url=settings.mail)
        composing = Composing(tenants, objects, public_url=settings.public_url, bounce_domain=settings.bounce_domain)
        identities = Senders(tables, clock)
        memberships, api_keys = Memberships(tables, clock), Keys(tables, clock)
        issuer = None if settings.issuer else Issuer(tables, secrets, clock, url=settings.door_url)
        sealed = [("objects", objects.reseal), ("providers", providers.reseal), *([("sign-in", issuer.reseal)] if issuer else [])]
        contents, singles = Contents(objects), Singles(composing, tenants, objects)
        streams = Streams(messages, workflows, queues)
        stores = Stores(
            campaigns=campaigns,
            composing=composing,
            suppression=suppression,
            finish=Finish(campaigns, messages),
            messages=messages,
            journals=journals,
            rates=rates,
            tenants=tenants,
            streams=streams,
            contents=contents,
            singles=singles,
        )
        options = SenderOptions(workers=settings.workers, lease_ms=lease_ms, drain_s=settings.drain)
        service = CampaignService(
            campaigns,
            composing=composing,
            messages=messages,
            objects=objects,
            journals=journals,
            queues=queues,
            timers=timers,
            workflows=workflows,
            sweep=Sweep(messages, journals, clock, lease_ms=lease_ms),
            clock=clock,
        )
        yield Postroom(
            settings=settings,
            clock=clock,
            secrets=secrets,
            rotation=Rotation(keys, sealed, own=keys if isinstance(keys, KeyFile) else None),
            tables=tables,
            objects=objects,
            messages=messages,
            queues=queues,
            timers=timers,
            workflows=workflows,
            feed=SqliteFeed(ledgers),
            journals=journals,
            tenants=tenants,
            providers=providers,
            provider_verbs=ProviderService(providers, check=lambda url, trusted: check(url, trusted=trusted), examine=_examined),
            memberships=memberships,
            members=Members(memberships),
            api_keys=ApiKeys(api_keys, clock),
            authenticator=_authenticator(settings, issuer, memberships=memberships, keys=api_keys, tenants=tenants, clock=clock),
            audit=AuditLog(tables, secrets, clock),
            sender_identities=identities,
            senders=SenderService(identities, Resolver(), clock),
            issuer=issuer,
            records=campaigns,
            checkpoints=Checkpoints(tables),
            campaigns=service,
            changes=Changes(service, campaigns, messages=messages, workflows=workflows, clock=clock),
            status=StatusService(campaigns, messages, clock),
            suppressions=SuppressionLists(suppression, tenants, clock),
            inbox=InboxService(objects),
            inbox_server=Inbox(objects, clock),
            composing=composing,
            streams=streams,
            splitter=Splitter(
                campaigns=campaigns,
                messages=messages,
                objects=objects,
                suppression=suppression,
                tables=tables,
                tenants=tenants,
                clock=clock,
            ),
            scheduler=Scheduler(campaigns, streams, timers=timers, workflows=workflows, clock=clock),
            sender=Sender(stores, partial(_way_out, providers), options, single_provider=providers.for_single, clock=clock),
        )


def _authenticator(
    settings: Settings, issuer: Issuer | None, *, memberships: Memberships, keys: Keys, tenants: Tenants, clock: Clock
) -> TokenAuthenticator:
    """Believes the built-in issuer, or the one that the settings name; never both. `Invalid`: for nobody in particular."""
    if issuer is None and not settings.audience:
        raise Invalid("POSTROOM_ISSUER needs POSTROOM_AUDIENCE: else tokens for any other application would be taken too")
    return TokenAuthenticator(
        memberships,
        keys,
        tenants,
        HttpJwks(settings.issuer or "", clock) if issuer is None else LocalJwks(issuer.keys.published, clock),
        issuer=settings.issuer or settings.door_url,
        audiences=settings.audience if issuer is None else (AUDIENCE,),
        clock=clock,
        members_of=None if issuer is None else issuer.membership_issuer,
    )


def _master_keys(settings: Settings, clock: Clock) -> GivenKeys | KeyFile:
    if settings.master_key is not None:
        return GivenKeys(settings.master_key)
    return KeyFile(settings.master_key_file or settings.data / FILE_NAME, clock)


def usual_policies(settings: Settings) -> Policies:
    """The rules of a campaign that asks for no others."""
    return Policies(
        settle_after_ms=round(settings.settle_after * 1000),
        rate=settings.rate,
        give_up_after_ms=round(settings.give_up_after * 1000),
        retry_after_ms=round(settings.retry_after * 1000),
    )


def _way_out(providers: Providers, tenant: str, provider: str) -> WayOut:
    """How a campaign's or a tenant's mail leaves. A URL in a provider's place is the command line's."""
    given = ":" in provider
    means = ProviderMeans(provider, provider, Limit(), None, trusted=True) if given else providers.means(tenant, provider)
    return WayOut(means.id, means.limit, partial(_mailer, means))


def _mailer(means: ProviderMeans) -> Mailer:
    """A new mailer for a provider."""
    if means.url == INBOX:
        raise Unsupported("the built-in inbox is not running in this process: start the campaign with `postroom send`")
    config = relay(means.url, trusted=means.trusted)
    return SmtpMailer(replace(config, connections=means.connections or config.connections))


def _examined(means: ProviderMeans) -> list[Finding]:
    return list(_no_relay() if means.url == INBOX else examine_relay(relay(means.url, trusted=means.trusted), within_s=_TEST_S))


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
        checks.append(("mail server", _no_relay))
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


def _no_relay() -> Iterator[Finding]:
    todo = "set POSTROOM_MAIL=smtp://… to reach people"
    yield Finding("mail server", Level.OK, "the built-in inbox: mail stays on this machine", todo)
