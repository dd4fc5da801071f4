"""The services of one installation: the API and the command line call them.

A service is built, and its modules are imported, when it is first used. A function on AWS uses few of them, and its first caller
waits for everything that it imports (tests/lambdas/test_cold_start.py): so imports are inside the members.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

from postroom.errors import Invalid
from postroom.settings import Settings
from postroom.wiring.stores import Repositories

if TYPE_CHECKING:
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
    from postroom.services.campaign_creation import CampaignCreator, CampaignDefaults, CampaignRequests
    from postroom.services.campaigns import CampaignEditor, CampaignReader, CampaignService
    from postroom.services.dkim import DkimService
    from postroom.services.dry_run import DryRun
    from postroom.services.erasure import ErasureService
    from postroom.services.erasure_requests import ErasureRequests
    from postroom.services.exports import CampaignExports, ExportFiles
    from postroom.services.inbox import InboxService
    from postroom.services.key_rotation import SealingKeyRotation
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
    from postroom.wiring.providers import SesAccounts

NO_AUDIENCE: Final = "POSTROOM_ISSUER needs POSTROOM_AUDIENCE: else tokens for any other application would be taken too"


class Services(Repositories):
    """Repositories and services. Raises `Invalid` when a member needs a setting that cannot be used."""

    # Users and keys

    @cached_property
    def members(self) -> MemberService:
        from postroom.services.users import MemberService

        return MemberService(self.memberships)

    @cached_property
    def api_keys(self) -> ApiKeyService:
        from postroom.services.keys import ApiKeyService

        return ApiKeyService(self.key_records, self.clock)

    @cached_property
    def issuer(self) -> OpenIdProvider | None:
        """None if users sign in at an external issuer (POSTROOM_ISSUER), and on AWS."""
        return None if self.settings.issuer or self.stores.machine is None else self._built_in_issuer

    @cached_property
    def identity(self) -> IdentityProvider | None:
        """None if users sign in at an external issuer."""
        if self.issuer is None:
            return self.stores.identity
        from postroom.identity.directory import UserDirectory

        return UserDirectory(self.issuer)

    @cached_property
    def authenticator(self) -> TokenAuthenticator:
        """Accepts tokens of the built-in issuer, or of the one in the settings; never of both. Raises `Invalid` when an external
        issuer is set without an audience."""
        from postroom.gateway.auth import TokenAuthenticator
        from postroom.gateway.jwks import HttpJwks, LocalJwks

        settings, issuer = self.settings, self.issuer
        if issuer is None and not settings.audience:
            raise Invalid(NO_AUDIENCE)
        if issuer is None:
            jwks = HttpJwks(settings.issuer or "", self.clock, at=settings.jwks_url)
        else:
            jwks = LocalJwks(issuer.keys.published, self.clock)
        return TokenAuthenticator(
            self.memberships,
            self.key_records,
            self.tenants,
            jwks,
            issuer=settings.issuer or settings.api_base_url,
            audiences=settings.audience if issuer is None else (issuer.audience,),
            clock=self.clock,
            members_of=None if issuer is None else issuer.membership_issuer,
        )

    @property
    def _built_in_issuer(self) -> OpenIdProvider:
        from postroom.identity.provider import OpenIdProvider

        return OpenIdProvider(self.tables, self.secrets, self.clock, url=self.settings.api_base_url)

    def rotation(self) -> SealingKeyRotation:
        """Re-encrypts everything kept under the master key. Raises `Unsupported` on AWS, where KMS rotates its own key."""
        from postroom.platform.embedded.secrets import KeyFile
        from postroom.services.key_rotation import SealingKeyRotation

        machine = self.stores.on_one_machine("changing the master key")
        owners = [
            ("objects", machine.objects.reseal),
            ("providers", self.providers.reseal),
            ("DKIM keys", self.dkim_keys.reseal),
            ("callbacks", self.callback_secrets.reseal),
            ("signed URLs", machine.transfers.reseal),
            ("audit", self.audit.reseal),
            ("sign-in", self._built_in_issuer.reseal),  # also where an external issuer is set: for the way back to this one
        ]
        keys = machine.master_keys
        return SealingKeyRotation(keys, owners, own=keys if isinstance(keys, KeyFile) else None)

    # Senders, providers, suppression

    @cached_property
    def senders(self) -> SenderService:
        from postroom.platform.mail.resolver import Resolver
        from postroom.services.senders import SenderService

        return SenderService(self.identities, Resolver(), self.clock)

    @cached_property
    def dkim(self) -> DkimService:
        from postroom.platform.mail.resolver import Resolver
        from postroom.services.dkim import DkimService

        return DkimService(self.dkim_keys, Resolver(), self.clock)

    @cached_property
    def provider_service(self) -> ProviderService:
        from postroom.platform.mail.provider_url import check_provider_url
        from postroom.services.providers import ProviderService

        def examine(credentials: ProviderCredentials) -> list[Finding]:
            from postroom.wiring.providers import examine_provider  # imports every kind of mailer

            return examine_provider(self.ses_accounts, credentials)

        def check(url: str, trusted: bool) -> None:
            check_provider_url(url, trusted=trusted)

        return ProviderService(self.providers, check=check, examine=examine)

    @cached_property
    def ses_accounts(self) -> SesAccounts:
        from postroom.wiring.providers import SesAccounts

        return SesAccounts(self.settings.aws, self.rates, self.clock, topics=self.settings.ses_topics)

    @cached_property
    def suppressions(self) -> SuppressionLists:
        from postroom.services.suppression import SuppressionLists

        return SuppressionLists(self.suppression, self.tenants, self.clock)

    @cached_property
    def inbox(self) -> InboxService:
        from postroom.services.inbox import InboxService

        return InboxService(self.objects)

    @cached_property
    def inbox_server(self) -> Inbox:
        from postroom.platform.mail.inbox import Inbox

        return Inbox(self.objects, self.clock)

    # Templates, messages, campaigns

    @cached_property
    def compiler(self) -> ContentCompiler:
        from postroom.delivery.compose import ContentCompiler

        settings = self.settings
        return ContentCompiler(
            self.tenants,
            self.objects,
            public_url=settings.public_url,
            bounce_domain=settings.bounce_domain,
            mail_comes_back=settings.bounce_domain is not None and bool(settings.feedback_listen or settings.feedback_mailbox),
            keys=self.dkim_keys,
        )

    @cached_property
    def contents(self) -> ContentStore:
        """Contents of transactional messages."""
        from postroom.delivery.transactional import ContentStore

        return ContentStore(self.objects)

    @cached_property
    def transactional_compiler(self) -> TransactionalCompiler:
        from postroom.delivery.transactional import TransactionalCompiler

        return TransactionalCompiler(self.compiler, self.tenants, self.objects)

    @cached_property
    def templates(self) -> TemplateService:
        from postroom.services.templates import TemplateService

        return TemplateService(self.tables, self.objects, self.clock, self.compiler)

    @cached_property
    def uploads(self) -> UploadService:
        from postroom.services.uploads import UploadService, UploadUsage

        return UploadService(
            self.tables,
            self.objects,
            self.transfers,
            self.clock,
            upload_days=self.settings.upload_days,
            in_use=UploadUsage(self.records),
        )

    @cached_property
    def transactional(self) -> MessageService:
        from postroom.services.message_acceptance import MessageAcceptance
        from postroom.services.messages import MessageService, MessageSources

        sources = MessageSources(contents=self.templates.content, check_sender=self.identities.check, ready=self.uploads.ready)
        return MessageService(
            sources,
            MessageAcceptance(self.messages, self.streams, self.clock),
            contents=self.contents,
            singles=self.transactional_compiler,
            messages=self.messages,
            suppression=self.suppression,
            tenants=self.tenants,
            clock=self.clock,
        )

    @cached_property
    def stream_retention(self) -> StreamRetention:
        from postroom.services.retention import StreamRetention

        return StreamRetention(
            self.tables,
            self.tenants,
            self.streams,
            contents=self.contents,
            messages=self.messages,
            journals=self.journals,
            workflows=self.workflows,
        )

    @cached_property
    def campaigns(self) -> CampaignService:
        from postroom.services.campaigns import CampaignService

        return CampaignService(
            self.records,
            creator=self.campaign_creator,
            messages=self.messages,
            objects=self.objects,
            journals=self.journals,
            queues=self.queues,
            timers=self.timers,
            workflows=self.workflows,
            bulk_update=self.bulk_update,
            deliveries=self.deliveries,
            clock=self.clock,
        )

    @cached_property
    def campaign_creator(self) -> CampaignCreator:
        from postroom.services.campaign_creation import CampaignCreator

        return CampaignCreator(
            self.records, composing=self.compiler, objects=self.objects, workflows=self.workflows, clock=self.clock
        )

    @cached_property
    def campaign_requests(self) -> CampaignRequests:
        """Creates campaigns for the API: everything that a request names must belong to its tenant."""
        from postroom.model.callback import check_callback_url
        from postroom.services.campaign_creation import CampaignRequests, CampaignSources

        def check_provider(tenant: str, name: str) -> None:
            self.providers.for_campaign(tenant, name)

        sources = CampaignSources(
            self.templates.content,
            self.uploads.ready,
            self.identities.check,
            check_provider,
            check_callback=partial(check_callback_url, networks=self.settings.callback_networks),
        )
        return CampaignRequests(
            self.campaign_creator, sources, objects=self.objects, clock=self.clock, defaults=campaign_defaults(self.settings)
        )

    @cached_property
    def campaign_editor(self) -> CampaignEditor:
        from postroom.services.campaigns import CampaignEditor

        return CampaignEditor(self.records, self.queues, self.clock, grace_ms=campaign_defaults(self.settings).grace_ms)

    @cached_property
    def campaign_actions(self) -> CampaignActions:
        from postroom.services.campaign_actions import CampaignActions

        return CampaignActions(self.campaigns, self.records, messages=self.messages, workflows=self.workflows, clock=self.clock)

    @cached_property
    def dry_run(self) -> DryRun:
        from postroom.services.dry_run import DryRun

        return DryRun(
            composing=self.compiler,
            objects=self.objects,
            suppression=self.suppression,
            tenants=self.tenants,
            clock=self.clock,
        )

    @cached_property
    def campaign_reader(self) -> CampaignReader:
        from postroom.services.campaigns import CampaignReader

        return CampaignReader(self.records, self.messages)

    @cached_property
    def exports(self) -> CampaignExports:
        from postroom.services.exports import CampaignExports

        return CampaignExports(self.records, self.messages, self.objects)

    @cached_property
    def export_files(self) -> ExportFiles | None:
        """None if the server itself streams exports of any size."""
        if self.stores.machine is not None:
            return None
        from postroom.services.exports import ExportFiles

        return ExportFiles(self.objects, self.transfers, self.clock)

    @cached_property
    def status(self) -> StatusService:
        from postroom.pipeline.sender.provider_route import DailyQuota
        from postroom.services.status import StatusService

        waiting_for = DailyQuota(self.rates, self.providers, self.clock).waiting_for
        return StatusService(self.records, self.messages, self.clock, waiting_for=waiting_for)

    @cached_property
    def campaign_retention(self) -> CampaignRetention:
        from postroom.services.retention import CampaignRetention

        return CampaignRetention(self.tenants, self.records, self.campaigns)

    @cached_property
    def erasure(self) -> ErasureService:
        from postroom.ledger.bulk_update import MessageEraser
        from postroom.services.erasure import ErasureService, ErasureStores

        places = ErasureStores(
            campaigns=self.records,
            messages=self.messages,
            objects=self.objects,
            uploads=self.uploads,
            suppression=self.suppression,
            workflows=self.workflows,
            erasing=MessageEraser(self.messages, self.bulk_update, self.clock),
            callbacks=self.callbacks,
            deliveries=self.deliveries,
        )
        return ErasureService(places, tables=self.tables, tenants=self.tenants, audit=self.audit, clock=self.clock)

    @cached_property
    def erasure_requests(self) -> ErasureRequests:
        from postroom.services.erasure_requests import ErasureRequests

        return ErasureRequests(self.erasure, self.tables, self.workflows, self.clock)

    # Callbacks

    @cached_property
    def callback_service(self) -> CallbackService:
        from postroom.services.callbacks import CallbackService

        return CallbackService(
            self.callbacks,
            self.callback_secrets,
            self.deliveries,
            campaigns=self.records,
            networks=self.settings.callback_networks,
            clock=self.clock,
        )


def campaign_defaults(settings: Settings) -> CampaignDefaults:
    """Return the rules of campaigns that name no others."""
    from postroom.model.campaign import Policies
    from postroom.services.campaign_creation import CampaignDefaults

    policies = Policies(
        settle_after_ms=round(settings.settle_after * 1000),
        rate=settings.rate,
        give_up_after_ms=round(settings.give_up_after * 1000),
        retry_after_ms=round(settings.retry_after * 1000),
    )
    return CampaignDefaults(policies, round(settings.schedule_grace * 1000))
