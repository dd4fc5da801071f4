"""Creates campaigns from a `CampaignSpec`: checks the template, stores the parts, then the record, and begins the import.

Objects are stored before the record that names them. A crash leaves at worst objects under the prefix of an id that no campaign
has. Creating a campaign again under the same id finds the record if there is one, and continues from there; otherwise it stores
the same objects once more.

`CampaignCreator` takes the parts themselves (CLI). `CampaignRequests` takes them from a stored template, an upload and assets of
the tenant (API), after checking that the tenant may use the sender, the provider and the callback URL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import BinaryIO, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from postroom.clock import Clock, Instant
from postroom.delivery.compose import ContentCompiler, variables
from postroom.delivery.tracking import links_key
from postroom.errors import Conflict, Invalid, NotFound, TooLarge
from postroom.ledger import scheduler_messages
from postroom.ledger.campaigns import Campaigns
from postroom.model.callback import check_callback_url
from postroom.model.campaign import (
    Attachment,
    AttachmentSpec,
    Campaign,
    CampaignRef,
    CampaignSpec,
    CampaignStatus,
    Import,
    Policies,
    Schedule,
    StoredFiles,
    UnknownPolicy,
)
from postroom.model.template import TemplateContent
from postroom.model.upload import ReadyUpload, UploadKind
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.timers import MAX_AHEAD_MS
from postroom.platform.ports.workflows import Workflows
from postroom.recipients_file.layout import HEAD_BYTES, layout_for

MAX_ATTACHED = 10_000_000
"""Bytes of all attachments and inline images together. Base64 adds a third."""
EMAIL = "email"
"""The variable of the recipient's address in the API's `columns`."""


class FieldNames(NamedTuple):
    """Names of a schedule's two fields in error messages."""

    at: str
    timezone: str


API_FIELDS = FieldNames("schedule.at", "schedule.timezone")


@dataclass(frozen=True, slots=True)
class AttachedFile:
    filename: str
    content_type: str
    content: bytes
    content_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignParts:
    """The template and attachments of a new campaign, not stored yet."""

    html: str
    """The HTML template, MJML compiled."""
    text: str | None = None
    attachments: tuple[AttachedFile, ...] = ()


@dataclass(frozen=True, slots=True)
class CampaignDefaults:
    """The installation's rules for campaigns that name no others."""

    policies: Policies
    grace_ms: int
    """Milliseconds that a schedule may be overdue and still start."""

    def with_options(self, *, rate: float | None, unknown: UnknownPolicy) -> Policies:
        """The policies of a campaign; `rate` None: the installation's."""
        return replace(self.policies, unknown=unknown, rate=self.policies.rate if rate is None else rate)


@dataclass(frozen=True, slots=True)
class CampaignSources:
    """Looks up what a request names. Each function takes the tenant first and finds only that tenant's."""

    contents: Callable[[str, str, int | None], TemplateContent]
    """A template's version; None: the newest. Raises `NotFound`."""
    ready: Callable[[str, str, UploadKind], ReadyUpload]
    """An upload that has arrived. Raises `NotFound`, `Invalid`."""
    check_sender: Callable[[str, str], None]
    """Raises `Denied` or `Invalid` unless the tenant may send as that address."""
    check_provider: Callable[[str, str], None]
    """Raises `Invalid` or `NotFound` unless the tenant has a provider of that name which carries campaigns."""
    check_callback: Callable[[str], object] = check_callback_url
    """Raises `Invalid` unless events may be sent to that URL."""


