"""Verifies SNS messages posted over HTTP: our topic, SNS's signature, a recent time.

The fields and their order are those of https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html

- Anyone can post to the webhook, so nothing is fetched and nothing computed before topic, time and addresses are as SNS sends
  them.
- The certificate is fetched over HTTPS only, from SNS's own host in the topic's region. Other names below amazonaws.com may
  belong to other customers (a bucket called `sns` is `sns.s3.amazonaws.com`). It is cached.
- A genuine message that comes twice is harmless, because events have ids. The time limit only bounds how long a stolen one is of
  use.
- Nothing is stored here, so a crash leaves nothing: SNS delivers again what was not answered.
"""

from __future__ import annotations

import base64
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import SplitResult, parse_qs, urlsplit

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from postroom.clock import Clock
from postroom.errors import Denied, Invalid, TooLarge

MAX_BYTES = 512 * 1024
"""SNS carries 256 KB; JSON inside JSON may escape much of it."""
MAX_AGE_MS = 24 * 3_600_000
"""SNS retries a delivery for an hour at most; the timestamp is from the first attempt."""
MAX_AHEAD_MS = 15 * 60_000
_PEM_PATH = re.compile(r"/SimpleNotificationService-[A-Za-z0-9]{1,64}\.pem", re.ASCII)
_CERTIFICATES = 16
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {"1": hashes.SHA1, "2": hashes.SHA256}
FetchUrl = Callable[[str], bytes]
"""Returns the body at an https URL; follows no redirect, is bounded in time and size. Raises `Denied`, `Unavailable`."""


class SnsType(StrEnum):
    """The `Type` of an SNS message."""

    NOTIFICATION = "Notification"
    SUBSCRIPTION = "SubscriptionConfirmation"
    UNSUBSCRIPTION = "UnsubscribeConfirmation"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnsEnvelope:
    """An SNS message as it was posted."""

    kind: SnsType
    topic: str
    message_id: str
    timestamp: str
    message: str
    subject: str | None
    token: str | None
    subscribe_url: str | None
    version: str
    signature: str
    certificate_url: str

    @property
    def signed_text(self) -> bytes:
        """The text that is signed."""
        confirms = self.kind is not SnsType.NOTIFICATION
        named = (
            ("Message", self.message),
            ("MessageId", self.message_id),
            ("Subject", None if confirms else self.subject),
            ("SubscribeURL", self.subscribe_url if confirms else None),
            ("Timestamp", self.timestamp),
            ("Token", self.token if confirms else None),
            ("TopicArn", self.topic),
            ("Type", self.kind.value),
        )
        return "".join(f"{name}\n{value}\n" for name, value in named if value is not None).encode("utf-8", "surrogatepass")


class _Json(msgspec.Struct):
    Type: SnsType
    TopicArn: str
    MessageId: str
    Timestamp: str
    Message: str
    SignatureVersion: str
    Signature: str
    SigningCertURL: str
    Subject: str | None = None
    Token: str | None = None
    SubscribeURL: str | None = None


_DECODER = msgspec.json.Decoder(_Json)


def parse_envelope(body: bytes) -> SnsEnvelope:
    """Parse an SNS message without verifying it. Raises `Invalid`, `TooLarge`."""
    if len(body) > MAX_BYTES:
        raise TooLarge(f"an SNS message of {len(body)} bytes is larger than any that SNS sends")
    try:
        data = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"this is no SNS message: {error}") from error
    if data.Type is not SnsType.NOTIFICATION and not (data.Token and data.SubscribeURL):
        raise Invalid(f"an SNS {data.Type.value} without its Token or SubscribeURL")
    return SnsEnvelope(
        kind=data.Type,
        topic=data.TopicArn,
        message_id=data.MessageId,
        timestamp=data.Timestamp,
        message=data.Message,
        subject=data.Subject,
        token=data.Token,
        subscribe_url=data.SubscribeURL,
        version=data.SignatureVersion,
        signature=data.Signature,
        certificate_url=data.SigningCertURL,
    )


