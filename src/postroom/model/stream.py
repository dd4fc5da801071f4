"""A daily stream: where the transactional messages of one tenant and UTC day are stored, in batches like a campaign's recipients.

    zz <day, 8> <tenant's number, 5> <log2 of its batches, 1>        16 base32 characters; no campaign has such an id until 2054

The id says all that is needed to find a message in it, so a stream has no record. It is never completed. Two messages to one
address are two messages: their keys are not derived from the address.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from postroom.clock import Instant
from postroom.errors import Corrupt, Invalid
from postroom.model.campaign import Attachment, CampaignRef
from postroom.model.ids import CAMPAIGN_ID_LENGTH, KEY_BYTES, Key, decode, encode
from postroom.model.tenant import Tenant

DAY_MS = 86_400_000
_PREFIX = "zz"
_DAY_LENGTH, _TENANT_LENGTH, _BATCHES_LENGTH = 8, 5, 1
_BATCHES_LOG2 = 5
"""32 batches: as many slow recipients may each have a group open. A day of 100,000 messages makes batches of some 3,000."""


def day_of(now: Instant) -> int:
    """The UTC day, counted from 1970."""
    return now // DAY_MS


def stream_ref(tenant: Tenant, day: int) -> CampaignRef:
    """The stream of the tenant's messages of a day."""
    name = _PREFIX + encode(day, _DAY_LENGTH) + encode(tenant.number, _TENANT_LENGTH) + encode(_BATCHES_LOG2, _BATCHES_LENGTH)
    return CampaignRef(tenant.id, name)


def is_stream(campaign: str) -> bool:
    """Whether an id is a daily stream's, not a campaign's."""
    return campaign.startswith(_PREFIX) and len(campaign) == CAMPAIGN_ID_LENGTH


def stream_day(stream: str) -> int:
    """The day in a stream's id. Raises `Invalid`."""
    return _part(stream, len(_PREFIX), _DAY_LENGTH)


def stream_batches(stream: str) -> int:
    """The number of a stream's batches. Raises `Invalid`."""
    return 1 << _part(stream, CAMPAIGN_ID_LENGTH - _BATCHES_LENGTH, _BATCHES_LENGTH)


def transactional_key(secret: bytes, seed: str, index: int) -> Key:
    """The key of the message at `index` of the call with this seed: a repeated call makes the same messages."""
    return Key(hmac.digest(secret, f"single\0{seed}\0{index}".encode(), hashlib.sha256)[:KEY_BYTES])


class TransactionalContent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of a transactional message without recipient and values: stored once under its digest, shared by equal
    messages."""

    from_: str
    reply_to: str | None = None
    subject: str
    html: str
    text: str | None = None
    attachments: tuple[tuple[Attachment, str, int], ...] = ()
    """Each with its object's version and its bytes."""
    track_opens: bool = False
    track_clicks: bool = False
    unsubscribe: bool = False
    """It carries `List-Unsubscribe`."""
    topic: str | None = None
    public_url: str | None = None
    template_id: str | None = None
    template_version: int | None = None

    def document(self) -> bytes:
        """The stored JSON."""
        return msgspec.json.encode(self, order="deterministic")

    @classmethod
    def parse(cls, document: bytes) -> TransactionalContent:
        """Parse what `document` wrote. Raises `Corrupt`."""
        try:
            return msgspec.json.decode(document, type=cls)
        except msgspec.DecodeError as error:
            raise Corrupt(f"the content of a single message cannot be read: {error}") from error


def content_digest(document: bytes) -> str:
    """SHA-256 of a content's document, hex: its name."""
    return hashlib.sha256(document).hexdigest()


class TransactionalValues(NamedTuple):
    """The content of `values` in a transactional message's record."""

    digest: str
    """The content's digest."""
    variables: Mapping[str, str]
    accepted_at: Instant

    def text(self) -> str:
        """The stored form: a JSON array, as `values` always is."""
        return msgspec.json.encode([self.digest, self.variables, self.accepted_at]).decode()

    @classmethod
    def parse(cls, text: str) -> TransactionalValues:
        """Parse what `text` wrote. Raises `Corrupt`."""
        try:
            digest, variables, accepted_at = msgspec.json.decode(text, type=tuple[str, dict[str, str], int])
        except msgspec.DecodeError as error:
            raise Corrupt(f"the values of a single message cannot be read: {error}") from error
        return cls(digest, variables, Instant(accepted_at))


def _part(stream: str, start: int, length: int) -> int:
    if not is_stream(stream):
        raise Invalid(f"{stream[:40]!r} is no stream of single messages")
    try:
        return decode(stream[start : start + length])
    except ValueError as error:
        raise Invalid(f"{stream[:40]!r} is no stream of single messages") from error