class CampaignCreator:
    """Creates campaigns from their parts."""

    def __init__(
        self, campaigns: Campaigns, *, composing: ContentCompiler, objects: Objects, workflows: Workflows, clock: Clock
    ) -> None:
        self._campaigns = campaigns
        self._composing = composing
        self._objects = objects
        self._workflows = workflows
        self._clock = clock

    def create(
        self, tenant: str, spec: CampaignSpec, parts: CampaignParts, recipients: BinaryIO, *, filename: str, start: bool = True
    ) -> Campaign:
        """Create a campaign with a file of recipients and begin its import. `start`: send, or schedule, once it is imported.

        Raises `Invalid` if the template, an address or an attachment is wrong; then nothing was created."""
        ref = self._campaigns.new_ref(tenant)
        columns, links = self._compile(ref, spec, parts)
        files = self._store(ref, parts, links)
        upload_key = f"{prefix(ref)}recipients"
        self._objects.put(upload_key, recipients, content_type="text/csv")
        return self._begin(
            Campaign(
                ref,
                spec,
                CampaignStatus.DRAFT,
                files,
                Import(upload_key, filename, columns),
                self._clock.now(),
                start_when_ready=start,
            )
        )

    def create_from_upload(
        self, ref: CampaignRef, spec: CampaignSpec, parts: CampaignParts, upload: ReadyUpload, *, start: bool = True
    ) -> Campaign:
        """Create a campaign whose recipients are a stored upload. Repeating it is harmless.

        Raises `Invalid` as `create`, also if the upload cannot be used."""
        columns, links = self._compile(ref, spec, parts)
        source = Import(upload.object_key, upload.filename, columns, upload_version=upload.object_version)
        self._check_upload(spec, source, upload)
        files = self._store(ref, parts, links)
        return self._begin(Campaign(ref, spec, CampaignStatus.DRAFT, files, source, self._clock.now(), start_when_ready=start))

    def find_created(self, ref: CampaignRef) -> Campaign | None:
        """The campaign, its import begun, if an earlier call created it; else None."""
        campaign = self._campaigns.find(ref)
        if campaign is not None and campaign.status in {CampaignStatus.DRAFT, CampaignStatus.IMPORTING}:
            return self.begin_import(campaign)
        return campaign

    def begin_import(self, campaign: Campaign) -> Campaign:
        """Start the import workflow. Repeating it is harmless."""
        if campaign.status is CampaignStatus.DRAFT:
            campaign = self._campaigns.transition(campaign, CampaignStatus.IMPORTING)
        scheduler_messages.start_import(self._workflows, campaign.ref)
        return campaign

    def _compile(self, ref: CampaignRef, spec: CampaignSpec, parts: CampaignParts) -> tuple[tuple[str, ...], Sequence[str]]:
        """Columns that the template needs in each row, and its links."""
        columns = tuple(sorted(variables(html=parts.html, text=parts.text, subject=spec.content.subject)))
        composer = self._composing.compile(
            ref,
            spec.content,
            html=parts.html,
            text=parts.text,
            attachments=[(_attachment(ref, at, file), file.content) for at, file in enumerate(parts.attachments)],
            columns=columns,
            public_url=self._composing.public_url,
        )
        return columns, composer.links

    def _check_upload(self, spec: CampaignSpec, source: Import, upload: ReadyUpload) -> None:
        try:
            head = self._objects.read(source.upload_key, 0, HEAD_BYTES, source.upload_version)
        except NotFound as error:
            raise _gone(source.filename) from error
        layout_for(spec, source, head, whole=len(head) == upload.size)

    def _store(self, ref: CampaignRef, parts: CampaignParts, links: Sequence[str]) -> StoredFiles:
        html_key, text_key = f"{prefix(ref)}template.html", f"{prefix(ref)}template.txt" if parts.text is not None else None
        self._objects.put(html_key, parts.html.encode(), content_type="text/html; charset=utf-8")
        if text_key is not None and parts.text is not None:
            self._objects.put(text_key, parts.text.encode(), content_type="text/plain; charset=utf-8")
        attachments = tuple(_attachment(ref, at, file) for at, file in enumerate(parts.attachments))
        for attachment, file in zip(attachments, parts.attachments, strict=True):
            self._objects.put(attachment.object_key, file.content, content_type=file.content_type)
        self._objects.put(links_key(ref), msgspec.json.encode(links), content_type="application/json")
        return StoredFiles(html_key, text_key, attachments, self._composing.public_url)

    def _begin(self, campaign: Campaign) -> Campaign:
        try:
            campaign = self._campaigns.create(campaign)
        except Conflict:  # another call for the same id was first
            return self.find_created(campaign.ref) or campaign
        return self.begin_import(campaign)


