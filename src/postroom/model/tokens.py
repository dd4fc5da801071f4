"""Tokens and ids that leave with a message and come back with a bounce, an open, a click or an unsubscribe.

Three tokens, each authenticated by a MAC under its own secret derived from the tenant's (HKDF, RFC 5869), so none passes for
another:

- a *recipient token* (52 characters, base64url) names one attempt at one message: opens and clicks. A link adds a suffix:
  `.7` is an index into the campaign's link table, so there is no open redirect and nothing to sign; a personalised URL
  travels whole in `.~…` under its own MAC over token and URL;
- an *unsubscribe token* has all that is needed long after the campaign is deleted: tenant, campaign, recipient, topic;
- a *return path* local part (VERP), 60 characters of lower-case base32: it survives case folding and fits the 64 octets of
  RFC 5321 4.5.3.1.1.

The tenant's number is in front in plain text, because it selects the secret that checks the rest.

A *message id* (`<16 characters of base32>-<20 of base32>`) is campaign or stream and key, so a message is found without an index.
It has one spelling: anything else is not an id.

*SES message tags* name the message in SES's event notifications. Four tags of letters, digits, `-` and `_` (all that SES allows,
up to 256 characters each). They are not authenticated: only SES sees them, and its notifications are signed (events.ses.sns).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from binascii import b2a_base64
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from postroom.errors import Invalid, NotFound
from postroom.model.campaign import CampaignRef
from postroom.model.ids import CAMPAIGN_ID_LENGTH, KEY_BYTES, Key, decode, encode
from postroom.model.tenant import Tenant

MAX_TENANT = 2**25 - 1
MAX_BATCH = 2**24 - 1
MAX_ATTEMPT = 31
RECIPIENT_TOKEN_LENGTH = 52
CORE_LENGTH = 32
"""Characters of a token that differ from recipient to recipient."""
RETURN_PATH_LENGTH = 60
MAX_TOPIC_BYTES = 64
SecretOf = Callable[[int], bytes]
"""Returns the secret of a tenant's number; raises `NotFound` if there is no such tenant."""
_VERSION = b"\x01"
_VERP_KIND = "b"  # a bounce; letters not yet used are for kinds to come
_VERP_MAC_BYTES = 8  # of which 60 bits fit
_VERP_MAC_LENGTH = 12
_HEAD_BYTES = 15  # version, tenant, campaign: whole base64 groups, so that their text is the same in every token of a campaign
_MAC_BYTES = 8
_UNSUBSCRIBE_MAC_BYTES = 12
_URL_MAC_LENGTH = 11
_PAIRS = tuple(encode(number, 2) for number in range(1024))  # ten bits at a time: five times as fast as one character a step
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class MessageRef(NamedTuple):
    """An attempt at a message, as a token names it."""

    tenant: int
    campaign: str
    batch: int
    key: Key
    attempt: int


class TrackingHit(NamedTuple):
    """A recipient token: a click on `link` (an index into the campaign's link table) or on `url`, or an open (neither)."""

    message: MessageRef
    link: int | None = None
    url: str | None = None


class UnsubscribeTarget(NamedTuple):
    """A checked unsubscribe token: the recipient, and the topic or None for all mail."""

    tenant: int
    campaign: str
    key: Key
    topic: str | None


