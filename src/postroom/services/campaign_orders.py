"""A campaign as it is ordered over the API: from a stored template, an upload and assets, all of the same tenant.

The sender and the provider must be the tenant's to use. The same order under the same id makes one campaign: what a crash left
of it is gone on with (services.campaign_making), and nothing is looked up or checked again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from postroom.clock import Clock
from postroom.errors import Invalid, NotFound, TooLarge
from postroom.model.callback import check_callback_url
from postroom.model.campaign import Campaign, CampaignRef, MissingPolicy, Policies, Schedule, UnknownPolicy
from postroom.model.template import TemplateContent
from postroom.model.upload import ReadyUpload, UploadKind
from postroom.platform.ports.objects import Objects
from postroom.services.campaign_making import AttachedFile, Draft
from postroom.services.campaigns import CampaignService
from postroom.services.schedules import parse_schedule

MAX_ATTACHED = 10_000_000
"""Bytes of all attachments and inline images together; on the wire they take a third more."""
EMAIL = "email"
"""The variable that stands for the recipient's address among `columns`."""


@dataclass(frozen=True, slots=True)
class CampaignSources:
    """Where an order's parts come from. Each takes the tenant first, and knows nothing of other tenants'."""

    contents: Callable[[str, str, int | None], TemplateContent]
    """A template's version, None for the newest. `NotFound`."""
    ready: Callable[[str, str, UploadKind], ReadyUpload]
    """An upload that has arrived. `NotFound`, `Invalid`."""
    check_sender: Callable[[str, str], None]
    """Whether the tenant may send as that address. `Denied`, `Invalid`."""
    check_provider: Callable[[str, str], None]
    """Whether the tenant has a provider of that name, that carries campaigns. `Invalid`, `NotFound`."""
    check_callback: Callable[[str], object] = check_callback_url
    """Whether that URL may be told of events. `Invalid`."""


@dataclass(frozen=True, slots=True)
class CampaignDefaults:
    """What holds where an order says nothing."""

    provider: str
    policies: Policies
    grace_ms: int
    """How late a schedule may be found and still start."""


@dataclass(frozen=True, slots=True)
class Attached:
    """An asset that goes with every message."""

    upload_id: str
    filename: str | None = None
    content_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked for."""

    name: str
    template_id: str
    template_version: int | None = None
    upload_id: str
    from_: str
    reply_to: str | None = None
    subject: str | None = None
    """None: the template's."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Variable → column heading, where they differ; `email` names the column of addresses."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """For everybody; a column of the same name wins."""
    missing: MissingPolicy = MissingPolicy.ERROR
    provider: str | None = None
    topic: str | None = None
    attachments: tuple[Attached, ...] = ()
    at: str | None = None
    """When it starts: None for as soon as it is imported."""
    timezone: str = "UTC"
    rate: float | None = None
    unknown: UnknownPolicy = UnknownPolicy.NEVER_TWICE
    track_opens: bool = True
    track_clicks: bool = True
    callback_url: str | None = None
    start: bool = True
    created_by: str | None = None


class Orders:
    """See the module's text."""

    def __init__(
        self, campaigns: CampaignService, sources: CampaignSources, *, objects: Objects, clock: Clock, house: CampaignDefaults
    ) -> None:
        self._campaigns = campaigns
        self._sources = sources
        self._objects = objects
        self._clock = clock
        self._house = house

    def template_version(self, tenant: str, template_id: str) -> int:
        """The newest, for an order that names none: to be noted before it is placed. `NotFound`."""
        return self._content(tenant, template_id, None).version

    def place(self, ref: CampaignRef, order: Order) -> Campaign:
        """Make the campaign, or go on where a call with the same id ended. Nothing was made: `NotFound` for one of its parts,
        `Invalid`, `Denied`, `TooLarge`."""
        made = self._campaigns.continued(ref)
        if made is not None:
            return made
        tenant, provider = ref.tenant, order.provider or self._house.provider
        self._sources.check_sender(tenant, order.from_)
        self._check_provider(tenant, provider)
        self._check_callback(order.callback_url)
        content = self._content(tenant, order.template_id, order.template_version)
        upload = self._upload(tenant, order.upload_id, UploadKind.RECIPIENTS)
        draft = Draft(
            name=order.name,
            html=content.html,
            text=content.text,
            subject=order.subject or content.subject,
            from_=order.from_,
            reply_to=order.reply_to,
            variables=dict(order.variables),
            missing=order.missing,
            attachments=self._attached(tenant, order.attachments),
            track_opens=order.track_opens,
            track_clicks=order.track_clicks,
            provider=provider,
            schedule=None if order.at is None else self._schedule(order.at, order.timezone),
            policies=self._policies(order),
            email_column=order.columns.get(EMAIL),
            headings=tuple((name, heading) for name, heading in order.columns.items() if name != EMAIL),
            topic=order.topic,
            start=order.start,
            template_id=content.template_id,
            template_version=content.version,
            created_by=order.created_by,
            callback_url=order.callback_url,
        )
        return self._campaigns.create_from_upload(ref, draft, upload)

    def _check_provider(self, tenant: str, name: str) -> None:
        try:
            self._sources.check_provider(tenant, name)
        except NotFound as error:
            raise NotFound(f"provider: {error}") from error

    def _check_callback(self, url: str | None) -> None:
        try:
            if url is not None:
                self._sources.check_callback(url)
        except Invalid as error:
            raise Invalid(f"callback_url: {error}") from error

    def _content(self, tenant: str, template_id: str, version: int | None) -> TemplateContent:
        try:
            return self._sources.contents(tenant, template_id, version)
        except NotFound as error:
            raise NotFound(f"template_id: {error}") from error

    def _upload(self, tenant: str, upload_id: str, kind: UploadKind) -> ReadyUpload:
        try:
            return self._sources.ready(tenant, upload_id, kind)
        except NotFound as error:
            raise NotFound(f"upload_id: {error}") from error

    def _attached(self, tenant: str, wanted: tuple[Attached, ...]) -> tuple[AttachedFile, ...]:
        uploads = [(one, self._upload(tenant, one.upload_id, UploadKind.ASSET)) for one in wanted]
        size = sum(upload.size for _, upload in uploads)
        if size > MAX_ATTACHED:
            raise TooLarge(f"The attachments have {size:,} bytes; {MAX_ATTACHED:,} at most, all together.")
        return tuple(self._file(one, upload) for one, upload in uploads)

    def _file(self, wanted: Attached, upload: ReadyUpload) -> AttachedFile:
        try:
            content = self._objects.get(upload.object_key, upload.object_version)
        except NotFound as error:
            raise Invalid(f"The upload {upload.filename} is gone: upload it again.") from error
        return AttachedFile(wanted.filename or upload.filename, upload.content_type, content, wanted.content_id)

    def _schedule(self, at: str, timezone: str) -> Schedule:
        return parse_schedule(at, timezone, now=self._clock.now(), grace_ms=self._house.grace_ms)

    def _policies(self, order: Order) -> Policies:
        usual = self._house.policies
        return replace(usual, unknown=order.unknown, rate=usual.rate if order.rate is None else order.rate)