class SnsVerifier:
    """Verifies messages of a set of topics. Thread-safe."""

    def __init__(self, topics: Collection[str], fetch: FetchUrl, clock: Clock) -> None:
        self._topics = frozenset(topics)
        self._fetch = fetch
        self._clock = clock
        self._certificates: OrderedDict[str, x509.Certificate] = OrderedDict()
        self._lock = threading.Lock()

    def verify(self, body: bytes) -> SnsEnvelope:
        """The envelope of a genuine message.

        Raises `Invalid` if it is no SNS message, `Denied` if it is not genuine or of another topic, `Unavailable` if the
        certificate cannot be fetched now.
        """
        envelope = parse_envelope(body)
        if envelope.topic not in self._topics:
            raise Denied("the SNS topic is none of those that are configured")
        self._check_time(envelope)
        self._check_signature(envelope)
        return envelope

    def confirm(self, envelope: SnsEnvelope) -> None:
        """Confirm a subscription. Does nothing for any other type: an unsubscription is not undone.

        `envelope` must come from `verify`. Raises `Denied` if its URL is not SNS's, `Unavailable`.
        """
        if envelope.kind is not SnsType.SUBSCRIPTION:
            return
        url = envelope.subscribe_url or ""
        parts = _sns_url(url, envelope.topic)
        query = parse_qs(parts.query)
        if (
            query.get("Action") != ["ConfirmSubscription"]
            or query.get("TopicArn") != [envelope.topic]
            or parts.path not in ("", "/")
        ):
            raise Denied("the address to confirm the subscription at is not one of SNS's for this topic")
        self._fetch(url)

    def _check_time(self, envelope: SnsEnvelope) -> None:
        try:
            at = datetime.fromisoformat(envelope.timestamp)
        except ValueError:
            raise Invalid("the SNS message's Timestamp is no time") from None
        if at.tzinfo is None:
            raise Invalid("the SNS message's Timestamp has no zone")
        age = self._clock.now() - round(at.timestamp() * 1000)
        if not -MAX_AHEAD_MS <= age <= MAX_AGE_MS:
            raise Denied("the SNS message is too old, or from the future: is this machine's clock right?")

    def _check_signature(self, envelope: SnsEnvelope) -> None:
        hash_type = _HASHES.get(envelope.version)
        if hash_type is None:
            raise Invalid("the SNS message's SignatureVersion is neither 1 nor 2")
        try:
            signature = base64.b64decode(envelope.signature, validate=True)
        except ValueError:
            raise Invalid("the SNS message's Signature is no base64") from None
        key = self._certificate(envelope.certificate_url, envelope.topic).public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            raise Denied("SNS's certificate holds no RSA key")
        try:
            key.verify(signature, envelope.signed_text, padding.PKCS1v15(), hash_type())
        except InvalidSignature:
            raise Denied("the SNS message's signature is not SNS's") from None

    def _certificate(self, url: str, topic: str) -> x509.Certificate:
        parts = _sns_url(url, topic)
        if not _PEM_PATH.fullmatch(parts.path) or parts.query:
            raise Denied("the SNS message names a certificate that is not one of SNS's")
        with self._lock:
            certificate = self._certificates.get(url)
        if certificate is None:
            certificate = _parse_certificate(self._fetch(url))
            with self._lock:
                self._certificates[url] = certificate
                while len(self._certificates) > _CERTIFICATES:
                    self._certificates.popitem(last=False)
        now = datetime.fromtimestamp(self._clock.now() / 1000, UTC)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            with self._lock:
                self._certificates.pop(url, None)
            raise Denied("SNS's certificate is not valid now")
        return certificate


def _sns_url(url: str, topic: str) -> SplitResult:
    """The parts of a URL. Raises `Denied` unless it is at SNS's own host in the topic's region."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Denied("the SNS message names an address that cannot be read") from None
    right = parts.scheme == "https" and parts.netloc == _sns_host(topic) and port is None and not parts.fragment
    if not right or not url.isascii() or not url.isprintable() or " " in url:
        raise Denied("the SNS message names an address that is not SNS's")
    return parts


def _sns_host(topic: str) -> str:
    """From the ARN of a configured topic: `arn:partition:sns:region:account:name`."""
    _, partition, _, region, *_ = topic.split(":")
    return f"sns.{region}.amazonaws.com{'.cn' if partition == 'aws-cn' else ''}"


def _parse_certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise Denied("SNS's address returned no certificate") from error
