"""One erasure, step by step, through every place where a tenant may know a person; services.erasure says why in this order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from postroom.clock import Clock
from postroom.errors import Conflict, NotFound
from postroom.ledger import scheduler_messages
from postroom.ledger.bulk_update import KeptValues, MessageEraser, StillSending, UpdateTarget, no_values
from postroom.ledger.callback_deliveries import CallbackDeliveries
from postroom.ledger.callback_endpoints import CAMPAIGN_PREFIX, CallbackEndpoints
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.suppression import SuppressionList
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus, Policies
from postroom.model.ids import Key
from postroom.model.message import Message, Recipient
from postroom.model.stream import TransactionalValues, day_of, stream_ref
from postroom.model.tenant import Tenant
from postroom.model.upload import Upload, UploadKind, UploadStatus
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.workflows import ExecutionStatus, Workflows
from postroom.services.campaign_making import prefix
from postroom.services.erasure_traces import Traces
from postroom.services.export_files import exports_of
from postroom.services.uploads import UploadService

_PAGE = 1_000
_OLDEST_DAYS = 3_650
"""Of single messages, where nobody knows since when the tenant is there."""
_UNREAD = frozenset({CampaignStatus.DRAFT, CampaignStatus.IMPORTING})


@dataclass(slots=True)
class Erased:
    """What an erasure found. What an earlier one had deleted is not told again; erased messages are."""

    complete: bool = False
    campaigns: list[str] = field(default_factory=list)
    """With a message to the person."""
    singles: int = 0
    """Single messages erased."""
    uploads: list[str] = field(default_factory=list)
    """Recipients files deleted, by the upload's id."""
    files: list[str] = field(default_factory=list)
    """Campaigns whose own recipients file was deleted."""
    reports: list[str] = field(default_factory=list)
    """Campaigns whose report of rejected rows was written anew."""
    mails: int = 0
    """Deleted from the built-in inbox."""
    told: int = 0
    """Requests to the tenant's callbacks that told of the person, or are to: they do not name them any more."""
    suppressed: bool = False
    """Whether the person is still on the suppression list, by key alone."""
    waiting: list[str] = field(default_factory=list)
    """What is not erased yet: campaigns that are being imported, or never were, and their uploads; campaigns and days of single
    messages that a worker is sending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a person may be known."""

    campaigns: Campaigns
    messages: Messages
    objects: Objects
    uploads: UploadService
    suppression: SuppressionList
    workflows: Workflows
    erasing: MessageEraser
    callbacks: CallbackEndpoints
    deliveries: CallbackDeliveries


class Ended(Exception):
    """`alive` says so."""


class _Stream:
    """A stream, as far as Sweep asks."""

    def __init__(self, ref: CampaignRef) -> None:
        self.ref = ref
        self.policies = Policies()


