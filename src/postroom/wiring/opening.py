"""The services, put together on the stores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from postroom.clock import Clock
from postroom.delivery.composing import Composing
from postroom.delivery.contents import Contents
from postroom.delivery.singles import Singles
from postroom.errors import Invalid
from postroom.events.guard import Guard
from postroom.events.hits import Hits
from postroom.events.letterhead import Letterhead
from postroom.events.links import LinkTables
from postroom.events.ses.hook import Records
from postroom.events.tenant_secrets import TenantSecrets
from postroom.events.tracking import Tracking
from postroom.events.unsubscribing import Unsubscribing
from postroom.events.watching import Watching
from postroom.gateway.auth import TokenAuthenticator
from postroom.gateway.jwks import HttpJwks, LocalJwks
from postroom.issuer.issuer import Issuer
from postroom.issuer.tokens import AUDIENCE
from postroom.ledger.access import Memberships
from postroom.ledger.arrivals import Arrivals
from postroom.ledger.audit import AuditLog
from postroom.ledger.callback_secrets import CallbackSecrets
from postroom.ledger.callbacks import Callbacks
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.deliveries import Deliveries
from postroom.ledger.dkim import DkimKeys
from postroom.ledger.erasing import Erasing
from postroom.ledger.finish import Finish
from postroom.ledger.keys import Keys
from postroom.ledger.providers import Providers
from postroom.ledger.recounts import Recounts
from postroom.ledger.refusals import Refusals
from postroom.ledger.senders import Senders
from postroom.ledger.streams import Streams
from postroom.ledger.suppression import Suppression
from postroom.ledger.sweep import Sweep
from postroom.ledger.tallies import MINUTE_MS, Tally
from postroom.ledger.tenants import Tenants
from postroom.model.callback import check_url
from postroom.model.campaign import Policies
from postroom.model.guard import Limits
from postroom.pipeline.scheduler import Scheduler
from postroom.pipeline.sender.sender import Sender, SenderOptions
from postroom.pipeline.sender.sender import Stores as SenderStores
from postroom.pipeline.splitter import Checkpoints, Splitter
from postroom.platform.embedded.secrets import KeyFile
from postroom.platform.mail.inbox import Inbox
from postroom.platform.mail.reach import check, means_of
from postroom.platform.mail.resolver import Resolver
from postroom.services.callbacks import CallbackService
from postroom.services.campaign_changes import Changes
from postroom.services.campaign_dry_run import DryRun
from postroom.services.campaign_edits import Edits
from postroom.services.campaign_orders import House, Orders
from postroom.services.campaign_orders import Sources as OrderSources
from postroom.services.campaign_reading import CampaignReading
from postroom.services.campaigns import CampaignService
from postroom.services.dkim import DkimService
from postroom.services.erasure import ErasureService, Places
from postroom.services.erasure_requests import ErasureRequests
from postroom.services.exports import Exports
from postroom.services.inbox import InboxService
from postroom.services.intake import Intake
from postroom.services.keys import ApiKeys
from postroom.services.members import Members
from postroom.services.messages import MessageService
from postroom.services.messages import Sources as SingleSources
from postroom.services.providers import ProviderService
from postroom.services.retention import CampaignRetention
from postroom.services.rotation import Rotation
from postroom.services.senders import SenderService
from postroom.services.status import StatusService
from postroom.services.stream_retention import StreamRetention
from postroom.services.suppression import SuppressionLists
from postroom.services.templates import TemplateService
from postroom.services.upload_use import UploadUse
from postroom.services.uploads import UploadService
from postroom.settings import Settings
from postroom.wiring.callbacks import callback_lines
from postroom.wiring.feedback import feedback
from postroom.wiring.mail import DEFAULT_PROVIDER, INBOX, Shares, examined, way_out
from postroom.wiring.postroom import Postroom
from postroom.wiring.ses import SesAccounts, ses_hook
from postroom.wiring.stores import Stores, open_stores
from postroom.wiring.way_back import mail_comes_back


@contextmanager
def open_postroom(settings: Settings) -> Iterator[Postroom]:
    """The installation that the settings describe; at the end what waits in memory is written, and its files are closed.
    `Invalid`: mail cannot leave as they say."""
    if settings.mail != INBOX:
        means_of(settings.mail, trusted=True)
    with open_stores(settings) as stores:
        postroom = _put_together(settings, stores)
        try:
            yield postroom
        finally:
            postroom.hits.close()


def _put_together(settings: Settings, stores: Stores) -> Postroom:
    clock, tables, objects, messages = stores.clock, stores.tables, stores.objects, stores.messages
    lease_ms = round(settings.lease * 1000)
    tenants, campaigns, suppression = Tenants(tables, clock), Campaigns(tables, clock), Suppression(tables, clock)
    memberships, keys, identities = Memberships(tables, clock), Keys(tables, clock), Senders(tables, clock)
    audit = AuditLog(tables, stores.secrets, clock)
    arrivals = Arrivals(stores.queues)
    hits = Hits(arrivals)
    providers = Providers(tables, stores.secrets, clock, default_url=settings.mail)
    accounts = SesAccounts(settings.aws, stores.rates, clock, topics=settings.ses_topics)
    issuer = None if settings.issuer else Issuer(tables, stores.secrets, clock, url=settings.door_url)
    dkim_keys = DkimKeys(tables, stores.secrets)
    composing = Composing(
        tenants,
        objects,
        public_url=settings.public_url,
        bounce_domain=settings.bounce_domain,
        mail_comes_back=mail_comes_back(settings),
        keys=dkim_keys,
    )
    callback_secrets = CallbackSecrets(tables, stores.secrets, clock)
    callbacks = Callbacks(tables, callback_secrets, clock)
    deliveries = Deliveries(tables, clock)
    contents, singles = Contents(objects), Singles(composing, tenants, objects)
    streams = Streams(messages, stores.workflows, stores.queues)
    limits = guard_limits(settings)
    tally = Tally(tables, clock, keep_ms=limits.window_ms + 2 * MINUTE_MS)
    recounts = Recounts(tables, messages, clock)
    templates = TemplateService(tables, objects, clock, composing)
    uploads = UploadService(
        tables, objects, stores.transfers, clock, upload_days=settings.upload_days, in_use=UploadUse(campaigns)
    )
    refusals = Refusals(messages, suppression, tenants, clock)
    sweep = Sweep(messages, stores.journals, clock, lease_ms=lease_ms, refusals=refusals)
    service = CampaignService(
        campaigns,
        composing=composing,
        messages=messages,
        objects=objects,
        journals=stores.journals,
        queues=stores.queues,
        timers=stores.timers,
        workflows=stores.workflows,
        sweep=sweep,
        clock=clock,
    )
    places = Places(
        campaigns=campaigns,
        messages=messages,
        objects=objects,
        uploads=uploads,
        suppression=suppression,
        workflows=stores.workflows,
        erasing=Erasing(messages, sweep, clock),
    )
    erasure = ErasureService(places, tables=tables, tenants=tenants, audit=audit, clock=clock)
    house = House(DEFAULT_PROVIDER, usual_policies(settings), round(settings.schedule_grace * 1000))
    return Postroom(
        settings=settings,
        stores=stores,
        tenants=tenants,
        memberships=memberships,
        members=Members(memberships),
        api_keys=ApiKeys(keys, clock),
        authenticator=_authenticator(settings, issuer, memberships=memberships, keys=keys, tenants=tenants, clock=clock),
        issuer=issuer,
        audit=audit,
        rotation=_rotation(settings, stores, providers, audit=audit, dkim_keys=dkim_keys, callback_secrets=callback_secrets),
        identities=identities,
        senders=SenderService(identities, Resolver(), clock),
        dkim=DkimService(dkim_keys, Resolver(), clock),
        providers=providers,
        provider_verbs=ProviderService(
            providers, check=lambda url, trusted: check(url, trusted=trusted), examine=partial(examined, accounts)
        ),
        suppressions=SuppressionLists(suppression, tenants, clock),
        inbox=InboxService(objects),
        inbox_server=Inbox(objects, clock),
        templates=templates,
        uploads=uploads,
        singles=MessageService(
            SingleSources(contents=templates.content, check_sender=identities.check, ready=uploads.ready),
            Intake(messages, streams, clock),
            contents=contents,
            singles=singles,
            messages=messages,
            suppression=suppression,
            tenants=tenants,
            clock=clock,
        ),
        streams=streams,
        stream_retention=StreamRetention(
            tables,
            tenants,
            streams,
            contents=contents,
            messages=messages,
            journals=stores.journals,
            workflows=stores.workflows,
        ),
        records=campaigns,
        checkpoints=Checkpoints(tables),
        campaigns=service,
        orders=Orders(
            service,
            OrderSources(
                templates.content,
                uploads.ready,
                identities.check,
                lambda tenant, name: _check_provider(providers, tenant, name),
                check_callback=partial(check_url, networks=settings.callback_networks),
            ),
            objects=objects,
            clock=clock,
            house=house,
        ),
        edits=Edits(campaigns, stores.queues, clock, grace_ms=house.grace_ms),
        changes=Changes(service, campaigns, messages=messages, workflows=stores.workflows, clock=clock),
        dry_run=DryRun(composing=composing, objects=objects, suppression=suppression, tenants=tenants, clock=clock),
        reading=CampaignReading(campaigns, messages),
        exports=Exports(campaigns, messages, objects),
        erasure=erasure,
        erasure_requests=ErasureRequests(erasure, tables, stores.workflows, clock),
        campaign_retention=CampaignRetention(tenants, campaigns, service),
        status=StatusService(campaigns, messages, clock),
        composing=composing,
        splitter=Splitter(
            campaigns=campaigns,
            messages=messages,
            objects=objects,
            suppression=suppression,
            tables=tables,
            tenants=tenants,
            clock=clock,
        ),
        arrivals=arrivals,
        hits=hits,
        tracking=Tracking(TenantSecrets(tenants, clock), LinkTables(tenants, messages, objects), hits, clock),
        unsubscribing=Unsubscribing(tenants, suppression, arrivals, clock),
        letterhead=Letterhead(campaigns),
        ses_hook=ses_hook(settings, Records(tenants, campaigns, messages, suppression), arrivals, clock),
        callbacks=callbacks,
        deliveries=deliveries,
        callback_desk=CallbackService(
            callbacks,
            callback_secrets,
            deliveries,
            campaigns=campaigns,
            networks=settings.callback_networks,
            clock=clock,
        ),
        callback_lines=partial(callback_lines, settings, stores, callbacks, deliveries, campaigns=campaigns, audit=audit),
        feedback=feedback(
            settings,
            stores,
            Watching(tally, providers, clock),
            recounts=recounts,
            tenants=tenants,
            campaigns=campaigns,
            suppression=suppression,
        ),
        tally=tally,
        guard=Guard(tables, campaigns, providers, audit=audit, clock=clock, limits=limits),
        recounts=recounts,
        scheduler=Scheduler(campaigns, streams, timers=stores.timers, workflows=stores.workflows, clock=clock),
        sender=Sender(
            SenderStores(
                campaigns=campaigns,
                composing=composing,
                suppression=suppression,
                finish=Finish(campaigns, messages),
                messages=messages,
                journals=stores.journals,
                rates=stores.rates,
                tenants=tenants,
                streams=streams,
                contents=contents,
                singles=singles,
                refusals=refusals,
                tally=tally,
            ),
            partial(way_out, providers, Shares(), accounts=accounts),
            SenderOptions(workers=settings.workers, lease_ms=lease_ms, drain_s=settings.drain),
            single_provider=providers.for_single,
            clock=clock,
        ),
    )


def _check_provider(providers: Providers, tenant: str, name: str) -> None:
    """Whether campaigns of the tenant may leave through it. `NotFound`, `Invalid`."""
    providers.for_campaign(tenant, name)


def _rotation(
    settings: Settings,
    stores: Stores,
    providers: Providers,
    *,
    audit: AuditLog,
    dkim_keys: DkimKeys,
    callback_secrets: CallbackSecrets,
) -> Rotation:
    """Everybody who keeps something under the master key; the built-in issuer also where another one is set, for its way back."""
    owners = [
        ("objects", stores.objects.reseal),
        ("providers", providers.reseal),
        ("DKIM keys", dkim_keys.reseal),
        ("callbacks", callback_secrets.reseal),
        ("signed URLs", stores.transfers.reseal),
        ("audit", audit.reseal),
        ("sign-in", Issuer(stores.tables, stores.secrets, stores.clock, url=settings.door_url).reseal),
    ]
    return Rotation(stores.master_keys, owners, own=stores.master_keys if isinstance(stores.master_keys, KeyFile) else None)


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


def guard_limits(settings: Settings) -> Limits:
    """What may go wrong before the guard says or does something."""
    return Limits(
        bounce_warn=settings.bounce_warn,
        bounce_pause=settings.bounce_pause,
        complaint_warn=settings.complaint_warn,
        complaint_pause=settings.complaint_pause,
        sample=settings.guard_sample,
        window_ms=round(settings.guard_window * 1000),
    )


def usual_policies(settings: Settings) -> Policies:
    """The rules of a campaign that asks for no others."""
    return Policies(
        settle_after_ms=round(settings.settle_after * 1000),
        rate=settings.rate,
        give_up_after_ms=round(settings.give_up_after * 1000),
        retry_after_ms=round(settings.retry_after * 1000),
    )
