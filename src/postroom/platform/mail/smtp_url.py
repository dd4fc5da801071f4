"""An SMTP relay's URL: `smtp://user:password@host:port?tls=…&connections=…` becomes an `SmtpConfig`.

Safe by default. Credentials are sent only over TLS, unless `clear_auth=yes` allows otherwise or the relay is on this machine;
`tls=starttls` means STARTTLS or no mail. The default mode: `tls` for port 465, `none` for a relay on this machine, `starttls` for
port 587 or with credentials, else `auto` (STARTTLS if offered, without verifying: an attacker who could forge the certificate
could also hide the offer, RFC 7435). A password never shows in a `repr`, a log line or an error.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from postroom.errors import Invalid

Readers = Mapping[str, tuple[str, Callable[[str], object]]]
"""Option → field of the configuration, and a parser of its value; its `ValueError` says what the option takes."""


def read_options(query: str, readers: Readers) -> dict[str, Any]:
    """The options of a provider's URL, by field. Raises `Invalid` for an unknown, repeated or bad one."""
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in readers:
            raise Invalid(f"the mail provider's URL has an unknown option {name!r}; known are {', '.join(readers)}")
        target, read = readers[name]
        if target in options:
            raise Invalid(f"the mail provider's URL gives {name} twice")
        try:
            options[target] = read(text)
        except ValueError as error:
            raise Invalid(f"the mail provider's URL has {name}={text!r}; it takes {error}") from error
    return options


class Tls(StrEnum):
    """How the connection is protected."""

    NONE = "none"
    AUTO = "auto"
    """STARTTLS if the server offers it."""
    STARTTLS = "starttls"
    """STARTTLS, or no mail at all."""
    TLS = "tls"
    """TLS from the first byte (RFC 8314)."""


class Auth(StrEnum):
    """The SASL mechanism."""

    AUTO = "auto"
    """PLAIN if offered, else LOGIN."""
    PLAIN = "plain"
    LOGIN = "login"
    XOAUTH2 = "xoauth2"
    """The password is an OAuth 2 access token."""


class Dsn(StrEnum):
    """Which delivery status notifications to ask for (RFC 3461), if the server offers DSN."""

    DEFAULT = "default"
    """Ask for nothing: servers then report failures."""
    NEVER = "never"
    FAILURE = "failure"
    DELAY = "delay"
    """Failures and delays."""
    SUCCESS = "success"
    """Failures, delays and deliveries."""


_DEFAULT_PORTS = {Tls.NONE: 25, Tls.AUTO: 25, Tls.STARTTLS: 587, Tls.TLS: 465}


