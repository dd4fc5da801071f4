"""Checks for `doctor`, over SMTP: would a relay take mail, and does a host accept mail to an address. Nothing is sent; both
block.

`examine_relay` connects, starts TLS, says EHLO, logs in and hangs up. It uses the standard library's client, so that what both it
and the mailer find is the relay's doing; only the login is the mailer's, because the library's takes ASCII passwords only.

`accepts_recipients` ends the dialogue after RCPT, like a sender that changed its mind (RFC 5321 §4.1.1.5, RSET).
"""

from __future__ import annotations

import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress

from postroom.errors import Invalid, Unavailable, Unsupported
from postroom.model.finding import Finding, Level
from postroom.platform.mail import _smtp_session
from postroom.platform.mail._smtp_session import tls_context
from postroom.platform.mail.provider_url import resolve_relay
from postroom.platform.mail.smtp_url import SmtpConfig, Tls

SMTP_PORT = 25
_MX_TIMEOUT_S = 5.0


def accepts_recipients(host: str, addresses: Sequence[str], *, port: int = SMTP_PORT) -> list[bool]:
    """Whether `host` accepts mail to each address. Raises `Unavailable` if it does not answer or is busy."""
    own = socket.gethostname()
    try:
        with smtplib.SMTP(timeout=_MX_TIMEOUT_S, local_hostname=own if own.isascii() else "localhost") as client:
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
    """The reply code. Raises `Unavailable` if it is temporary."""
    code, text = answer
    if code < 300 or (refusing and code >= 500):
        return code
    raise Unavailable(f"it says {code} {text.decode('utf-8', 'replace')[:100]}")


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"silent for {_MX_TIMEOUT_S:.0f} s"
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__


_TIMEOUT_S = 10.0
_SUBJECT = "mail server"


def examine_relay(config: SmtpConfig, *, within_s: float = 30.0) -> Iterator[Finding]:
    """All findings about the relay. After `within_s` the connection is cut, even if the relay still answers slowly."""
    with _RelaySocket(config, within_s) as wire:
        for finding in _examined(wire, config):
            late = wire.cut and finding.level is Level.FAIL
            yield Finding(_SUBJECT, Level.FAIL, f"the relay takes longer than {within_s:g} s") if late else finding


def _examined(wire: _RelaySocket, config: SmtpConfig) -> Iterator[Finding]:
    try:
        with _connected(wire, config) as client:
            yield Finding(_SUBJECT, Level.OK, f"{config.host}:{config.port} answers")
            yield from _greet(client, config)
            if config.tls in (Tls.STARTTLS, Tls.AUTO):
                yield from _start_tls(client, config)
            elif config.tls is Tls.TLS:
                yield _encrypted(client)
            elif not config.is_local:
                yield Finding("TLS", Level.WARN, "off: mail crosses the network readable", "use tls=starttls or tls=tls")
            if config.user is not None:
                yield from _log_in(client, config)
    except Invalid as error:  # a name that resolves to where it may not, a file of certificates that is none
        yield Finding(_SUBJECT, Level.FAIL, str(error))
    except (OSError, UnicodeError, smtplib.SMTPException) as error:
        yield _failure(error, config)


def _failure(error: Exception, config: SmtpConfig) -> Finding:
    """What went wrong, and what to do."""
    relay = f"{config.host}:{config.port}"
    modes = "check tls= and the port: 465 is tls, 587 starttls"
    if isinstance(error, smtplib.SMTPServerDisconnected) and isinstance(error.__context__, TimeoutError):
        error = error.__context__  # how smtplib reports a time-out
    match error:
        case ssl.SSLCertVerificationError():
            todo = "use the name in its certificate, or name the authority's file with ca_file="
            text = f"the certificate of {config.host} is not trusted: {error.verify_message}"
            return Finding("TLS", Level.FAIL, text, todo)
        case ssl.SSLError():
            return Finding("TLS", Level.FAIL, f"no TLS with {relay}: {error.reason or error}", modes)
        case socket.gaierror():
            return Finding(_SUBJECT, Level.FAIL, f"{config.host} has no address: {error.strerror}", "check the relay's name")
        case UnicodeError():
            return Finding(
                _SUBJECT, Level.FAIL, f"{config.host} is no name that a host can have: {error}", "check the relay's name"
            )
        case TimeoutError():
            todo = "check host and port, and whether a firewall stops outgoing mail (port 25 often is)"
            return Finding(_SUBJECT, Level.FAIL, f"{relay} does not answer within {_TIMEOUT_S:.0f} s", todo)
        case smtplib.SMTPResponseException():
            return Finding(_SUBJECT, Level.FAIL, f"{relay} refuses: {error.smtp_code} {_text(error.smtp_error)}")
        case OSError() if error.strerror:
            return Finding(_SUBJECT, Level.FAIL, f"cannot connect to {relay}: {error.strerror}", "check host and port")
        case _:
            return Finding(_SUBJECT, Level.FAIL, f"{relay} hung up: {error}", modes)


