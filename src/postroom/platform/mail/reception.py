"""Whether a host takes mail to an address, as any server in the world would bring it. Nothing is sent. For `doctor`; blocking.

The dialogue ends after RCPT: who is asked sees a sender that thought better of it (RFC 5321 §4.1.1.5, RSET).
"""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Sequence
from contextlib import suppress

from postroom.errors import Unavailable

PORT = 25
_TIMEOUT_S = 5.0


def takes(host: str, addresses: Sequence[str], *, port: int = PORT) -> list[bool]:
    """For each address. `Unavailable`: the host does not answer, answers that it is busy, or speaks no SMTP."""
    own = socket.gethostname()
    try:
        with smtplib.SMTP(timeout=_TIMEOUT_S, local_hostname=own if own.isascii() else "localhost") as client:
            _checked(client.connect(host, port))
            client.ehlo_or_helo_if_needed()
            _checked(client.mail(""))
            codes = [_checked(client.rcpt(address), refusing=True) for address in addresses]
            with suppress(smtplib.SMTPException, OSError):
                client.rset()
            return [code < 300 for code in codes]
    except (OSError, UnicodeError, smtplib.SMTPException) as error:
        raise Unavailable(f"no mail server answers at port {port} ({_words(error)})") from error


def _checked(answer: tuple[int, bytes], *, refusing: bool = False) -> int:
    """The code. `Unavailable`: it decides nothing."""
    code, text = answer
    if code < 300 or (refusing and code >= 500):
        return code
    raise Unavailable(f"it says {code} {text.decode('utf-8', 'replace')[:100]}")


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"silent for {_TIMEOUT_S:.0f} s"
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