@dataclass(frozen=True, slots=True)
class SmtpConfig:
    """How to reach one SMTP relay, and with how many connections. Times are in seconds."""

    host: str
    port: int = 25
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls = Tls.NONE
    verify: bool = True
    """Whether the server's certificate and name are checked."""
    ca_file: str | None = None
    """PEM file of the authorities to trust instead of the system's."""
    auth: Auth = Auth.AUTO
    clear_auth: bool = False
    """Credentials may travel without TLS."""
    helo: str | None = None
    """The name to greet with; None: this machine's full name, else its address."""
    pipelining: bool = True
    """False: one command at a time, even where the server offers RFC 2920."""
    dsn: Dsn = Dsn.DEFAULT
    public_only: bool = False
    """Connect to public addresses only, because a tenant wrote the URL (see provider_url)."""
    connections: int = 16
    """At most this many at a time, per process."""
    reuse: int = 1_000
    """Messages a connection carries before it is replaced."""
    idle_s: float = 10.0
    """A connection with nothing to do is closed after this long."""
    connect_s: float = 10.0
    greeting_s: float = 30.0
    command_s: float = 60.0
    """For the answer to a command, and for each 64 KB of content to leave."""
    dot_s: float = 120.0
    """For the answer to the final dot. RFC 5321 §4.5.3.2.6 asks for ten minutes; a relay that needs two is not well."""

    @property
    def is_local(self) -> bool:
        """Whether the relay is on this machine, so that nothing crosses a wire."""
        return _is_loopback(self.host)

    def __str__(self) -> str:
        """Without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"smtp://{host}:{self.port}?tls={self.tls}"


def parse_smtp_url(url: str) -> SmtpConfig:
    """The configuration in `url` (scheme `smtp`, or `smtps` for `tls=tls`). User and password are percent-decoded.

    Raises `Invalid` for another scheme, a missing host, an unknown option or a bad value, naming it but never a password.
    """
    parts = _split(url)
    options = read_options(parts.query, _READERS)
    if parts.scheme == "smtps" and options.setdefault("tls", Tls.TLS) != Tls.TLS:
        raise Invalid("the mail provider's URL says smtps:// and another tls= mode: drop one of them")
    host = unquote(parts.hostname or "")
    if not re.fullmatch(r"[A-Za-z0-9._:-]+", host):
        raise Invalid("the mail provider's URL needs the relay's host name: smtp://host:port")
    _check_name(host)
    user = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password is not None else None
    port = _port(parts)
    tls = options.pop("tls", None) or _default_tls(host, port=port, user=user)
    options.setdefault("verify", tls is not Tls.AUTO)
    config = SmtpConfig(host, port or _DEFAULT_PORTS[tls], user=user, password=password, tls=tls, **options)
    _check_credentials(config)
    return config


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:  # its message repeats the URL, password and all
        raise Invalid("the mail provider's URL cannot be read: smtp://user:password@host:port?option=value") from None
    if parts.scheme not in ("smtp", "smtps"):
        raise Invalid(f"the mail provider's URL begins with {parts.scheme or 'nothing'}:, not smtp://, smtps:// or ses://")
    if parts.path not in ("", "/") or parts.fragment or "@" in parts.query:
        raise Invalid("the mail provider's URL has a path or a fragment; in a password write / as %2F, ? as %3F and # as %23")
    return parts


def _check_name(host: str) -> None:
    try:
        host.encode("idna")  # as every look-up will
    except UnicodeError as error:
        raise Invalid(f"the mail provider's URL names a host {host!r}, which no host can be called: {error}") from error


def _port(parts: SplitResult) -> int | None:
    try:
        port = parts.port
    except ValueError:
        raise Invalid("the mail provider's port is not a number from 1 to 65535") from None
    if port == 0:
        raise Invalid("the mail provider's port is not a number from 1 to 65535")
    return port


def _default_tls(host: str, *, port: int | None, user: str | None) -> Tls:
    if port == _DEFAULT_PORTS[Tls.TLS]:
        return Tls.TLS
    if _is_loopback(host):
        return Tls.NONE
    return Tls.STARTTLS if user or port == _DEFAULT_PORTS[Tls.STARTTLS] else Tls.AUTO


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _check_credentials(config: SmtpConfig) -> None:
    if (config.user is None) != (config.password is None):
        raise Invalid("the mail provider's URL needs both a user and a password, or neither: smtp://user:password@host")
    if config.auth is not Auth.AUTO and config.user is None:
        raise Invalid(f"auth={config.auth} needs a user and a password in the mail provider's URL")
    if config.user and "\0" in config.user + (config.password or ""):
        raise Invalid("the mail provider's user and password must not contain NUL")
    if config.user and config.tls is Tls.NONE and not (config.clear_auth or config.is_local):
        raise Invalid(
            f"with tls=none the password would reach {config.host} in the clear: use tls=starttls or tls=tls, "
            "or add clear_auth=yes if the network is yours"
        )


def _yes_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError("yes or no")
    return text == "yes"


def _choice(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    def read(text: str) -> StrEnum:
        try:
            return kind(text)
        except ValueError:
            raise ValueError(" or ".join(kind)) from None

    return read


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,6}", text):
        raise ValueError("a whole number from 1")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,3})?", text) or not float(text):
        raise ValueError("seconds, more than 0")
    return float(text)


def _word(text: str) -> str:
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("printable ASCII without spaces")
    return text


def _path(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("a file name")
    return text


_READERS: Readers = {
    "tls": ("tls", _choice(Tls)),
    "verify": ("verify", _yes_no),
    "ca_file": ("ca_file", _path),
    "auth": ("auth", _choice(Auth)),
    "clear_auth": ("clear_auth", _yes_no),
    "helo": ("helo", _word),
    "pipelining": ("pipelining", _yes_no),
    "dsn": ("dsn", _choice(Dsn)),
    "connections": ("connections", _count),
    "reuse": ("reuse", _count),
    "idle": ("idle_s", _seconds),
    "connect_timeout": ("connect_s", _seconds),
    "greeting_timeout": ("greeting_s", _seconds),
    "command_timeout": ("command_s", _seconds),
    "dot_timeout": ("dot_s", _seconds),
}

"""Option in the URL → field of `SmtpConfig`, and what reads its value."""