class CampaignRequests:
    """Creates campaigns for the API."""

    def __init__(
        self, creator: CampaignCreator, sources: CampaignSources, *, objects: Objects, clock: Clock, defaults: CampaignDefaults
    ) -> None:
        self._creator = creator
        self._sources = sources
        self._objects = objects
        self._clock = clock
        self.defaults = defaults

    def template_version(self, tenant: str, template_id: str) -> int:
        """The template's newest version: a recovery point of a request that names none. Raises `NotFound`."""
        return self._template(tenant, template_id, None).version

    def schedule(self, at: str, timezone: str) -> Schedule:
        """As `parse_schedule`, from now on."""
        return parse_schedule(at, timezone, now=self._clock.now(), grace_ms=self.defaults.grace_ms)

    def find_created(self, ref: CampaignRef) -> Campaign | None:
        """As `CampaignCreator.find_created`: an earlier call's campaign is not checked again."""
        return self._creator.find_created(ref)

    def create(self, ref: CampaignRef, spec: CampaignSpec, *, start: bool) -> Campaign:
        """Create the campaign. Raises `NotFound` for a part that the tenant does not have, `Invalid`, `Denied`, `TooLarge`; then
        nothing was created."""
        tenant = ref.tenant
        self._sources.check_sender(tenant, spec.content.from_)
        try:
            self._sources.check_provider(tenant, spec.provider)
        except NotFound as error:
            raise NotFound(f"provider: {error}") from error
        self._check_callback(spec.callback_url)
        template = self._template(tenant, spec.template_id or "", spec.template_version)
        upload = self._upload(tenant, spec.upload_id or "", UploadKind.RECIPIENTS)
        content = spec.content if spec.content.subject else replace(spec.content, subject=template.subject)
        spec = replace(spec, content=content, template_id=template.template_id, template_version=template.version)
        parts = CampaignParts(html=template.html, text=template.text, attachments=self._attachments(tenant, spec.attachments))
        return self._creator.create_from_upload(ref, spec, parts, upload, start=start)

    def _check_callback(self, url: str | None) -> None:
        try:
            if url is not None:
                self._sources.check_callback(url)
        except Invalid as error:
            raise Invalid(f"callback_url: {error}") from error

    def _template(self, tenant: str, template_id: str, version: int | None) -> TemplateContent:
        try:
            return self._sources.contents(tenant, template_id, version)
        except NotFound as error:
            raise NotFound(f"template_id: {error}") from error

    def _upload(self, tenant: str, upload_id: str, kind: UploadKind) -> ReadyUpload:
        try:
            return self._sources.ready(tenant, upload_id, kind)
        except NotFound as error:
            raise NotFound(f"upload_id: {error}") from error

    def _attachments(self, tenant: str, wanted: tuple[AttachmentSpec, ...]) -> tuple[AttachedFile, ...]:
        uploads = [(spec, self._upload(tenant, spec.upload_id, UploadKind.ASSET)) for spec in wanted]
        size = sum(upload.size for _, upload in uploads)
        if size > MAX_ATTACHED:
            raise TooLarge(f"The attachments have {size:,} bytes; {MAX_ATTACHED:,} at most, all together.")
        return tuple(self._file(spec, upload) for spec, upload in uploads)

    def _file(self, spec: AttachmentSpec, upload: ReadyUpload) -> AttachedFile:
        try:
            content = self._objects.get(upload.object_key, upload.object_version)
        except NotFound as error:
            raise _gone(upload.filename) from error
        return AttachedFile(spec.filename or upload.filename, upload.content_type, content, spec.content_id)


def parse_schedule(at: str, timezone: str, *, now: Instant, grace_ms: int, names: FieldNames = API_FIELDS) -> Schedule:
    """When a campaign starts. `at` is RFC 3339; without an offset, the wall clock of `timezone` (IANA).

    Raises `Invalid` if it is no time, has passed by more than `grace_ms`, or is more than a year ahead."""
    shown = f"{names.at} {at[:40]}"
    try:
        when = datetime.fromisoformat(at)
    except ValueError as error:
        raise Invalid(f"{shown}: write 2026-12-01T09:00 or 2026-12-01T09:00+01:00") from error
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # some zone names are directories
        raise Invalid(f"{names.timezone} {timezone[:40]} is no IANA time zone, such as Europe/Paris or UTC") from error
    try:
        placed = when if when.tzinfo is not None else _in_zone(when, zone, names)
        instant = Instant(round(placed.timestamp() * 1000))
    except (ValueError, OverflowError) as error:  # the first and last days of the calendar, in some zones
        raise Invalid(f"{shown} is outside the calendar") from error
    if instant + grace_ms < now:
        raise Invalid(f"{shown} ({timezone}) has passed: name a time to come, or leave it away to send now")
    if instant > now + MAX_AHEAD_MS:
        raise Invalid(f"{shown} is more than {MAX_AHEAD_MS // 86_400_000} days ahead")
    return Schedule(instant, timezone, grace_ms)


def prefix(ref: CampaignRef) -> str:
    """The prefix of the object keys of a campaign's own files."""
    return f"{ref.tenant}/campaigns/{ref.campaign}/"


def _attachment(ref: CampaignRef, at: int, file: AttachedFile) -> Attachment:
    return Attachment(f"{prefix(ref)}attachment-{at}", file.filename, file.content_type, file.content_id)


def _gone(filename: str) -> Invalid:
    return Invalid(f"The upload {filename} is gone: upload it again.")


def _in_zone(when: datetime, zone: ZoneInfo, names: FieldNames) -> datetime:
    """A wall-clock time in a zone: the first of a time that the clocks show twice. Raises `Invalid` for one that they skip."""
    placed = when.replace(tzinfo=zone)
    if datetime.fromtimestamp(placed.timestamp(), zone).replace(tzinfo=None) != when:
        raise Invalid(f"{names.at} {when.isoformat()} does not exist in {zone.key}: the clocks skip it")
    return placed