class TokenSealer:
    """Makes the tokens of one campaign. Create it once: a message then costs about two microseconds."""

    def __init__(self, tenant: Tenant, campaign: str, *, topic: str | None = None) -> None:
        """Raises `Invalid` for a campaign id or topic that a token cannot carry."""
        self._head = _head(tenant.number, campaign)
        self._head_text = _b64(self._head)
        self._topic = _topic_bytes(topic)
        self._topic_text = "." + _b64(self._topic) if self._topic else ""
        self._recipient = _mac(tenant.secret, b"recipient", _MAC_BYTES, self._head)
        self._url = _mac(tenant.secret, b"url", _MAC_BYTES)
        self._unsubscribe = _mac(tenant.secret, b"unsubscribe", _UNSUBSCRIBE_MAC_BYTES, self._head)
        self._verp = _mac(tenant.secret, b"verp", _VERP_MAC_BYTES, self._head)
        self._verp_head = _VERP_KIND + encode(tenant.number, 5) + campaign

    @property
    def recipient_start(self) -> str:
        """The common start of this campaign's recipient tokens; 32 characters follow."""
        return self._head_text

    @property
    def unsubscribe_frame(self) -> tuple[str, str]:
        """What precedes and follows the 32 characters that differ between the campaign's unsubscribe tokens."""
        return self._head_text, self._topic_text

    def recipient(self, batch: int, key: Key, attempt: int) -> str:
        """The token of one attempt: an open by itself, a click with a suffix."""
        return self._head_text + self.recipient_core(batch, key, attempt)

    def recipient_core(self, batch: int, key: Key, attempt: int) -> str:
        """The 32 characters of `recipient` that follow `recipient_start`."""
        body = (batch << 8 | attempt).to_bytes(4, "big") + key
        mac = self._recipient.copy()
        mac.update(body)
        return b2a_base64(body + mac.digest(), newline=False).translate(_URL_SAFE).decode()

    def personal(self, recipient: str, url: str) -> str:
        """The suffix of `recipient` (a token) that carries `url` under its own MAC."""
        return ".~" + _b64(_url_mac(self._url, recipient, url)) + _b64(url.encode())

    def unsubscribe(self, key: Key) -> str:
        """The token of a recipient's unsubscribe link."""
        return self._head_text + self.unsubscribe_core(key) + self._topic_text

    def unsubscribe_core(self, key: Key) -> str:
        """The 32 characters of `unsubscribe` inside `unsubscribe_frame`."""
        mac = self._unsubscribe.copy()
        mac.update(key + self._topic)
        return b2a_base64(key + mac.digest(), newline=False).translate(_URL_SAFE).decode()

    def return_path(self, batch: int, key: Key, attempt: int) -> str:
        """The local part of the return path of one attempt (VERP)."""
        body = (batch << 8 | attempt).to_bytes(4, "big") + key
        mac = self._verp.copy()
        mac.update(body)
        # batch 25 bits, attempt 5, key 100 (96 used), MAC 60: 190 bits, so 19 pairs of characters
        number = ((batch << 5 | attempt) << 100 | int.from_bytes(key, "big")) << 60 | int.from_bytes(mac.digest(), "big") >> 4
        pairs = _PAIRS
        return self._verp_head + "".join([pairs[number >> shift & 1023] for shift in range(180, -1, -10)])


def parse_tracking_token(text: str, secret_of: SecretOf) -> TrackingHit:
    """Check the token after `/t/o/` or `/t/c/`. Raises `Invalid` if it is not genuine."""
    token, dot, suffix = text.partition(".")
    raw = _unb64(token, RECIPIENT_TOKEN_LENGTH)
    tenant, campaign, head = _split_head(raw)
    body, mac = raw[_HEAD_BYTES:-_MAC_BYTES], raw[-_MAC_BYTES:]
    secret = secret_of(tenant)
    _check(_mac(secret, b"recipient", _MAC_BYTES, head + body).digest(), mac)
    message = MessageRef(tenant, campaign, int.from_bytes(body[:3], "big"), Key(body[4:]), body[3])
    if not dot:
        return TrackingHit(message)
    if suffix.startswith("~"):
        return TrackingHit(message, url=_open_url(token, suffix[1:], secret))
    if not (suffix.isascii() and suffix.isdigit() and len(suffix) <= 6):
        raise Invalid("This link is damaged: what follows its last dot is not the number of a link.")
    return TrackingHit(message, link=int(suffix))


def parse_unsubscribe_token(text: str, secret_of: SecretOf) -> UnsubscribeTarget:
    """Check the token after `/u/`. Raises `Invalid` if it is not genuine."""
    token, dot, topic_text = text.partition(".")
    raw = _unb64(token, 52)
    tenant, campaign, head = _split_head(raw)
    topic = _unb64(topic_text) if dot else b""
    if bool(dot) != bool(topic) or len(topic) > MAX_TOPIC_BYTES:
        raise Invalid("This unsubscribe link is damaged.")
    key, mac = raw[_HEAD_BYTES : _HEAD_BYTES + KEY_BYTES], raw[-_UNSUBSCRIBE_MAC_BYTES:]
    _check(_mac(secret_of(tenant), b"unsubscribe", _UNSUBSCRIBE_MAC_BYTES, head + key + topic).digest(), mac)
    return UnsubscribeTarget(tenant, campaign, Key(key), topic.decode() or None)


