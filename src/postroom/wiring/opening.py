"""An installation, opened: the services, put together on the ledger and the stores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from postroom.delivery.contents import Contents
from postroom.delivery.singles import Singles
from postroom.events.hits import Hits
from postroom.events.letterhead import Letterhead
from postroom.pipeline.sender.allowance import Allowance
from postroom.pipeline.splitter import Checkpoints
from postroom.platform.mail.inbox import Inbox
from postroom.platform.mail.reach import check, means_of
from postroom.platform.mail.resolver import Resolver
from postroom.services.campaign_changes import Changes
from postroom.services.campaign_dry_run import DryRun
from postroom.services.campaign_edits import Edits
from postroom.services.campaign_reading import CampaignReading
from postroom.services.dkim import DkimService
from postroom.services.erasure_requests import ErasureRequests
from postroom.services.exports import Exports
from postroom.services.inbox import InboxService
from postroom.services.keys import ApiKeys
from postroom.services.members import Members
from postroom.services.providers import ProviderService
from postroom.services.retention import CampaignRetention
from postroom.services.senders import SenderService
from postroom.services.status import StatusService
from postroom.services.suppression import SuppressionLists
from postroom.services.templates import TemplateService
from postroom.services.upload_use import UploadUse
from postroom.services.uploads import UploadService
from postroom.settings import Settings
from postroom.wiring.callbacks import callback_desk, callback_lines
from postroom.wiring.campaigns import campaign_service, composing, erasure, house, orders
from postroom.wiring.feedback import feedback, guard, ses_hook, tracking, unsubscribing
from postroom.wiring.ledger import ledger
from postroom.wiring.mail import INBOX, examined
from postroom.wiring.people import authenticator, built_in_issuer, rotation
from postroom.wiring.postroom import Postroom
from postroom.wiring.sending import scheduler, sender, splitter
from postroom.wiring.ses import SesAccounts
from postroom.wiring.singles import message_service, sources_of, stream_retention
from postroom.wiring.stores import Stores, open_stores


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
    """In the order of `Postroom`'s fields; what takes more than a line is made in the file of its topic."""
    kept = ledger(settings, stores)
    clock, tables, objects, messages = stores.clock, stores.tables, stores.objects, stores.messages
    tenants, campaigns, suppression = kept.tenants, kept.campaigns, kept.suppression
    issuer = None if settings.issuer or stores.machine is None else built_in_issuer(settings, stores)
    accounts = SesAccounts(settings.aws, stores.rates, clock, topics=settings.ses_topics)
    composed = composing(settings, stores, kept)
    contents, singles = Contents(objects), Singles(composed, tenants, objects)
    templates = TemplateService(tables, objects, clock, composed)
    uploads = UploadService(
        tables, objects, stores.transfers, clock, upload_days=settings.upload_days, in_use=UploadUse(campaigns)
    )
    service = campaign_service(stores, kept, composed)
    eraser = erasure(stores, kept, uploads)
    hits = Hits(kept.arrivals)
    return Postroom(
        settings=settings,
        stores=stores,
        tenants=tenants,
        memberships=kept.memberships,
        members=Members(kept.memberships),
        api_keys=ApiKeys(kept.keys, clock),
        authenticator=authenticator(settings, stores, kept, issuer=issuer),
        issuer=issuer,
        audit=kept.audit,
        rotation=partial(rotation, settings, stores, kept),
        identities=kept.senders,
        senders=SenderService(kept.senders, Resolver(), clock),
        dkim=DkimService(kept.dkim, Resolver(), clock),
        providers=kept.providers,
        provider_verbs=ProviderService(
            kept.providers, check=lambda url, trusted: check(url, trusted=trusted), examine=partial(examined, accounts)
        ),
        suppressions=SuppressionLists(suppression, tenants, clock),
        inbox=InboxService(objects),
        inbox_server=Inbox(objects, clock),
        templates=templates,
        uploads=uploads,
        singles=message_service(stores, kept, sources_of(kept, templates, uploads), contents=contents, singles=singles),
        streams=kept.streams,
        stream_retention=stream_retention(stores, kept, contents),
        records=campaigns,
        checkpoints=Checkpoints(tables),
        campaigns=service,
        orders=orders(settings, stores, kept, service=service, templates=templates, uploads=uploads),
        edits=Edits(campaigns, stores.queues, clock, grace_ms=house(settings).grace_ms),
        changes=Changes(service, campaigns, messages=messages, workflows=stores.workflows, clock=clock),
        dry_run=DryRun(composing=composed, objects=objects, suppression=suppression, tenants=tenants, clock=clock),
        reading=CampaignReading(campaigns, messages),
        exports=Exports(campaigns, messages, objects),
        erasure=eraser,
        erasure_requests=ErasureRequests(eraser, tables, stores.workflows, clock),
        campaign_retention=CampaignRetention(tenants, campaigns, service),
        status=StatusService(campaigns, messages, clock, waiting_for=Allowance(stores.rates, kept.providers, clock).waiting_for),
        composing=composed,
        splitter=splitter(stores, kept),
        scheduler=scheduler(stores, kept),
        sender=sender(settings, stores, kept, composing=composed, contents=contents, singles=singles, accounts=accounts),
        arrivals=kept.arrivals,
        feedback=feedback(settings, stores, kept),
        callbacks=kept.callbacks,
        deliveries=kept.deliveries,
        callback_desk=callback_desk(settings, stores, kept),
        callback_lines=partial(callback_lines, settings, stores, kept),
        tally=kept.tally,
        guard=guard(settings, stores, kept),
        hits=hits,
        tracking=tracking(stores, kept, hits),
        unsubscribing=unsubscribing(stores, kept),
        letterhead=Letterhead(campaigns),
        ses_hook=ses_hook(settings, stores, kept),
        recounts=kept.recounts,
    )
