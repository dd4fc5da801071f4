"""Single messages: checked, composed once, stored, and sent within a second.

A call is answered when its messages are durable. Each message is accepted or refused on its own, with the reason. The call's
*seed* determines the stream and the keys of its messages, so repeating a call with the same seed makes the same messages.
Contents are stored before the messages that name them, and both only if they are absent (services.message_acceptance: what a
crash leaves).

`message_record` and `event_record` are what the API answers and `--json` prints.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from postroom.clock import Clock, Instant, rfc3339
from postroom.delivery.compose import MissingValue, RowError
from postroom.delivery.transactional import CompiledContent, CompiledContentCache, ContentStore, TransactionalCompiler, person_key
from postroom.errors import (
    Conflict,
    Corrupt,
    Invalid,
    InvalidAddress,
    MissingVariable,
    NotFound,
    Permanent,
    RecipientSuppressed,
    TooLarge,
)
from postroom.ledger.suppression import SuppressionList, SuppressionReason
from postroom.ledger.tenants import Tenants
from postroom.model import address
from postroom.model.batch import batch_of
from postroom.model.campaign import Attachment, CampaignRef
from postroom.model.event import Event
from postroom.model.ids import Key
from postroom.model.message import Message, MessageRow, MessageStatus, Recipient
from postroom.model.provider_status import queued_event
from postroom.model.stream import (
    TransactionalContent,
    TransactionalValues,
    content_digest,
    day_of,
    is_stream,
    stream_batches,
    stream_ref,
    transactional_key,
)
from postroom.model.template import TemplateContent
from postroom.model.tenant import Tenant
from postroom.model.tokens import message_id, parse_message_id
from postroom.model.upload import ReadyUpload, UploadKind
from postroom.platform.ports.messages import Messages
from postroom.services.message_acceptance import (
    MAX_ATTACHED_BYTES,
    MAX_ATTACHMENTS,
    MAX_REQUESTS,
    MAX_VALUES,
    AcceptedMessage,
    MessageAcceptance,
    MessageRequest,
    RefusedMessage,
    texts,
)

_COMPILED_BYTES = 32_000_000

_WHY = {
    SuppressionReason.MANUAL: "a user of your tenant added it",
    SuppressionReason.BOUNCE: "mail to it was returned",
    SuppressionReason.COMPLAINT: "they called a mail of yours spam",
    SuppressionReason.UNSUBSCRIBE: "they unsubscribed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSources:
    """Looks up what a request names."""

    contents: Callable[[str, str, int | None], TemplateContent]
    """A tenant's template, in a version or the newest. Raises `NotFound`."""
    check_sender: Callable[[str, str], None]
    """Raises `Denied` or `Invalid` unless the tenant may send as this address."""
    ready: Callable[[str, str, UploadKind], ReadyUpload]
    """A tenant's upload that has arrived. Raises `NotFound`, `Invalid`."""


class TransactionalMessage(NamedTuple):
    """A stored message and its stream."""

    id: str
    message: Message
    values: TransactionalValues


class TransactionalPage(NamedTuple):
    """`cursor` asks for the next page of the day; None: the last one."""

    records: list[TransactionalMessage]
    cursor: str | None


class _Draft(NamedTuple):
    row: MessageRow
    person: Key
    document: bytes
    single: CompiledContent