class ErasureWork:
    """One erasure."""

    def __init__(self, places: Places, owner: Tenant, key: Key, *, beat: Callable[[], None], clock: Clock) -> None:
        self.found = Erased()
        self._places = places
        self._owner = owner
        self._key = key
        self._beat = beat
        self._clock = clock
        self._traces = Traces(places.objects, owner.secret, key, beat)

    def steps(self, *, forget_suppression: bool) -> Iterator[str]:
        """Each is done when the next is asked for; its name says what is being done."""
        yield "suppression list"
        self._suppression(forget=forget_suppression)
        for upload in self._uploads():
            yield f"upload {upload.id}"
            self._upload(upload)
        self._purge_uploads()
        for campaign in self._campaigns():
            yield f"campaign {campaign.ref.campaign}"
            with suppress(NotFound):  # deleted in this moment
                self._campaign(campaign)
        yield "single messages"
        for ref in self._streams():
            self._beat()
            self._stream(ref)
        yield "callbacks"
        for endpoint in self._endpoints():
            self.found.told += self._places.deliveries.forget(self._owner.id, endpoint, self._traces.in_cell, self._beat)
        yield "inbox"
        for mail in self._traces.mails():
            self._places.objects.purge(mail)
            self.found.mails += 1
        yield "exports"
        self._places.objects.purge(exports_of(self._owner.id))

    def _suppression(self, *, forget: bool) -> None:
        suppression, tenant = self._places.suppression, self._owner.id
        if forget:
            suppression.remove(tenant, self._key)
        else:
            self.found.suppressed = suppression.forget_address(tenant, self._key)

    def _uploads(self) -> Iterator[Upload]:
        cursor: str | None = None
        while True:
            page = self._places.uploads.list(self._owner.id, cursor=cursor)
            for upload in page.uploads:
                if upload.kind is UploadKind.RECIPIENTS and upload.status is UploadStatus.READY:
                    yield upload
            cursor = page.cursor
            if cursor is None:
                return

    def _upload(self, upload: Upload) -> None:
        """One that a campaign has yet to read is left for now."""
        if not self._traces.in_recipients(upload.object_key, upload.object_version):
            return
        try:
            self._places.uploads.delete(self._owner.id, upload.id)
        except Conflict:
            self.found.waiting.append(upload.id)
        except NotFound:  # deleted in this moment
            return
        else:
            self.found.uploads.append(upload.id)

    def _purge_uploads(self) -> None:
        """Where somebody was killed who deleted one, its bytes are there still, and housekeeping knows of them."""
        while self._places.uploads.expire(self._clock.now(), limit=_PAGE) == _PAGE:
            self._beat()

    def _campaigns(self) -> Iterator[Campaign]:
        cursor: str | None = None
        while True:
            page = self._places.campaigns.list(self._owner.id, cursor=cursor)
            yield from page.campaigns
            cursor = page.cursor
            if cursor is None:
                return

    def _campaign(self, campaign: Campaign) -> None:
        """The file goes first: what says that the person is in it goes after it."""
        if self._is_unread(campaign):
            self.found.waiting.append(campaign.ref.campaign)
            return
        message = self._places.erasing.find(campaign.ref, self._key, batches=campaign.source.batches)
        reported = self._is_reported(campaign)
        self._file(campaign, sure=message is not None or reported)
        if reported:
            self._report(campaign)
        if message is not None and self._message(campaign, message):
            self.found.campaigns.append(campaign.ref.campaign)

    def _is_unread(self, campaign: Campaign) -> bool:
        """Whether rows may still be stored: also by a worker that has yet to see that it was cancelled."""
        running = self._places.workflows.get(scheduler_messages.IMPORT, campaign.ref.campaign)
        return campaign.status in _UNREAD or (running is not None and running.status is ExecutionStatus.RUNNING)

    def _message(self, swept: UpdateTarget, message: Message, *, kept: KeptValues = no_values) -> bool:
        """Erase it; False: a worker is sending its batch, and goes on for long."""
        try:
            if not self._places.erasing.erase(swept, message, kept=kept, alive=self._alive):
                raise Ended
        except StillSending:
            if swept.ref.campaign not in self.found.waiting:
                self.found.waiting.append(swept.ref.campaign)
            return False
        return True

    def _is_reported(self, campaign: Campaign) -> bool:
        for parts in ("rejected/", "work/"):  # of the report, and of the upload, where their sweeper was killed
            self._places.objects.purge(f"{prefix(campaign.ref)}import/{parts}")
        report = campaign.source.rejected_key
        return report is not None and self._traces.in_report(report, spare=_spare(campaign))

    def _report(self, campaign: Campaign) -> None:
        if campaign.source.rejected_key is not None:
            self._traces.take_out_of_report(campaign.source.rejected_key, spare=_spare(campaign))
            self.found.reports.append(campaign.ref.campaign)

    def _file(self, campaign: Campaign, *, sure: bool) -> None:
        """The campaign's own copy of its recipients: of no use once they are imported, or never will be."""
        key = campaign.source.upload_key
        if key.startswith(prefix(campaign.ref)) and (sure or not campaign.source.batches) and self._places.objects.purge(key):
            self.found.files.append(campaign.ref.campaign)

    def _streams(self) -> Iterator[CampaignRef]:
        made, today = self._owner.created_at, day_of(self._clock.now())
        first = today - _OLDEST_DAYS if made is None else day_of(made) - 1
        return (stream_ref(self._owner, day) for day in range(today + 1, first - 1, -1))

    def _stream(self, ref: CampaignRef) -> None:
        cursor: str | None = None
        while True:
            try:
                page = self._places.messages.list(ref, cursor=cursor, limit=_PAGE)
            except NotFound:  # nobody sent anything that day, or it is deleted
                return
            for message in page.messages:
                if self._traces.in_cell(message.address):
                    self.found.singles += self._message(_Stream(ref), message, kept=_own_values)
            self._beat()
            cursor = page.cursor
            if cursor is None:
                return

    def _endpoints(self) -> Iterator[str]:
        """Whoever was told of anything: what a removed one was told went with it."""
        yield from (endpoint.id for endpoint in self._places.callbacks.list(self._owner.id))
        for campaign in self._campaigns():
            if campaign.callback_url is not None:
                yield CAMPAIGN_PREFIX + campaign.ref.campaign

    def _alive(self) -> bool:
        try:
            self._beat()
        except Ended:
            return False
        return True


def _spare(campaign: Campaign) -> str:
    """Where a report is while it is written anew; a name under which it is encrypted as well."""
    return f"{prefix(campaign.ref)}export-rejected"


def _own_values(recipient: Recipient) -> str:
    """A single message keeps what it was made of, and when."""
    return TransactionalValues.parse(recipient.values)._replace(variables={}).text()
