"""One message as a call of SES: `SendEmail` of the API v2 with raw content, and the tags that come back in its reports.

What can be known to fail is refused here, before a byte leaves: too large, or an address SES cannot take.
"""

from __future__ import annotations

import re
from binascii import b2a_base64

import orjson

from postroom.model.tags import tags_of
from postroom.model.wire import MessageRef
from postroom.platform.mail.port import Delivery, Result, Stage, Verdict
from postroom.platform.mail.ses_url import SesConfig

SEND = "/v2/email/outbound-emails"
MAX_MESSAGE = 40 * 1024 * 1024
"""Of the API v2, before base64 encoding; https://docs.aws.amazon.com/ses/latest/dg/quotas.html."""
_ADDRESS = re.compile(r'(?:[^\s<>"\x00-\x1f\x7f]+|"(?:[^"\\\x00-\x1f\x7f]|\\[ -~])*")@[^\s<>"@\x00-\x1f\x7f]+')
_FROM = re.compile(
    rb"^From:[^\r\n]*(?:\r\n[ \t][^\r\n]*)*?[ <]([!#-;=?-~]+@[!-;=?-~]+?)>?\r\n(?![ \t])", re.MULTILINE | re.IGNORECASE
)


class Calls:
    """Makes the body of a call for each delivery of one configuration."""

    def __init__(self, config: SesConfig) -> None:
        named = config.configuration_set
        self._start = b'{"ConfigurationSetName":' + orjson.dumps(named) + b"," if named else b"{"

    def body(self, delivery: Delivery, content: bytes) -> bytes | Result:
        """The call's JSON, or the result that settles the delivery because there can be none."""
        recipient = delivery.rcpt_to
        if not _ADDRESS.fullmatch(recipient):
            return _refusal("5.1.3", f"not an address: {recipient!r}")
        if not recipient.isascii():
            return _refusal("5.6.7", "the address is not ASCII, and SES takes no such")
        if len(content) > MAX_MESSAGE:
            return _refusal("5.3.4", f"the message has {len(content)} bytes, SES takes {MAX_MESSAGE} at most")
        sender = _sender(content)
        return b"".join(
            (
                self._start,
                b'"FromEmailAddress":' + orjson.dumps(sender) + b"," if sender else b"",
                b'"Destination":{"ToAddresses":[',
                orjson.dumps(recipient),
                b"]},",
                _tags(delivery.ref) if delivery.ref is not None else b"",
                b'"Content":{"Raw":{"Data":"',
                b2a_base64(content, newline=False),
                b'"}}}',
            )
        )


def _sender(content: bytes) -> str:
    """The mailbox in From, which SES must know as an identity; empty where SES had better read it itself. Not the return path:
    SES has its own, and reports by notices."""
    head = content[: content.find(b"\r\n\r\n") + 2 or None]
    found = _FROM.search(head)
    return found[1].decode() if found else ""


def _tags(ref: MessageRef) -> bytes:
    """Letters, digits and `-` only: nothing to escape."""
    tags = ",".join(f'{{"Name":"{name}","Value":"{value}"}}' for name, value in tags_of(ref))
    return f'"EmailTags":[{tags}],'.encode()


def _refusal(enhanced: str, text: str) -> Result:
    return Result(Verdict.PERMANENT, 0, enhanced, text[:250], Stage.RCPT if enhanced[2] in "16" else Stage.CONTENT)
