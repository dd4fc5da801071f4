"""An SNS envelope as it comes over HTTP: what kind it is, and the text that its signature is over. Nothing here is believed yet.

"Verifying the signatures of Amazon SNS messages" in the SNS developer guide names the fields and their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from postroom.errors import Invalid, TooLarge

MAX_BYTES = 512 * 1024
"""SNS carries 256 KB; JSON inside JSON may escape much of it."""


class Kind(StrEnum):
    """What SNS wants."""

    NOTIFICATION = "Notification"
    SUBSCRIPTION = "SubscriptionConfirmation"
    UNSUBSCRIPTION = "UnsubscribeConfirmation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One, as it was read."""

    kind: Kind
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
        confirms = self.kind is not Kind.NOTIFICATION
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
    Type: Kind
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


def read_envelope(body: bytes) -> Envelope:
    """`Invalid`: it is none. `TooLarge`."""
    if len(body) > MAX_BYTES:
        raise TooLarge(f"an SNS message of {len(body)} bytes is larger than any that SNS sends")
    try:
        wire = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"this is no message of SNS: {error}") from error
    if wire.Type is not Kind.NOTIFICATION and not (wire.Token and wire.SubscribeURL):
        raise Invalid(f"an SNS {wire.Type.value} without its Token or SubscribeURL")
    return Envelope(
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
