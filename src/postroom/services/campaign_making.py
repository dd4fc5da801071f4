"""Making a campaign: its template checked, its parts stored, its record written, its import begun, in this order.

Objects are stored before the record that names them: a crash leaves at worst objects nobody refers to, under the prefix of an id
nobody has. Making a campaign again under the same id finds the record, if it came that far, and goes on from there; else
it stores the same objects once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import msgspec

from postroom.clock import Clock
from postroom.delivery.compose import ContentCompiler, variables
from postroom.delivery.tracking import links_key
from postroom.errors import Conflict, Invalid, NotFound
from postroom.ledger import scheduler_messages
from postroom.ledger.campaigns import Campaigns
from postroom.model.campaign import (
    Attachment,
    Campaign,
    CampaignRef,
    CampaignStatus,
    Content,
    Import,
    MissingPolicy,
    Policies,
    Schedule,
)
from postroom.model.upload import ReadyUpload
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.workflows import Workflows
from postroom.recipients_file.layout import HEAD_BYTES, layout_for


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """An attachment's bytes on their way in."""

    filename: str
    content_type: str
    content: bytes
    content_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Everything a campaign is made from, besides the recipients."""

    name: str
    html: str
    """The HTML template, MJML compiled."""
    text: str | None = None
    subject: str
    from_: str
    reply_to: str | None = None
    variables: dict[str, str]
    missing: MissingPolicy = MissingPolicy.ERROR
    attachments: tuple[AttachedFile, ...] = ()
    track_opens: bool = True
    track_clicks: bool = True
    provider: str
    schedule: Schedule | None = None
    policies: Policies
    email_column: str | None = None
    headings: tuple[tuple[str, str], ...] = ()
    """For variables that are fed from a column of another name."""
    topic: str | None = None
    start: bool = True
    """Send (or schedule) as soon as the import is done; False: wait to be resumed."""
    template_id: str | None = None
    template_version: int | None = None
    created_by: str | None = None
    callback_url: str | None = None


class Making:
    """See the module's text."""

    def __init__(
        self, campaigns: Campaigns, *, composing: ContentCompiler, objects: Objects, workflows: Workflows, clock: Clock
    ) -> None:
        self._campaigns = campaigns
        self._composing = composing
        self._objects = objects
        self._workflows = workflows
        self._clock = clock

    def create(self, tenant: str, draft: Draft, recipients: BinaryIO, filename: str) -> Campaign:
        """Check the template, store the parts, then the record, and begin the import. `Invalid`: nothing was made."""
        ref = self._campaigns.new_ref(tenant)
        columns, links = self._compiled(ref, draft)
        self._store_content(ref, draft, links)
        upload = f"{prefix(ref)}recipients"
        self._objects.put(upload, recipients, content_type="text/csv")
        return self._begin(self._record(ref, draft, Import(upload, filename, draft.email_column, columns)))

    def create_from_upload(self, ref: CampaignRef, draft: Draft, upload: ReadyUpload) -> Campaign:
        """The same with recipients that are in the store already: they are read where they are. Again: harmless (`continued`).
        `Invalid`: nothing was made; also for an upload that can be seen to be unusable."""
        columns, links = self._compiled(ref, draft)
        source = Import(
            upload.object_key,
            upload.filename,
            draft.email_column,
            columns,
            upload_version=upload.object_version,
            headings=draft.headings,
        )
        self._look_into(source, upload)
        self._store_content(ref, draft, links)
        return self._begin(self._record(ref, draft, source, upload.id))

    def continued(self, ref: CampaignRef) -> Campaign | None:
        """The campaign, its import begun, if it was made before; None: it is still to be made."""
        campaign = self._campaigns.find(ref)
        if campaign is not None and campaign.status in {CampaignStatus.DRAFT, CampaignStatus.IMPORTING}:
            return self.begin_import(campaign)
        return campaign

    def begin_import(self, campaign: Campaign) -> Campaign:
        """Have the workers import it. Again: harmless."""
        if campaign.status is CampaignStatus.DRAFT:
            campaign = self._campaigns.transition(campaign, CampaignStatus.IMPORTING)
        scheduler_messages.start_import(self._workflows, campaign.ref)
        return campaign

    def _compiled(self, ref: CampaignRef, draft: Draft) -> tuple[tuple[str, ...], Sequence[str]]:
        """The columns the template asks of a row, and its links. `Invalid`: the template, an address, an attachment."""
        content = _content(ref, draft, self._composing.public_url)
        columns = tuple(sorted(variables(html=draft.html, text=draft.text, subject=draft.subject)))
        files = [(attachment, file.content) for attachment, file in zip(content.attachments, draft.attachments, strict=True)]
        composer = self._composing.compile(ref, content, html=draft.html, text=draft.text, attachments=files, columns=columns)
        return columns, composer.links

    def _look_into(self, source: Import, upload: ReadyUpload) -> None:
        try:
            head = self._objects.read(source.upload_key, 0, HEAD_BYTES, source.upload_version)
        except NotFound as error:
            raise Invalid(f"The upload {source.filename} is gone: upload it again.") from error
        layout_for(source, head, whole=len(head) == upload.size)

    def _store_content(self, ref: CampaignRef, draft: Draft, links: Sequence[str]) -> None:
        content = _content(ref, draft, self._composing.public_url)
        self._objects.put(content.html_key, draft.html.encode(), content_type="text/html; charset=utf-8")
        if content.text_key is not None and draft.text is not None:
            self._objects.put(content.text_key, draft.text.encode(), content_type="text/plain; charset=utf-8")
        for attachment, file in zip(content.attachments, draft.attachments, strict=True):
            self._objects.put(attachment.object_key, file.content, content_type=file.content_type)
        self._objects.put(links_key(ref), msgspec.json.encode(links), content_type="application/json")

    def _record(self, ref: CampaignRef, draft: Draft, source: Import, upload_id: str | None = None) -> Campaign:
        return Campaign(
            ref,
            draft.name,
            CampaignStatus.DRAFT,
            _content(ref, draft, self._composing.public_url),
            source,
            draft.provider,
            self._clock.now(),
            schedule=draft.schedule,
            policies=draft.policies,
            start_when_ready=draft.start,
            template_id=draft.template_id,
            template_version=draft.template_version,
            upload_id=upload_id,
            created_by=draft.created_by,
            callback_url=draft.callback_url,
        )

    def _begin(self, campaign: Campaign) -> Campaign:
        try:
            campaign = self._campaigns.create(campaign)
        except Conflict:  # a call for the same id was first
            return self.continued(campaign.ref) or campaign
        return self.begin_import(campaign)


def prefix(ref: CampaignRef) -> str:
    """Where a campaign's objects are."""
    return f"{ref.tenant}/campaigns/{ref.campaign}/"


def _content(ref: CampaignRef, draft: Draft, public_url: str | None) -> Content:
    """The draft as the record names it."""
    attachments = tuple(
        Attachment(f"{prefix(ref)}attachment-{i}", file.filename, file.content_type, file.content_id)
        for i, file in enumerate(draft.attachments)
    )
    return Content(
        f"{prefix(ref)}template.html",
        None if draft.text is None else f"{prefix(ref)}template.txt",
        draft.subject,
        draft.from_,
        reply_to=draft.reply_to,
        variables=tuple(draft.variables.items()),
        missing=draft.missing,
        attachments=attachments,
        track_opens=draft.track_opens,
        track_clicks=draft.track_clicks,
        topic=draft.topic,
        public_url=public_url,
    )