def parse_return_path(local_part: str, secret_of: SecretOf) -> MessageRef:
    """Check the local part that a bounce was sent to, in any case. Raises `Invalid` if it is not genuine."""
    text = local_part.lower()
    if len(text) != RETURN_PATH_LENGTH or not text.startswith(_VERP_KIND):
        raise Invalid("This is not a return path of ours.")
    try:
        tenant, number = decode(text[1:6]), decode(text[6 + CAMPAIGN_ID_LENGTH :])
        head = _head(tenant, text[6 : 6 + CAMPAIGN_ID_LENGTH])
    except ValueError as problem:
        raise Invalid("This return path is damaged.") from problem
    batch, attempt, key = number >> 165, number >> 160 & 31, number >> 60 & (1 << 100) - 1
    if batch > MAX_BATCH or key >> 8 * KEY_BYTES:
        raise Invalid("This return path is damaged.")
    body = batch.to_bytes(3, "big") + bytes((attempt,)) + key.to_bytes(KEY_BYTES, "big")
    digest = _mac(secret_of(tenant), b"verp", _VERP_MAC_BYTES, head + body).digest()
    _check((int.from_bytes(digest, "big") >> 4).to_bytes(8, "big"), (number & (1 << 60) - 1).to_bytes(8, "big"))
    return MessageRef(tenant, text[6 : 6 + CAMPAIGN_ID_LENGTH], batch, Key(body[4:]), attempt)


def _head(tenant: int, campaign: str) -> bytes:
    """Version, tenant, campaign: 15 bytes."""
    if not 0 <= tenant <= MAX_TENANT:
        raise Invalid(f"Tenant number {tenant} does not fit the wire (0 to {MAX_TENANT}).")
    if len(campaign) != CAMPAIGN_ID_LENGTH or campaign != campaign.lower():
        raise Invalid(f"'{campaign[:40]}' is not a campaign id.")
    try:
        return _VERSION + tenant.to_bytes(4, "big") + decode(campaign).to_bytes(10, "big")
    except ValueError as problem:
        raise Invalid(f"'{campaign[:40]}' is not a campaign id.") from problem


def _split_head(raw: bytes) -> tuple[int, str, bytes]:
    head = raw[:_HEAD_BYTES]
    tenant = int.from_bytes(head[1:5], "big")
    if head[:1] != _VERSION or tenant > MAX_TENANT:
        raise Invalid("This link is damaged.")
    return tenant, encode(int.from_bytes(head[5:], "big"), CAMPAIGN_ID_LENGTH), head


def _topic_bytes(topic: str | None) -> bytes:
    raw = (topic or "").encode()
    if len(raw) > MAX_TOPIC_BYTES:
        raise Invalid(f"The topic is too long: {len(raw)} bytes, at most {MAX_TOPIC_BYTES}.")
    return raw


def _open_url(token: str, suffix: str, secret: bytes) -> str:
    mac, raw = _unb64(suffix[:_URL_MAC_LENGTH], _URL_MAC_LENGTH), _unb64(suffix[_URL_MAC_LENGTH:])
    try:
        url = raw.decode()
    except UnicodeDecodeError as problem:
        raise Invalid("This link is damaged.") from problem
    _check(_url_mac(_mac(secret, b"url", _MAC_BYTES), token, url), mac)
    return url


def _url_mac(base: hashlib.blake2b, recipient: str, url: str) -> bytes:
    mac = base.copy()
    mac.update(recipient.encode() + url.encode())  # the first part has a fixed length, so the pair is unambiguous
    return mac.digest()


def _mac(secret: bytes, label: bytes, size: int, data: bytes = b"") -> hashlib.blake2b:
    """Keyed BLAKE2b (RFC 7693) under a secret derived by HKDF-SHA256: extract, then one block of expand."""
    extracted = hmac.digest(b"postroom wire 1", secret, hashlib.sha256)
    return hashlib.blake2b(data, key=hmac.digest(extracted, label + b"\x01", hashlib.sha256), digest_size=size)


