"""An SNS envelope as it comes over HTTP: what kind it is, and the text that its signature is over. Nothing here is believed yet.

"Verifying the signatures of Amazon SNS messages" in the SNS developer guide names the fields and their order.

Whether an SNS envelope is genuine: its topic is one of ours, its signature SNS's, its time about now.

Anybody on the Internet may post to the hook, so nothing is fetched and nothing computed before topic, time and addresses are such
as SNS would send. The certificate comes over HTTPS only, from SNS's own host in the topic's region and no other below
amazonaws.com: names there may be other people's (a bucket that is called `sns` is `sns.s3.amazonaws.com`). It is kept: one
request a certificate. What is genuine and comes twice is harmless (events have ids), so the time only bounds how long a stolen
notice is of use. Nothing is stored here, so a crash leaves nothing behind: SNS delivers again what was not answered.

Fetches what stands at SNS's own addresses: certificates, and the page that confirms a subscription.

Which address that may be is decided before (sns). No redirects, up to 64 KB, about five seconds, one at a time: whoever posts
envelopes that name certificates which there are not keeps no more of us busy than that, and does not make us look sick. What was
found is not asked for again at once, nor what was not.
"""

from __future__ import annotations

import base64
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from threading import Lock
from urllib.parse import SplitResult, parse_qs, urlsplit

import httpx2 as httpx
import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from postroom.clock import Clock
from postroom.errors import Denied, Invalid, PostroomError, TooLarge, Unavailable
from postroom.ledger.ttl_cache import TtlCache

MAX_BYTES = 512 * 1024
"""SNS carries 256 KB; JSON inside JSON may escape much of it."""


class SnsType(StrEnum):
    """What SNS wants."""

    NOTIFICATION = "Notification"
    SUBSCRIPTION = "SubscriptionConfirmation"
    UNSUBSCRIPTION = "UnsubscribeConfirmation"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnsEnvelope:
    """One, as it was read."""

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
        """What the signature is over."""
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


class _Wire(msgspec.Struct):
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


_DECODER = msgspec.json.Decoder(_Wire)


def parse_envelope(body: bytes) -> SnsEnvelope:
    """`Invalid`: it is none. `TooLarge`."""
    if len(body) > MAX_BYTES:
        raise TooLarge(f"an SNS message of {len(body)} bytes is larger than any that SNS sends")
    try:
        wire = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"this is no message of SNS: {error}") from error
    if wire.Type is not SnsType.NOTIFICATION and not (wire.Token and wire.SubscribeURL):
        raise Invalid(f"an SNS {wire.Type.value} without its Token or SubscribeURL")
    return SnsEnvelope(
        kind=wire.Type,
        topic=wire.TopicArn,
        message_id=wire.MessageId,
        timestamp=wire.Timestamp,
        message=wire.Message,
        subject=wire.Subject,
        token=wire.Token,
        subscribe_url=wire.SubscribeURL,
        version=wire.SignatureVersion,
        signature=wire.Signature,
        certificate_url=wire.SigningCertURL,
    )


MAX_AGE_MS = 24 * 3_600_000
"""SNS retries a delivery for an hour at most; the stamp is from the first try."""
MAX_AHEAD_MS = 15 * 60_000
_PEM_PATH = re.compile(r"/SimpleNotificationService-[A-Za-z0-9]{1,64}\.pem", re.ASCII)
_CERTIFICATES = 16
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {"1": hashes.SHA1, "2": hashes.SHA256}
FetchUrl = Callable[[str], bytes]
"""The body behind an https URL; follows no redirect, is bounded in time and size. `Denied`: there is none; `Unavailable`."""


