"""The contents of single messages in the object store: each stored once, under its own digest, before any message names it.

They are kept apart by *era*, 32 days of streams, so that an era whose streams are deleted can be deleted as a whole. A crash
leaves at worst a content that no message names; whoever sends the same again finds it there.

Composes single messages: each content is compiled once for its stream and kept while it is in use.

The same at the door, where a message is composed once to be sure that it can be, and in the sender. There is no upload, so
what cannot be composed is told without a line.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec
import orjson

from postroom.clock import Instant
from postroom.delivery.compose import Composed, Composer, ContentCompiler, RowError, variables
from postroom.errors import Conflict
from postroom.ledger.tenants import Tenants
from postroom.model import address
from postroom.model.campaign import CampaignRef, Content
from postroom.model.ids import Key, recipient_key
from postroom.model.message import Recipient
from postroom.model.stream import TransactionalContent, TransactionalValues, content_digest, stream_day
from postroom.platform.ports.objects import Objects

ERA_DAYS = 32
_KNOWN = 10_000
_BASE64 = 1.37


class ContentStore:
    """Those of all tenants. For several threads."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._known: set[str] = set()

    def put(self, ref: CampaignRef, document: bytes, links: Sequence[str]) -> str:
        """Keep a content of a stream's messages, as `SingleContent.document` wrote it, and its link table; its digest. Again:
        harmless, and free."""
        digest = content_digest(document)
        key = _content_key(ref, digest)
        if key in self._known:
            return digest
        if links:
            self._put(content_links_key(ref, digest), msgspec.json.encode(links))
        self._put(key, document)
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known.add(key)
        return digest

    def get(self, ref: CampaignRef, digest: str) -> TransactionalContent:
        """What messages of that stream are made of. `NotFound`, `Corrupt`."""
        return TransactionalContent.parse(self._objects.get(_content_key(ref, digest)))

    def purge(self, tenant: str, era: int) -> None:
        """Delete an era, once all of its streams are deleted. Again: harmless."""
        self._objects.purge(_era_prefix(tenant, era))

    def _put(self, key: str, content: bytes) -> None:
        try:
            self._objects.put(key, content, content_type="application/json", if_absent=True)
        except Conflict:  # it is there: under its digest it cannot be anything else
            return


def content_links_key(ref: CampaignRef, digest: str) -> str:
    """The link table of a content: a JSON array of URLs, what a tracked link's index selects from."""
    return f"{_content_key(ref, digest)}.links"


def _content_key(ref: CampaignRef, digest: str) -> str:
    return f"{_era_prefix(ref.tenant, stream_day(ref.campaign) // ERA_DAYS)}{digest}"


def _era_prefix(tenant: str, era: int) -> str:
    return f"{tenant}/streams/{era:06}/"


class CompiledContent:
    """One content, compiled for one stream. For several threads."""

    def __init__(
        self, composer: Composer, columns: tuple[str, ...], *, secret: bytes, weight: int, topic: str | None = None
    ) -> None:
        self._composer = composer
        self._secret = secret
        self._guard = threading.Lock()
        self.columns = columns
        """The variables that it uses."""
        self.links = composer.links
        self.weight = weight
        """Bytes that it keeps in memory, about."""
        self.topic = topic

    def compose(self, batch: int, recipient: Recipient, now: Instant) -> Composed:
        """The message of one recipient's next attempt. `RowError` where it cannot be made, `Unavailable` where it cannot be
        signed now."""
        variables = TransactionalValues.parse(recipient.values).variables
        cells = orjson.dumps([variables.get(name) for name in self.columns]).decode()
        person = person_key(self._secret, recipient.address)
        try:
            with self._guard:
                return self._composer.compose(batch, recipient._replace(values=cells), now, person=person)
        except RowError as error:
            raise RowError(str(error).removeprefix(f"Row at line {recipient.line}: ")) from error


class TransactionalCompiler:
    """Compiles contents."""

    def __init__(self, composing: ContentCompiler, tenants: Tenants, objects: Objects) -> None:
        self._composing = composing
        self._tenants = tenants
        self._objects = objects

    @property
    def public_url(self) -> str | None:
        """Where links of new messages lead."""
        return self._composing.public_url

    def compile(self, ref: CampaignRef, content: TransactionalContent, *, files: bool, signed: bool = False) -> CompiledContent:
        """`files`: with its attachments; `signed`: for mail that leaves. Else it composes the same message, but for these bytes.
        `Invalid`: where in it, and what to do; `NotFound`: an attachment is gone; `Unavailable`: a store does not answer."""
        html, text = content.html, content.text
        columns = tuple(sorted(variables(html=html, text=text, subject=content.subject)))
        attached = [
            (attachment, self._objects.get(attachment.object_key, version) if files else b"")
            for attachment, version, _ in content.attachments
        ]
        composer = self._composing.compile(
            ref,
            _campaign_content(content),
            html=html,
            text=text,
            attachments=attached,
            columns=columns,
            kind="single",
            listed=content.unsubscribe,
            signs=self._composing.signing(ref.tenant, content.from_) if signed else None,
        )
        weight = 8 * (len(html) + len(text or "")) + round(_BASE64 * sum(len(each) for _, each in attached))
        return CompiledContent(composer, columns, secret=self._tenants.get(ref.tenant).secret, weight=weight, topic=content.topic)


class CompiledContentCache:
    """The singles used last, as far as they fit into `most` bytes. For several threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._weight = 0
        self._kept: OrderedDict[tuple[CampaignRef, str], CompiledContent] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, ref: CampaignRef, digest: str, make: Callable[[], CompiledContent]) -> CompiledContent:
        """The one that is kept, or what `make` makes."""
        key = (ref, digest)
        with self._guard:
            if (found := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return found
        made = make()
        with self._guard:
            if key not in self._kept:
                self._kept[key] = made
                self._weight += made.weight
            while self._weight > self._most and len(self._kept) > 1:
                self._weight -= self._kept.popitem(last=False)[1].weight
        return made


def person_key(secret: bytes, mailbox: str) -> Key:
    """Who a recipient is on the suppression list, whatever the message."""
    return recipient_key(secret, address.parse_address(mailbox).normalised)


def _campaign_content(content: TransactionalContent) -> Content:
    """As the composer takes it; the bodies go beside it."""
    return Content(
        html_key="",
        text_key=None,
        subject=content.subject,
        from_=content.from_,
        reply_to=content.reply_to,
        attachments=tuple(attachment for attachment, _, _ in content.attachments),
        track_opens=content.track_opens,
        track_clicks=content.track_clicks,
        topic=content.topic,
        public_url=content.public_url,
    )
