"""Transactional messages: their contents in the object store, compiled once per stream and kept while in use.

A content is stored once, under its digest, before any message refers to it. Contents are kept by *era*, 32 days of streams, so
that an era whose streams are deleted can be deleted as a whole. A crash leaves at worst a content that no message refers to; the
next call with the same content finds it.

The API composes a message once, to be sure that it can be, and the sender composes it again: both with the code here. There is no
upload, so errors name no line.
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
    """The contents of all tenants. Safe for several threads."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._known: set[str] = set()

    def put(self, ref: CampaignRef, document: bytes, links: Sequence[str]) -> str:
        """Store a content (`TransactionalContent.document`) and its link table, and return its digest. Repeating it is harmless
        and costs nothing."""
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
        """The content with that digest. Raises `NotFound`, `Corrupt`."""
        return TransactionalContent.parse(self._objects.get(_content_key(ref, digest)))

    def purge(self, tenant: str, era: int) -> None:
        """Delete an era whose streams are all deleted. Repeating it is harmless."""
        self._objects.purge(_era_prefix(tenant, era))

    def _put(self, key: str, content: bytes) -> None:
        try:
            self._objects.put(key, content, content_type="application/json", if_absent=True)
        except Conflict:  # it is there: under its digest it cannot be anything else
            return


def content_links_key(ref: CampaignRef, digest: str) -> str:
    """Key of a content's link table: a JSON array of URLs that a tracked link's index selects from."""
    return f"{_content_key(ref, digest)}.links"


def _content_key(ref: CampaignRef, digest: str) -> str:
    return f"{_era_prefix(ref.tenant, stream_day(ref.campaign) // ERA_DAYS)}{digest}"


def _era_prefix(tenant: str, era: int) -> str:
    return f"{tenant}/streams/{era:06}/"


class CompiledContent:
    """One content, compiled for one stream. Safe for several threads."""

    def __init__(
        self, composer: Composer, columns: tuple[str, ...], *, secret: bytes, weight: int, topic: str | None = None
    ) -> None:
        self._composer = composer
        self._secret = secret
        self._guard = threading.Lock()
        self.columns = columns
        """The variables it uses."""
        self.links = composer.links
        self.weight = weight
        """About how many bytes it takes in memory."""
        self.topic = topic

    def compose(self, batch: int, recipient: Recipient, now: Instant) -> Composed:
        """The message of a recipient's next attempt. Raises `RowError` if it cannot be made, `Unavailable` if it cannot be signed
        now."""
        variables = TransactionalValues.parse(recipient.values).variables
        cells = orjson.dumps([variables.get(name) for name in self.columns]).decode()
        person = person_key(self._secret, recipient.address)
        try:
            with self._guard:
                return self._composer.compose(batch, recipient._replace(values=cells), now, person=person)
        except RowError as error:
            raise type(error)(str(error).removeprefix(f"Row at line {recipient.line}: ")) from error


class TransactionalCompiler:
    """Compiles contents of transactional messages."""

    def __init__(self, composing: ContentCompiler, tenants: Tenants, objects: Objects) -> None:
        self._composing = composing
        self._tenants = tenants
        self._objects = objects

    @property
    def public_url(self) -> str | None:
        """Base of the links in new messages. None: there is no public URL."""
        return self._composing.public_url

    def compile(self, ref: CampaignRef, content: TransactionalContent, *, files: bool, signed: bool = False) -> CompiledContent:
        """Compile a content. `files`: load its attachments; without them the message is the same but for their bytes. `signed`:
        for mail that is really sent. Raises `Invalid` with the place and what to do, `NotFound` if an attachment is gone,
        `Unavailable` if a store does not answer."""
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
            public_url=content.public_url,
            kind="single",
            listed=content.unsubscribe,
            signs=self._composing.signing(ref.tenant, content.from_) if signed else None,
        )
        weight = 8 * (len(html) + len(text or "")) + round(_BASE64 * sum(len(each) for _, each in attached))
        return CompiledContent(composer, columns, secret=self._tenants.get(ref.tenant).secret, weight=weight, topic=content.topic)


class CompiledContentCache:
    """The contents used last, as many as fit into `most` bytes. Safe for several threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._weight = 0
        self._kept: OrderedDict[tuple[CampaignRef, str], CompiledContent] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, ref: CampaignRef, digest: str, make: Callable[[], CompiledContent]) -> CompiledContent:
        """The cached content; if it is not cached, the result of `make`, which is cached."""
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
    """The key of an address on the suppression list. A transactional message has a key of its own."""
    return recipient_key(secret, address.parse_address(mailbox).normalised)


def _campaign_content(content: TransactionalContent) -> Content:
    """The content in the form the composer takes; bodies are passed separately."""
    return Content(
        subject=content.subject,
        from_=content.from_,
        reply_to=content.reply_to,
        track_opens=content.track_opens,
        track_clicks=content.track_clicks,
        topic=content.topic,
    )