class SnsVerifier:
    """For one set of topics. Thread-safe."""

    def __init__(self, topics: Collection[str], fetch: FetchUrl, clock: Clock) -> None:
        self._topics = frozenset(topics)
        self._fetch = fetch
        self._clock = clock
        self._keys: OrderedDict[str, x509.Certificate] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, body: bytes) -> SnsEnvelope:
        """The envelope, when it is genuine. `Invalid`: it is none. `Denied`: it is not genuine, or not for us. `Unavailable`:
        the certificate cannot be fetched now."""
        envelope = parse_envelope(body)
        if envelope.topic not in self._topics:
            raise Denied("the SNS topic is none of those that are configured")
        self._check_time(envelope)
        self._check_signature(envelope)
        return envelope

    def confirm(self, envelope: SnsEnvelope) -> None:
        """Tell SNS that a subscription is wanted; of one that `open` gave. Of anything else it does nothing: whoever
        unsubscribed meant it. `Denied`: the address is not SNS's. `Unavailable`."""
        if envelope.kind is not SnsType.SUBSCRIPTION:
            return
        url = envelope.subscribe_url or ""
        parts = _at_sns(url, envelope.topic)
        asked = parse_qs(parts.query)
        if (
            asked.get("Action") != ["ConfirmSubscription"]
            or asked.get("TopicArn") != [envelope.topic]
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
        kind = _HASHES.get(envelope.version)
        if kind is None:
            raise Invalid("the SNS message's SignatureVersion is neither 1 nor 2")
        try:
            signature = base64.b64decode(envelope.signature, validate=True)
        except ValueError:
            raise Invalid("the SNS message's Signature is no base64") from None
        key = self._certificate(envelope.certificate_url, envelope.topic).public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            raise Denied("SNS's certificate holds no RSA key")
        try:
            key.verify(signature, envelope.signed_text, padding.PKCS1v15(), kind())
        except InvalidSignature:
            raise Denied("the SNS message's signature is not SNS's") from None

    def _certificate(self, url: str, topic: str) -> x509.Certificate:
        parts = _at_sns(url, topic)
        if not _PEM_PATH.fullmatch(parts.path) or parts.query:
            raise Denied("the SNS message names a certificate that is not one of SNS's")
        with self._lock:
            certificate = self._keys.get(url)
        if certificate is None:
            certificate = _read(self._fetch(url))
            with self._lock:
                self._keys[url] = certificate
                while len(self._keys) > _CERTIFICATES:
                    self._keys.popitem(last=False)
        now = datetime.fromtimestamp(self._clock.now() / 1000, UTC)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            with self._lock:
                self._keys.pop(url, None)
            raise Denied("SNS's certificate is not valid now")
        return certificate


def _at_sns(url: str, topic: str) -> SplitResult:
    """The URL in parts, of one at SNS's own host where the topic is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Denied("the SNS message names an address that cannot be read") from None
    right = parts.scheme == "https" and parts.netloc == _host(topic) and port is None and not parts.fragment
    if not right or not url.isascii() or not url.isprintable() or " " in url:
        raise Denied("the SNS message names an address that is not SNS's")
    return parts


def _host(topic: str) -> str:
    """From the topic's ARN, which is one that is configured: `arn:partition:sns:region:account:name`."""
    _, partition, _, region, *_ = topic.split(":")
    return f"sns.{region}.amazonaws.com{'.cn' if partition == 'aws-cn' else ''}"


def _read(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise Denied("what SNS's address holds is no certificate") from error


LIMIT_BYTES = 64 * 1024
LIMIT_S = 5.0
AGAIN_S = 10.0
_TURN_S = 2.0
_REMEMBERED = 256
_PLAIN = {"Accept-Encoding": "identity"}  # what is small must not unpack to something large


class SnsUnavailable(Unavailable):
    """SNS's own pages cannot be had now. Anybody can bring that about, so it says nothing about what is behind the door."""


class SnsClient:
    """A `sns.Fetch`. For several threads."""

    def __init__(self, clock: Clock, *, endpoint: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        """`endpoint`: stands in for SNS's own host, where the operator says so."""
        self._clock = clock
        self._endpoint = endpoint
        self._transport = transport
        self._one = Lock()
        self._recent: TtlCache[str, bytes | tuple[type[PostroomError], str]] = TtlCache(clock, most=_REMEMBERED)

    def __call__(self, url: str) -> bytes:
        """What is there. `Denied`: nothing, SNS says. `SnsUnavailable`."""
        if (page := self._known(url)) is not None:
            return page
        with self._turn():
            if (page := self._known(url)) is not None:  # somebody had it fetched meanwhile
                return page
            try:
                page = self._get(self._placed(url))
            except PostroomError as error:
                self._recent.put(url, (type(error), str(error)), seconds=AGAIN_S)
                raise
            self._recent.put(url, page, seconds=AGAIN_S)
            return page

    def _known(self, url: str) -> bytes | None:
        found = self._recent.get(url)
        if isinstance(found, tuple):
            raise found[0](found[1])
        return found

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._one.acquire(timeout=_TURN_S):
            raise SnsUnavailable("SNS is being asked for other things already")
        try:
            yield
        finally:
            self._one.release()

    def _placed(self, url: str) -> str:
        if self._endpoint is None:
            return url
        parts = urlsplit(url)
        return f"{self._endpoint}{parts.path}" + (f"?{parts.query}" if parts.query else "")

    def _get(self, url: str) -> bytes:
        body, until = b"", self._clock.monotonic() + LIMIT_S
        client = httpx.Client(
            timeout=LIMIT_S, follow_redirects=False, transport=self._transport, trust_env=url.startswith("https:")
        )
        try:
            with client, client.stream("GET", url, headers=_PLAIN) as response:
                if response.status_code != httpx.codes.OK:
                    kind = Denied if response.is_client_error else SnsUnavailable
                    raise kind(f"SNS answered {response.status_code} at {urlsplit(url).path[:120]}")
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > LIMIT_BYTES or self._clock.monotonic() > until:
                        raise SnsUnavailable("SNS sends too much, or too slowly")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SnsUnavailable(f"SNS does not answer as it should: {type(error).__name__}") from error
        return body
