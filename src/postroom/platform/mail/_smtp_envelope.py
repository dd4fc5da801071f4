"""One message as SMTP: the server's extensions, the MAIL, RCPT and DATA commands, and the dot-stuffed content.

What is certain to fail is refused here, before a byte is sent: too large for the server (RFC 1870), an address it cannot take
(RFC 6531, in a header field RFC 6532), content that needs 8 bits (RFC 6152), an address that would break out of its command.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from postroom.platform.mail._smtp_replies import Reply
from postroom.platform.mail.connection_pool import QueuedMessage
from postroom.platform.mail.port import Result, Stage, Verdict
from postroom.platform.mail.smtp_url import Dsn

_PATH = re.compile(r'[^\s<>"\x00-\x1f\x7f]+|"(?:[^"\\\x00-\x1f\x7f]|\\[ -~])*"@[^\s<>"\x00-\x1f\x7f]+')
_MESSAGE_ID = re.compile(rb"^message-id:\s*<([!-;=?-~]{1,90})>", re.IGNORECASE | re.MULTILINE)
_DSN_DEFAULT = Dsn.DEFAULT  # looked up once: an enum's member costs more than the comparison
_NOTIFY = {Dsn.NEVER: "NEVER", Dsn.FAILURE: "FAILURE", Dsn.DELAY: "FAILURE,DELAY", Dsn.SUCCESS: "SUCCESS,FAILURE,DELAY"}


class Offers(NamedTuple):
    """The server's extensions, from its answer to EHLO."""

    pipelining: bool = False
    eightbit: bool = False
    smtputf8: bool = False
    starttls: bool = False
    dsn: bool = False
    size: int = 0
    """Octets of the largest message, 0 if no limit is named."""
    sized: bool = False
    auth: frozenset[str] = frozenset()


def read_offers(reply: Reply) -> Offers:
    """The extensions in a positive answer to EHLO; unknown ones are ignored."""
    words = [line.upper().replace("AUTH=", "AUTH ", 1).split() for line in reply.lines[1:]]
    offered = {line[0]: line[1:] for line in words if line}
    size = next(iter(offered.get("SIZE", ())), "0")
    return Offers(
        pipelining="PIPELINING" in offered,
        eightbit="8BITMIME" in offered,
        smtputf8="SMTPUTF8" in offered,
        starttls="STARTTLS" in offered,
        dsn="DSN" in offered,
        size=int(size) if size.isascii() and size.isdigit() else 0,
        sized="SIZE" in offered,
        auth=frozenset(word for line in words if line and line[0] == "AUTH" for word in line[1:]),
    )


def pack(item: QueuedMessage, content: bytes, offers: Offers, dsn: Dsn) -> Result | None:
    """Prepare a message for a server with these `offers`. Returns the result that settles it if it cannot be sent there."""
    sender, recipient = item.message.mail_from, item.message.rcpt_to
    if not _PATH.fullmatch(recipient):
        return _refusal("5.1.3", f"not an address: {recipient!r}", Stage.RCPT)
    if sender and not _PATH.fullmatch(sender):
        return _refusal("5.1.7", f"not a return path: {sender!r}", Stage.MAIL)
    if content[-2:] != b"\r\n":
        content += b"\r\n"
    size = len(content)
    if 0 < offers.size < size:
        return _refusal("5.3.4", f"the message has {size} bytes, the server takes {offers.size} at most", Stage.MAIL)
    mail = f" SIZE={size}" if offers.sized else ""
    if not content.isascii():
        if not offers.eightbit:
            return _refusal("5.6.3", "the message needs 8 bits (8BITMIME), which the server does not take", Stage.MAIL)
        mail += " BODY=8BITMIME"
    if not (recipient.isascii() and sender.isascii() and _headers_are_ascii(content)):
        if not offers.smtputf8:
            return _refusal("5.6.7", "an address is not ASCII, and the server does not take such (SMTPUTF8)", Stage.MAIL)
        mail += " SMTPUTF8"
    rcpt = ""
    if dsn is not _DSN_DEFAULT and offers.dsn:
        mail += _dsn_of_mail(content)
        rcpt = f" NOTIFY={_NOTIFY[dsn]}"
    item.head = f"MAIL FROM:<{sender}>{mail}\r\nRCPT TO:<{recipient}>{rcpt}\r\nDATA\r\n".encode()
    item.payload = stuffed(content)
    return None


def stuffed(content: bytes) -> bytes:
    """Dot-stuffing (RFC 5321 §4.5.2). After a bare LF too, because some servers take that for a line end."""
    if b"\n." in content:
        content = content.replace(b"\n.", b"\n..")
    return b"." + content if content[:1] == b"." else content


def _headers_are_ascii(content: bytes) -> bool:
    """RFC 6532 §3: a header block with UTF-8 in it needs SMTPUTF8, whatever the envelope."""
    return content.isascii() or content[: content.find(b"\r\n\r\n") + 1 or None].isascii()


def _dsn_of_mail(content: bytes) -> str:
    """Reports return headers only (RET), with the Message-ID as the envelope's id (ENVID), in xtext (RFC 3461 §4)."""
    head = content[: content.find(b"\r\n\r\n") + 2]
    found = _MESSAGE_ID.search(head)
    if found is None:
        return " RET=HDRS"
    return " RET=HDRS ENVID=" + found[1].decode().replace("+", "+2B").replace("=", "+3D")


def _refusal(enhanced: str, text: str, stage: Stage) -> Result:
    return Result(Verdict.PERMANENT, 0, enhanced, text[:250], stage)
