"""A mailbox's URL: `imaps://user:password@host/INBOX?keep=yes` becomes a `MailboxConfig`.

`imaps` and `pop3s` use TLS from the first byte; `imap` and `pop3` use STARTTLS or fail. Only to a server on this machine may the
password be sent without TLS (`tls=none`). Certificates are always verified. A password never shows in a `repr`, a log line or an
error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from postroom.errors import Invalid

EXAMPLE: Final = "imaps://user:password@host/INBOX"


class Security(StrEnum):
    """How the connection is protected."""

    TLS = "tls"
    STARTTLS = "starttls"
    NONE = "none"


class _Scheme(NamedTuple):
    protocol: str
    port: int
    security: Security


_SCHEMES = {
    "imaps": _Scheme("imap", 993, Security.TLS),
    "imap": _Scheme("imap", 143, Security.STARTTLS),
    "pop3s": _Scheme("pop3", 995, Security.TLS),
    "pop3": _Scheme("pop3", 110, Security.STARTTLS),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxConfig:
    """Where a mailbox is, and whether processed mail stays in it."""

    protocol: str
    """`imap` or `pop3`."""
    host: str
    port: int
    security: Security
    user: str
    password: str = field(repr=False)
    folder: str = "INBOX"
    keep: bool = False
    """Leave mail in the mailbox after it was processed."""

    @property
    def name(self) -> str:
        """Identifies the mailbox in logs and records; contains no password."""
        folder = f"/{self.folder}" if self.protocol == "imap" else ""
        return f"{self.protocol}://{self.user}@{self.host}:{self.port}{folder}"


def parse_mailbox(url: str) -> MailboxConfig:
    """Raises `Invalid`, which says what is wrong and never contains the password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Invalid(f"the mailbox is no URL such as {EXAMPLE}") from error
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise Invalid(f"a mailbox begins with {', '.join(f'{name}://' for name in _SCHEMES)}: write {EXAMPLE}")
    if not parts.username or parts.password is None:
        raise Invalid(f"the mailbox on {parts.hostname} needs a user and a password: write {EXAMPLE}, percent-encoded")
    options = _options(parts)
    return MailboxConfig(
        protocol=scheme.protocol,
        host=parts.hostname,
        port=port or scheme.port,
        security=_security(options.get("tls"), scheme.security, parts.hostname),
        user=_printable(unquote(parts.username)),
        password=_printable(unquote(parts.password)),
        folder=_folder(parts, scheme),
        keep=_yes(options.get("keep", "no")),
    )


def _options(parts: SplitResult) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = options.keys() - {"tls", "keep"}
    if unknown or parts.fragment:
        raise Invalid(f"the mailbox on {parts.hostname} has an unknown option; known are tls and keep")
    return options


def _security(asked: str | None, usual: Security, host: str) -> Security:
    if asked in (None, usual.value):
        return usual
    if asked != Security.NONE or usual is not Security.STARTTLS:
        raise Invalid(
            f"the mailbox on {host} cannot have tls={asked}: its scheme says {usual}; only imap and pop3 may have tls=none"
        )
    if not _is_here(host):
        raise Invalid(
            f"tls=none would send the password of the mailbox on {host} in the clear: only a server on this machine may have it"
        )
    return Security.NONE


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _folder(parts: SplitResult, scheme: _Scheme) -> str:
    folder = unquote(parts.path).strip("/")
    if folder and scheme.protocol == "pop3":
        raise Invalid("a POP3 mailbox has no folders")
    if not folder.isascii():
        raise Invalid("a folder's name has to be ASCII: write it as IMAP does (modified UTF-7)")
    return _printable(folder) or "INBOX"


def _printable(text: str) -> str:
    if not text.isprintable():
        raise Invalid("the mailbox has control characters in its user, password or folder")
    return text


def _yes(text: str) -> bool:
    if text not in {"yes", "no"}:
        raise Invalid("keep is yes or no")
    return text == "yes"
