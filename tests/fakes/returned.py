"""Mails that come back, as the receiving side writes them: delivery reports (RFC 3464), complaints (RFC 5965), automatic answers
(RFC 3834), wishes to unsubscribe."""

from __future__ import annotations

import uuid
from email.utils import formatdate

REPORTER = "MAILER-DAEMON@mx.example.net"


def dsn(to: str, address: str, *, action: str = "failed", status: str = "5.1.1", text: str = "", original: bytes = b"") -> bytes:
    """A delivery report about `address`, with the head of `original`."""
    reason = text or f"{status.replace('.', '')[0]}50 {status} no such user"
    return _crlf(
        f"""From: Mail Delivery System <{REPORTER}>
To: {to}
Date: {formatdate()}
Message-ID: <{uuid.uuid4()}@mx.example.net>
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="=_x"

--=_x
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.example.net.

<{address}>: {reason}

--=_x
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: rfc822; {address}
Action: {action}
Status: {status}
Diagnostic-Code: smtp; {reason}

--=_x
Content-Type: text/rfc822-headers

"""
    ) + (original.partition(b"\r\n\r\n")[0] + b"\r\n\r\n--=_x--\r\n")


def complaint(to: str, original: bytes, *, kind: str = "abuse") -> bytes:
    """A feedback report that returns the whole mail."""
    return (
        _crlf(
            f"""From: Feedback Loop <fbl@isp.example.net>
To: {to}
Date: {formatdate()}
Message-ID: <{uuid.uuid4()}@isp.example.net>
Subject: FW: a mail
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="=_y"

--=_y
Content-Type: text/plain; charset=us-ascii

This is an email abuse report.

--=_y
Content-Type: message/feedback-report

Feedback-Type: {kind}
User-Agent: SomeFBL/1.0
Version: 1

--=_y
Content-Type: message/rfc822

"""
        )
        + original
        + b"\r\n--=_y--\r\n"
    )


def out_of_office(to: str, address: str) -> bytes:
    """Nobody is there; it says so with words that bounces use too."""
    return _crlf(
        f"""From: {address}
To: {to}
Date: {formatdate()}
Message-ID: <{uuid.uuid4()}@example.com>
Subject: Automatic reply: Hi
Auto-Submitted: auto-replied
X-Auto-Response-Suppress: All

I am out of office. User unknown? Try 550 5.1.1.
"""
    )


def wish(to: str, address: str, subject: str) -> bytes:
    """As a mail program writes it by a mailto address."""
    return _crlf(
        f"""From: {address}
To: {to}
Date: {formatdate()}
Message-ID: <{uuid.uuid4()}@example.com>
Subject: {subject}

Sent by my mail program.
"""
    )


def _crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()