class MessageService:
    """Accepts and reads single messages. Thread-safe."""

    def __init__(
        self,
        sources: MessageSources,
        intake: MessageAcceptance,
        *,
        contents: ContentStore,
        singles: TransactionalCompiler,
        messages: Messages,
        suppression: SuppressionList,
        tenants: Tenants,
        clock: Clock,
    ) -> None:
        self._sources = sources
        self._intake = intake
        self._contents = contents
        self._singles = singles
        self._messages = messages
        self._suppression = suppression
        self._tenants = tenants
        self._clock = clock
        self._compiled = CompiledContentCache(_COMPILED_BYTES)

    def new_seed(self) -> str:
        """A seed for one call; the caller keeps it to repeat the call."""
        return f"{day_of(self._clock.now())}.{self._clock.random(16).hex()}"

    def submit(self, tenant: str, requests: Sequence[MessageRequest], *, seed: str) -> list[AcceptedMessage | RefusedMessage]:
        """Submit up to 100 messages; the results are in their order. Errors of the stores are raised."""
        if len(requests) > MAX_REQUESTS:
            raise TooLarge(f"{len(requests)} messages in one call; {MAX_REQUESTS} at most")
        owner = self._tenants.get(tenant)
        ref = stream_ref(owner, int(seed.partition(".")[0]))
        made = [self._draft(owner, ref, request, seed=seed, index=index) for index, request in enumerate(requests)]
        drafts = self._without_suppressed(tenant, made)
        accepted = [draft for draft in drafts if isinstance(draft, _Draft)]
        for draft in accepted:
            self._contents.put(ref, draft.document, draft.single.links)
        if accepted:
            self._intake.store(ref, [draft.row for draft in accepted])
        return [self._answer(ref, draft, transactional_key(owner.secret, seed, index)) for index, draft in enumerate(drafts)]

    def get(self, tenant: str, id: str) -> TransactionalMessage:  # noqa: A002 - the field's own word
        """Raises `NotFound`."""
        stream, key = parse_message_id(id)
        if not is_stream(stream):
            raise NotFound(f"there is no single message {id!r}")
        found = self._stored(CampaignRef(tenant, stream), key)
        if found is None:
            raise NotFound(f"there is no single message {id!r}")
        return TransactionalMessage(id, found, TransactionalValues.parse(found.values))

    def timeline(self, tenant: str, record: TransactionalMessage) -> list[Event]:
        """Events of the message by time, from the call on."""
        ref, message = CampaignRef(tenant, parse_message_id(record.id)[0]), record.message
        return [queued_event(record.values.accepted_at), *self._messages.timeline(ref, message.batch, message.key)]

    def content(self, tenant: str, record: TransactionalMessage) -> TransactionalContent | None:
        """The message's content; None once it is deleted."""
        try:
            return self._contents.get(CampaignRef(tenant, parse_message_id(record.id)[0]), record.values.digest)
        except (NotFound, Corrupt):
            return None

    def list(
        self, tenant: str, day: int, *, statuses: Collection[MessageStatus] = (), cursor: str | None = None, limit: int = 100
    ) -> TransactionalPage:
        """A day's messages, in no particular order."""
        if day < 0:
            return TransactionalPage([], None)
        ref = stream_ref(self._tenants.get(tenant), day)
        try:
            page = self._messages.list(ref, statuses=statuses, cursor=cursor, limit=limit)
        except NotFound:  # no messages that day
            return TransactionalPage([], None)
        records = [
            TransactionalMessage(message_id(ref, each.key), each, TransactionalValues.parse(each.values))
            for each in page.messages
        ]
        return TransactionalPage(records, page.cursor)

    def today(self) -> int:
        """The UTC day, counted from 1970."""
        return day_of(self._clock.now())

    def _draft(
        self, owner: Tenant, ref: CampaignRef, request: MessageRequest, *, seed: str, index: int
    ) -> _Draft | RefusedMessage:
        try:
            key = transactional_key(owner.secret, seed, index)
            return self._compose(owner, ref, request, key=key, line=1 + index)
        except (Conflict, Corrupt):
            raise
        except Permanent as error:
            return RefusedMessage(index, error)

    def _compose(self, owner: Tenant, ref: CampaignRef, request: MessageRequest, *, key: Key, line: int) -> _Draft:
        """Check and compose once."""
        to = _address("to", request.to)
        sender = _address("from", request.from_)
        self._sources.check_sender(owner.id, sender.mailbox)
        variables = texts(request.variables)
        document = self._content(owner.id, request).document()
        single = self._single(ref, document)
        now = self._clock.now()
        row = _row(ref, key, line, to, _values(single, document, variables, now))
        try:
            single.compose(row.batch, Recipient(key, line, to.mailbox, to.name, row.values, MessageStatus.PENDING, 0), now)
        except MissingValue as error:
            raise MissingVariable(str(error)) from error
        except RowError as error:
            raise Invalid(str(error)) from error
        return _Draft(row, person_key(owner.secret, to.mailbox), document, single)

    def _single(self, ref: CampaignRef, document: bytes) -> CompiledContent:
        return self._compiled.get(
            ref, content_digest(document), lambda: self._singles.compile(ref, TransactionalContent.parse(document), files=False)
        )

    def _content(self, tenant: str, request: MessageRequest) -> TransactionalContent:
        if (request.template_id is None) == (request.html is None):
            raise Invalid("a message is made from a template_id, or from html and subject: one of the two")
        public_url = self._singles.public_url
        unsubscribe = request.unsubscribe or request.topic is not None
        if unsubscribe and public_url is None:
            raise Invalid("unsubscribe and topic need links that lead here: the operator has to set POSTROOM_PUBLIC_URL")
        template = self._template(tenant, request)
        if not request.subject and not template.subject:
            raise Invalid("subject: a message has one; give it here or in the template")
        return TransactionalContent(
            from_=request.from_,
            reply_to=request.reply_to,
            subject=request.subject or template.subject,
            html=template.html,
            text=template.text,
            attachments=self._attachments(tenant, request),
            track_opens=request.track_opens,
            track_clicks=request.track_clicks,
            unsubscribe=unsubscribe,
            topic=request.topic,
            public_url=public_url,
            template_id=request.template_id,
            template_version=template.version if request.template_id else None,
        )

    def _template(self, tenant: str, request: MessageRequest) -> TemplateContent:
        if request.template_id is not None:
            return self._sources.contents(tenant, request.template_id, request.template_version)
        return TemplateContent("", 0, "", request.html or "", request.text)

    def _attachments(self, tenant: str, request: MessageRequest) -> tuple[tuple[Attachment, str, int], ...]:
        if len(request.attachments) > MAX_ATTACHMENTS:
            raise TooLarge(f"there are {len(request.attachments)} attachments; a message may have {MAX_ATTACHMENTS}")
        attached = []
        for wanted in request.attachments:
            upload = self._sources.ready(tenant, wanted.upload_id, UploadKind.ASSET)
            content_type = upload.content_type.partition(";")[0].strip()
            attachment = Attachment(upload.object_key, wanted.filename or upload.filename, content_type, wanted.content_id)
            attached.append((attachment, upload.object_version, upload.size))
        size = sum(size for _, _, size in attached)
        if size > MAX_ATTACHED_BYTES:
            raise TooLarge(f"the attachments have {size} bytes together; a single message may carry {MAX_ATTACHED_BYTES}")
        return tuple(attached)

    def _without_suppressed(self, tenant: str, made: Sequence[_Draft | RefusedMessage]) -> Sequence[_Draft | RefusedMessage]:
        asked = [(draft.person, draft.single.topic) for draft in made if isinstance(draft, _Draft)]
        refused = iter(self._suppression.refused(tenant, asked) if asked else ())
        return [
            RefusedMessage(
                index, RecipientSuppressed(f"{draft.row.address} is on the suppression list{self._why(tenant, draft)}")
            )
            if isinstance(draft, _Draft) and next(refused)
            else draft
            for index, draft in enumerate(made)
        ]

    def _why(self, tenant: str, draft: _Draft) -> str:
        """The reason of the suppression; empty if the entry is gone."""
        entry = self._suppression.get(tenant, draft.person)
        if entry is None and draft.single.topic is not None:
            entry = self._suppression.get(tenant, draft.person, topic=draft.single.topic)
        return "" if entry is None else f": {_WHY[entry.reason]}"

    def _answer(self, ref: CampaignRef, draft: _Draft | RefusedMessage, key: Key) -> AcceptedMessage | RefusedMessage:
        """A message accepted by the first call stays accepted, whatever has changed since."""
        if isinstance(draft, RefusedMessage) and self._stored(ref, key) is None:
            return draft
        return AcceptedMessage(message_id(ref, key), ref, key)

    def _stored(self, ref: CampaignRef, key: Key) -> Message | None:
        try:
            return self._messages.get(ref, batch_of(key, stream_batches(ref.campaign)), key)
        except NotFound:
            return None


