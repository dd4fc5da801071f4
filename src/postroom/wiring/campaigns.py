"""Campaigns, put together: how they are ordered, and by which rules they go."""

from __future__ import annotations

from functools import partial

from postroom.delivery.compose import ContentCompiler
from postroom.model.callback import check_callback_url
from postroom.model.campaign import Policies
from postroom.services.campaign_creation import CampaignCreator, CampaignDefaults, CampaignRequests, CampaignSources
from postroom.services.campaigns import CampaignService
from postroom.services.templates import TemplateService
from postroom.services.uploads import UploadService
from postroom.settings import Settings
from postroom.wiring.ledger import Ledger
from postroom.wiring.stores import Stores


def campaign_creator(stores: Stores, ledger: Ledger, composing: ContentCompiler) -> CampaignCreator:
    """Creates campaigns from their parts."""
    return CampaignCreator(
        ledger.campaigns, composing=composing, objects=stores.objects, workflows=stores.workflows, clock=stores.clock
    )


def campaign_service(stores: Stores, ledger: Ledger, creator: CampaignCreator) -> CampaignService:
    """Reads, starts, pauses, cancels and deletes campaigns."""
    return CampaignService(
        ledger.campaigns,
        creator=creator,
        messages=stores.messages,
        objects=stores.objects,
        journals=stores.journals,
        queues=stores.queues,
        timers=stores.timers,
        workflows=stores.workflows,
        bulk_update=ledger.bulk_update,
        deliveries=ledger.deliveries,
        clock=stores.clock,
    )


def campaign_defaults(settings: Settings) -> CampaignDefaults:
    """The rules of campaigns that name no others."""
    return CampaignDefaults(usual_policies(settings), round(settings.schedule_grace * 1000))


def usual_policies(settings: Settings) -> Policies:
    """The rules of a campaign that asks for no others."""
    return Policies(
        settle_after_ms=round(settings.settle_after * 1000),
        rate=settings.rate,
        give_up_after_ms=round(settings.give_up_after * 1000),
        retry_after_ms=round(settings.retry_after * 1000),
    )


def campaign_requests(
    settings: Settings,
    stores: Stores,
    ledger: Ledger,
    *,
    creator: CampaignCreator,
    templates: TemplateService,
    uploads: UploadService,
) -> CampaignRequests:
    """Creates campaigns for the API: what a request names must be the tenant's."""

    def check_provider(tenant: str, name: str) -> None:
        ledger.providers.for_campaign(tenant, name)

    sources = CampaignSources(
        templates.content,
        uploads.ready,
        ledger.senders.check,
        check_provider,
        check_callback=partial(check_callback_url, networks=settings.callback_networks),
    )
    return CampaignRequests(creator, sources, objects=stores.objects, clock=stores.clock, defaults=campaign_defaults(settings))
