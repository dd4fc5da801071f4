"""The services of an installation: what can be asked of it, at the door and on the command line.

Each is made, and what it needs imported, when it is first asked for: a function on AWS serves few of them, and its first caller
waits for all that it imports.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING

from postroom.wiring.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Callable

    from postroom.delivery.compose import ContentCompiler
    from postroom.delivery.transactional import ContentStore, TransactionalCompiler
    from postroom.gateway.auth import TokenAuthenticator
    from postroom.identity.provider import OpenIdProvider
    from postroom.ledger.providers import ProviderCredentials
    from postroom.model.finding import Finding
    from postroom.platform.mail.inbox import Inbox
    from postroom.platform.ports.identity import IdentityProvider
    from postroom.services.callbacks import CallbackService
    from postroom.services.campaign_actions import CampaignActions
    from postroom.services.campaign_creation import CampaignCreator, CampaignRequests
    from postroom.services.campaign_edits import Edits
    from postroom.services.campaign_reading import CampaignReader
    from postroom.services.campaigns import CampaignService
    from postroom.services.dkim import DkimService
    from postroom.services.dry_run import DryRun
    from postroom.services.erasure import ErasureService
    from postroom.services.erasure_requests import ErasureRequests
    from postroom.services.exports import CampaignExports, ExportFiles
    from postroom.services.inbox import InboxService
    from postroom.services.key_rotation import KeyRotation
    from postroom.services.keys import ApiKeyService
    from postroom.services.messages import MessageService
    from postroom.services.providers import ProviderService
    from postroom.services.retention import CampaignRetention, StreamRetention
    from postroom.services.senders import SenderService
    from postroom.services.status import StatusService
    from postroom.services.suppression import SuppressionLists
    from postroom.services.templates import TemplateService
    from postroom.services.uploads import UploadService
    from postroom.services.users import MemberService
    from postroom.wiring.ses import SesAccounts


class Verbs(Standing):
    """Of one installation. Settings that cannot be used are `Invalid` when something needs them."""

    # Who and whose

    @cached_property
    def members(self) -> MemberService:
        from postroom.services.users import MemberService

        return MemberService(self.memberships)

    @cached_property
    def api_keys(self) -> ApiKeyService:
        from postroom.services.keys import ApiKeyService

        return ApiKeyService(self.ledger.keys, self.clock)

    @cached_property
    def issuer(self) -> OpenIdProvider | None:
        """None: people sign in at an issuer of others (POSTROOM_ISSUER)."""
        if self.settings.issuer or self.stores.machine is None:
            return None
        from postroom.wiring.issuer import built_in_issuer

        return built_in_issuer(self.settings, self.stores)

    @cached_property
    def identity(self) -> IdentityProvider | None:
        """Who lets people sign in; None: an issuer of others, which is asked there."""
        if self.issuer is None:
            return self.stores.identity
        from postroom.identity.directory import UserDirectory

        return UserDirectory(self.issuer)

    @cached_property
    def authenticator(self) -> TokenAuthenticator:
        from postroom.wiring.people import authenticator

        return authenticator(self.settings, self.stores, self.ledger, issuer=self.issuer)

    @cached_property
    def rotation(self) -> Callable[[], KeyRotation]:
        """Of the master key. `Unsupported` on AWS, where it is KMS's."""
        from postroom.wiring.issuer import rotation

        return partial(rotation, self.settings, self.stores, self.ledger)

    # As whom and through what mail leaves, and to whom it does not

    @cached_property
    def senders(self) -> SenderService:
        from postroom.platform.mail.resolver import Resolver
        from postroom.services.senders import SenderService

        return SenderService(self.identities, Resolver(), self.clock)

    @cached_property
    def dkim(self) -> DkimService:
        from postroom.platform.mail.resolver import Resolver
        from postroom.services.dkim import DkimService

        return DkimService(self.ledger.dkim, Resolver(), self.clock)

    @cached_property
    def provider_verbs(self) -> ProviderService:
        from postroom.platform.mail.provider_url import check_provider_url
        from postroom.services.providers import ProviderService

        def examined(means: ProviderCredentials) -> list[Finding]:
            from postroom.wiring.mail import examined  # brings all ways out along

            return examined(self.ses_accounts, means)

        return ProviderService(
            self.providers, check=lambda url, trusted: check_provider_url(url, trusted=trusted), examine=examined
        )

    @cached_property
    def ses_accounts(self) -> SesAccounts:
        from postroom.wiring.ses import SesAccounts

        return SesAccounts(self.settings.aws, self.stores.rates, self.clock, topics=self.settings.ses_topics)

    @cached_property
    def suppressions(self) -> SuppressionLists:
        from postroom.services.suppression import SuppressionLists

        return SuppressionLists(self.ledger.suppression, self.tenants, self.clock)

    @cached_property
    def inbox(self) -> InboxService:
        from postroom.services.inbox import InboxService

        return InboxService(self.objects)

    @cached_property
    def inbox_server(self) -> Inbox:
        from postroom.platform.mail.inbox import Inbox

        return Inbox(self.objects, self.clock)

    # What is sent

    @cached_property
    def composing(self) -> ContentCompiler:
        from postroom.wiring.composing import composing

        return composing(self.settings, self.stores, self.ledger)

    @cached_property
    def contents(self) -> ContentStore:
        """Of single messages."""
        from postroom.delivery.transactional import ContentStore

        return ContentStore(self.objects)

    @cached_property
    def composed_singles(self) -> TransactionalCompiler:
        from postroom.delivery.transactional import TransactionalCompiler

        return TransactionalCompiler(self.composing, self.tenants, self.objects)

    @cached_property
    def templates(self) -> TemplateService:
        from postroom.services.templates import TemplateService

        return TemplateService(self.tables, self.objects, self.clock, self.composing)

    @cached_property
    def uploads(self) -> UploadService:
        from postroom.services.uploads import UploadService, UploadUsage

        return UploadService(
            self.tables,
            self.objects,
            self.stores.transfers,
            self.clock,
            upload_days=self.settings.upload_days,
            in_use=UploadUsage(self.records),
        )

    @cached_property
    def singles(self) -> MessageService:
        from postroom.wiring.singles import message_service, sources_of

        sources = sources_of(self.ledger, self.templates, self.uploads)
        return message_service(self.stores, self.ledger, sources, contents=self.contents, singles=self.composed_singles)

    @cached_property
    def stream_retention(self) -> StreamRetention:
        from postroom.wiring.singles import stream_retention

        return stream_retention(self.stores, self.ledger, self.contents)

    @cached_property
    def campaigns(self) -> CampaignService:
        from postroom.wiring.campaigns import campaign_service

        return campaign_service(self.stores, self.ledger, self.campaign_creator)

    @cached_property
    def campaign_creator(self) -> CampaignCreator:
        from postroom.wiring.campaigns import campaign_creator

        return campaign_creator(self.stores, self.ledger, self.composing)

    @cached_property
    def campaign_requests(self) -> CampaignRequests:
        from postroom.wiring.campaigns import campaign_requests

        return campaign_requests(
            self.settings, self.stores, self.ledger, creator=self.campaign_creator, templates=self.templates, uploads=self.uploads
        )

    @cached_property
    def edits(self) -> Edits:
        from postroom.services.campaign_edits import Edits
        from postroom.wiring.campaigns import campaign_defaults

        return Edits(self.records, self.queues, self.clock, grace_ms=campaign_defaults(self.settings).grace_ms)

    @cached_property
    def changes(self) -> CampaignActions:
        from postroom.services.campaign_actions import CampaignActions

        return CampaignActions(self.campaigns, self.records, messages=self.messages, workflows=self.workflows, clock=self.clock)

    @cached_property
    def dry_run(self) -> DryRun:
        from postroom.services.dry_run import DryRun

        kept = self.ledger
        return DryRun(
            composing=self.composing,
            objects=self.objects,
            suppression=kept.suppression,
            tenants=kept.tenants,
            clock=self.clock,
        )

    @cached_property
    def reading(self) -> CampaignReader:
        from postroom.services.campaign_reading import CampaignReader

        return CampaignReader(self.records, self.messages)

    @cached_property
    def exports(self) -> CampaignExports:
        from postroom.services.exports import CampaignExports

        return CampaignExports(self.records, self.messages, self.objects)

    @cached_property
    def export_files(self) -> ExportFiles | None:
        """None: the door itself answers exports of any size."""
        if self.stores.machine is not None:
            return None
        from postroom.services.exports import ExportFiles

        return ExportFiles(self.objects, self.stores.transfers, self.clock)

    @cached_property
    def status(self) -> StatusService:
        from postroom.pipeline.sender.provider_route import DailyQuota
        from postroom.services.status import StatusService

        waiting_for = DailyQuota(self.stores.rates, self.providers, self.clock).waiting_for
        return StatusService(self.records, self.messages, self.clock, waiting_for=waiting_for)

    @cached_property
    def campaign_retention(self) -> CampaignRetention:
        from postroom.services.retention import CampaignRetention

        return CampaignRetention(self.tenants, self.records, self.campaigns)

    @cached_property
    def erasure(self) -> ErasureService:
        from postroom.wiring.erasure import erasure

        return erasure(self.stores, self.ledger, self.uploads)

    @cached_property
    def erasure_requests(self) -> ErasureRequests:
        from postroom.services.erasure_requests import ErasureRequests

        return ErasureRequests(self.erasure, self.tables, self.workflows, self.clock)

    # Whom tenants want told

    @cached_property
    def callback_desk(self) -> CallbackService:
        from postroom.wiring.callback_desk import callback_desk

        return callback_desk(self.settings, self.stores, self.ledger)