def _address(field: str, text: str) -> address.Address:
    try:
        return address.parse_address(text)
    except address.AddressError as error:
        raise InvalidAddress(f"{field}: {error}") from error


def _values(single: CompiledContent, document: bytes, variables: dict[str, str], now: Instant) -> str:
    """Only the variables that the content uses."""
    used = {name: variables[name] for name in single.columns if name in variables}
    size = sum(map(len, used.values()))
    if size > MAX_VALUES:
        raise TooLarge(f"the variables have {size} characters together; a message may have {MAX_VALUES}")
    return TransactionalValues(content_digest(document), used, now).text()


def _row(ref: CampaignRef, key: Key, line: int, to: address.Address, values: str) -> MessageRow:
    return MessageRow(batch_of(key, stream_batches(ref.campaign)), key, line, to.mailbox, to.name, values)


def message_record(message: Message) -> dict[str, object]:
    """Fields that campaign messages and single messages share."""
    return {
        "address": message.address,
        "name": message.name,
        "status": message.status.label,
        "attempts": message.attempt,
        "at": rfc3339(message.at),
        "due": rfc3339(message.due),
        "code": message.code or None,
        "reply": message.reply or None,
        "provider_id": message.provider_id,
        "opened_at": rfc3339(message.opened_at),
        "clicked_at": rfc3339(message.clicked_at),
        "unsubscribed_at": rfc3339(message.unsubscribed_at),
    }


def event_record(event: Event) -> dict[str, object]:
    """As in docs/reference/messages.md."""
    bounce = event.bounce
    return {
        "id": event.id,
        "kind": event.kind.value,
        "at": rfc3339(event.at),
        "attempt": event.attempt,
        "source": event.source,
        "bounce": None if bounce is None else {"type": bounce.type.value, "class": bounce.category.value, "code": bounce.code},
        "machine": event.machine,
        "detail": event.detail,
        "url": event.url or None,
        "raw": event.raw or None,
    }