def _check(expected: bytes, given: bytes) -> None:
    if not hmac.compare_digest(expected, given):
        raise Invalid("This link is damaged, or it was not made here.")


def _b64(raw: bytes) -> str:
    return b2a_base64(raw, newline=False).translate(_URL_SAFE).decode().rstrip("=")


def _unb64(text: str, length: int | None = None) -> bytes:
    """Strict: only what `_b64` writes comes back, so a token has one spelling."""
    try:
        raw = base64.b64decode((text + "=" * (-len(text) % 4)).encode("ascii"), altchars=b"-_", validate=True)
    except (ValueError, UnicodeEncodeError) as problem:
        raise Invalid("This link is damaged.") from problem
    if (length is not None and len(text) != length) or _b64(raw) != text:
        raise Invalid("This link is damaged.")
    return raw


KEY_TEXT_LENGTH = 20
"""Characters of a key: 100 bits, of which 96 are used."""
MESSAGE_ID_LENGTH = CAMPAIGN_ID_LENGTH + 1 + KEY_TEXT_LENGTH
MESSAGE_ID_PATTERN = f"^[2-7a-z]{{{CAMPAIGN_ID_LENGTH}}}-[2-7a-z]{{{KEY_TEXT_LENGTH}}}$"
"""What an id looks like, for documents; not all that look so are ids."""
_SHAPE = re.compile(MESSAGE_ID_PATTERN.replace("$", r"\Z"))


def message_id(ref: CampaignRef, key: Key) -> str:
    """The id of the message `key` of a campaign or stream."""
    return f"{ref.campaign}-{encode(int.from_bytes(key, 'big'), KEY_TEXT_LENGTH)}"


def parse_message_id(text: str) -> tuple[str, Key]:
    """Campaign or stream, and key. Raises `NotFound` if it is not an id, as for an unknown message."""
    number = decode(text[-KEY_TEXT_LENGTH:]) if _SHAPE.match(text) else -1
    if number < 0 or number >> (8 * KEY_BYTES):
        raise NotFound(f"there is no message {text[:MESSAGE_ID_LENGTH]!r}")
    return text[:CAMPAIGN_ID_LENGTH], Key(number.to_bytes(KEY_BYTES, "big"))


TENANT_TAG = "postroom-tenant"
CAMPAIGN_TAG = "postroom-campaign"
MESSAGE_TAG = "postroom-message"
ATTEMPT_TAG = "postroom-attempt"
_NUMBER = r"(0|[1-9][0-9]{0,7})"
_WHOLE = re.compile(
    rf"{_NUMBER}\n([2-7a-z]{{{CAMPAIGN_ID_LENGTH}}})\n{_NUMBER}-([0-9a-f]{{{2 * KEY_BYTES}}})\n([1-9][0-9]?)", re.ASCII
)


def ses_tags(ref: MessageRef) -> tuple[tuple[str, str], ...]:
    """The tags of a message: names and values."""
    return (
        (TENANT_TAG, str(ref.tenant)),
        (CAMPAIGN_TAG, ref.campaign),
        (MESSAGE_TAG, f"{ref.batch}-{ref.key.hex()}"),
        (ATTEMPT_TAG, str(ref.attempt)),
    )


def parse_ses_tags(tags: Mapping[str, Sequence[str]]) -> MessageRef:
    """Parse tags, from each tag's values. Raises `Invalid` if they name no message of ours."""
    values = [tags.get(name) or ("",) for name in (TENANT_TAG, CAMPAIGN_TAG, MESSAGE_TAG, ATTEMPT_TAG)]
    match = _WHOLE.fullmatch("\n".join(value[0] for value in values)) if all(len(value) == 1 for value in values) else None
    if match is None:
        raise Invalid("The report carries no tags of a message of ours.")
    tenant, campaign, batch, key, attempt = match.groups()
    ref = MessageRef(int(tenant), campaign, int(batch), Key(bytes.fromhex(key)), int(attempt))
    if ref.tenant > MAX_TENANT or ref.batch > MAX_BATCH or ref.attempt > MAX_ATTEMPT:
        raise Invalid("The report's tags name a message that cannot be ours.")
    return ref