def _connected(wire: _RelaySocket, config: SmtpConfig) -> smtplib.SMTP:
    own = socket.gethostname()
    name = config.helo or (own if own.isascii() else "localhost")
    if config.tls is Tls.TLS:
        return _TlsClient(wire, config, name)
    return _Client(wire, config, name)


class _RelaySocket:
    """A socket to the relay that is shut down when the time is over."""

    def __init__(self, config: SmtpConfig, within_s: float) -> None:
        self._config = config
        self._spare: socket.socket | None = None
        self.cut = False
        self._timer = threading.Timer(within_s, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> _RelaySocket:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()
        if self._spare is not None:
            self._spare.close()

    def connect(self, timeout_s: float) -> socket.socket:
        """Connect to the first address that answers. Raises `Invalid` if the relay must be public and is not."""
        error: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
        for address in resolve_relay(self._config):
            try:
                connected = socket.create_connection((address, self._config.port), timeout_s)
            except OSError as refused:
                error = refused
            else:
                self._spare = connected.dup()  # TLS takes the socket over
                return connected
            if self.cut:
                break
        raise error

    def _cut(self) -> None:
        self.cut = True
        if self._spare is not None:
            with suppress(OSError):
                self._spare.shutdown(socket.SHUT_RDWR)


class _Client(smtplib.SMTP):
    """smtplib's client over a `_RelaySocket`."""

    def __init__(self, wire: _RelaySocket, config: SmtpConfig, name: str) -> None:
        self._wire = wire
        super().__init__(config.host, config.port, name, timeout=_TIMEOUT_S)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self._wire.connect(timeout)


class _TlsClient(smtplib.SMTP_SSL):
    """The same with TLS from the first byte."""

    def __init__(self, wire: _RelaySocket, config: SmtpConfig, name: str) -> None:
        self._wire = wire
        self._host_name = config.host
        super().__init__(config.host, config.port, name, timeout=_TIMEOUT_S, context=tls_context(config))

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self.context.wrap_socket(self._wire.connect(timeout), server_hostname=self._host_name)


def _greet(client: smtplib.SMTP, config: SmtpConfig) -> Iterator[Finding]:
    client.ehlo_or_helo_if_needed()
    if not client.does_esmtp:
        yield Finding("EHLO", Level.WARN, "an old server that knows only HELO: slow, and no address beyond ASCII")
    elif config.pipelining and not client.has_extn("pipelining"):
        yield Finding("EHLO", Level.WARN, "no PIPELINING: each message takes four round trips instead of one")
    else:
        yield Finding("EHLO", Level.OK, f"offers {', '.join(sorted(client.esmtp_features))}")


def _start_tls(client: smtplib.SMTP, config: SmtpConfig) -> Iterator[Finding]:
    if not client.has_extn("starttls"):
        if config.tls is Tls.STARTTLS:
            yield Finding(
                "TLS", Level.FAIL, "STARTTLS is not offered", "use the relay's tls port (465), or tls=none on a network of yours"
            )
        elif not config.is_local:
            yield Finding("TLS", Level.WARN, "STARTTLS is not offered: mail crosses the network readable")
        return
    client.starttls(context=tls_context(config))
    client.ehlo()
    yield _encrypted(client)


def _encrypted(client: smtplib.SMTP) -> Finding:
    version = client.sock.version() if isinstance(client.sock, ssl.SSLSocket) else None
    return Finding("TLS", Level.OK, version or "on")


def _log_in(client: smtplib.SMTP, config: SmtpConfig) -> Iterator[Finding]:
    user, password = config.user or "", config.password or ""
    if not (isinstance(client.sock, ssl.SSLSocket) or config.clear_auth or config.is_local):
        yield Finding("AUTH", Level.FAIL, "the password is not sent without TLS", "use tls=starttls or tls=tls")
        return
    if not client.has_extn("auth"):
        yield Finding(
            "AUTH", Level.FAIL, "the server offers no login here", "check the port and tls=, or leave user and password out"
        )
        return
    offered = client.esmtp_features["auth"].upper().split()
    try:
        mechanism = _smtp_session.choose_mechanism(config, frozenset(offered))
    except Unsupported as error:
        yield Finding("AUTH", Level.FAIL, f"no common way to log in: {error}", f"the server offers {' '.join(offered)}")
        return
    code, reply = 334, b""
    for line in _smtp_session.auth_lines(mechanism, user=user, password=password):
        if code != 334:
            break
        code, reply = client.docmd(line.decode("ascii"))
    if 200 <= code <= 299:
        yield Finding("AUTH", Level.OK, f"logged in as {user}")
        return
    todo = "check user and password; characters like @ : / in them are percent-encoded in the URL"
    yield Finding("AUTH", Level.FAIL, f"{user} is refused: {code} {_text(reply)}", todo)


def _text(reply: bytes | str) -> str:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
