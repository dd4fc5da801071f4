"""A mailbox elsewhere that is read from time to time, by IMAP (RFC 3501) or POP3 (RFC 1939), for installations that cannot
receive SMTP.

A session is one connection: list the mails, read some, remove those that were processed. Of a mail no more is kept than its
reader reads. A removal is certain once the session ends without an error; after a broken session it may have happened or not, and
the next session lists what is left. All failures are `Unavailable`.

IMAP reads mails without marking them as read, and removes by UID. POP3 removes when the session ends well (QUIT).
"""

from __future__ import annotations

import imaplib
import poplib
import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, Self

from postroom.errors import Unavailable
from postroom.platform.mail.mailbox_url import MailboxConfig, Security

TIMEOUT_S: Final = 20.0
READ: Final = "$PostroomRead"
"""Keyword of a mail that was processed and stays (option keep=yes)."""
_MOST_AT_ONCE: Final = 4 * 1024 * 1024
"""Bytes of one literal: the server must not make this process fill its memory."""
_UID_VALIDITY = re.compile(rb"[0-9]{1,20}")
_LATER = re.compile(r"\[(UNAVAILABLE|INUSE|LIMIT|SERVERBUG)\b", re.IGNORECASE)
"""RFC 5530: the refusal is not about this mail."""


class _Bounded:
    """Refuses a literal that is larger than anything asked for."""

    def read(self, size: int) -> bytes:
        if size > _MOST_AT_ONCE:
            raise imaplib.IMAP4.abort(f"the server wants to send {size} bytes at once")
        return super().read(size)  # type: ignore[misc,no-any-return]  # of the class that it is mixed into


class _Clear(_Bounded, imaplib.IMAP4):
    pass


class _Tls(_Bounded, imaplib.IMAP4_SSL):
    pass


class ImapSession:
    """A session; see the module."""

    def __init__(self, server: imaplib.IMAP4, config: MailboxConfig, kept_bytes: int) -> None:
        self._server = server
        self._config = config
        self._kept_bytes = kept_bytes
        self._validity = ""

    @classmethod
    @contextmanager
    def begin(cls, config: MailboxConfig, trust: ssl.SSLContext, *, kept_bytes: int) -> Iterator[Self]:
        """Logged in, the folder opened."""
        with _imap_errors(config):
            server = _connect_imap(config, trust)
        try:
            session = cls(server, config, kept_bytes)
            session._open()
            yield session
            with _imap_errors(config):
                server.logout()
        finally:
            with suppress(imaplib.IMAP4.error, OSError):
                server.shutdown()

    def names(self) -> list[str]:
        """`UIDVALIDITY.UID`: should the server number its mails anew, they have new names."""
        criteria = ["UNDELETED", "UNKEYWORD", READ] if self._config.keep else ["UNDELETED"]
        (found,) = self._ask("SEARCH", *criteria)[:1] or [b""]
        uids = sorted(int(uid) for uid in (found or b"").split() if uid.isdigit())
        return [f"{self._validity}.{uid}" for uid in uids]

    def fetch(self, name: str) -> bytes | None:
        """Its beginning."""
        with _imap_errors(self._config):
            status, data = self._server.uid("FETCH", _uid(name), f"(BODY.PEEK[]<0.{self._kept_bytes}>)")
        if status != "OK" and _LATER.search(text := _imap_text(data)):
            raise Unavailable(f"the mailbox {self._config.name} refuses FETCH: {text}")
        return next((bytes(part[1]) for part in data if isinstance(part, tuple)), None)

    def remove(self, names: Sequence[str]) -> None:
        """Mark as deleted, and expunge if the server can by UID (RFC 4315). Else the mailbox's owner must: a bare EXPUNGE would
        remove what others marked."""
        if not names:
            return
        uids = ",".join(map(_uid, names))
        if self._config.keep:
            with suppress(Unavailable):  # no keywords here: the mail's name is remembered
                self._ask("STORE", uids, "+FLAGS.SILENT", f"({READ})")
            return
        self._ask("STORE", uids, "+FLAGS.SILENT", r"(\Deleted)")
        if "UIDPLUS" in self._server.capabilities:
            self._ask("EXPUNGE", uids)

    def _open(self) -> None:
        folder = self._config.folder.replace("\\", r"\\").replace('"', r"\"")
        with _imap_errors(self._config):
            status, data = self._server.select(f'"{folder}"')
        if status != "OK":
            raise Unavailable(f"the mailbox {self._config.name} cannot be opened: {_imap_text(data)}")
        (validity,) = self._server.response("UIDVALIDITY")[1][:1] or [None]
        found = _UID_VALIDITY.search(validity or b"")
        self._validity = found[0].decode() if found else "0"

    def _ask(self, command: str, *words: str) -> list[Any]:
        with _imap_errors(self._config):
            status, data = self._server.uid(command, *words)
        if status != "OK":
            raise Unavailable(f"the mailbox {self._config.name} refuses {command}: {_imap_text(data)}")
        return data


@contextmanager
def _imap_errors(config: MailboxConfig) -> Iterator[None]:
    """Turns errors of the connection into `Unavailable`."""
    try:
        yield
    except (imaplib.IMAP4.error, OSError, EOFError) as error:
        raise Unavailable(f"the mailbox {config.name} cannot be read: {error}") from error


def _connect_imap(config: MailboxConfig, trust: ssl.SSLContext) -> imaplib.IMAP4:
    server: imaplib.IMAP4
    if config.security is Security.TLS:
        server = _Tls(config.host, config.port, ssl_context=trust, timeout=TIMEOUT_S)
    else:
        server = _Clear(config.host, config.port, timeout=TIMEOUT_S)
    try:
        if config.security is Security.STARTTLS:
            server.starttls(trust)
        server.login(config.user, config.password)
    except BaseException:
        with suppress(imaplib.IMAP4.error, OSError):
            server.shutdown()
        raise
    return server


def _uid(name: str) -> str:
    return name.rpartition(".")[2]


def _imap_text(data: Sequence[Any]) -> str:
    return " ".join(part.decode("utf-8", "replace") for part in data if isinstance(part, bytes))[:250]


POP3_TIMEOUT_S: Final = 20.0
POP3_MAX_BYTES: Final = 10 * 1024 * 1024
"""Of one mail. POP3 has no way to fetch only so many bytes."""


class Pop3Session:
    """A session; see the module."""

    def __init__(self, server: poplib.POP3, config: MailboxConfig, kept_bytes: int) -> None:
        self._server = server
        self._config = config
        self._kept_bytes = kept_bytes
        self._numbers: dict[str, int] = {}
        self._sizes: dict[int, int] = {}
        self._broken = False

    @classmethod
    @contextmanager
    def begin(cls, config: MailboxConfig, trust: ssl.SSLContext, *, kept_bytes: int) -> Iterator[Self]:
        """Logged in."""
        with _pop3_errors(config):
            server = _connect_pop3(config, trust)
        try:
            yield cls(server, config, kept_bytes)
            with _pop3_errors(config):
                server.quit()
        finally:
            with suppress(OSError):
                server.close()

    def names(self) -> list[str]:
        """By UIDL: a name for as long as the mail is there."""
        with _pop3_errors(self._config):
            self._numbers = {name: number for number, name in _numbered(self._server.uidl()[1])}
            self._sizes = {number: int(size) for number, size in _numbered(self._server.list()[1]) if size.isdigit()}
        return sorted(self._numbers, key=self._numbers.__getitem__)

    def fetch(self, name: str) -> bytes | None:
        """All that is read of it."""
        number = self._numbers.get(name)
        if number is None or self._sizes.get(number, 0) > POP3_MAX_BYTES:
            return None
        if self._broken:
            raise Unavailable(
                f"the mailbox {self._config.name} has a mail with a line that is too long: it is passed over next time"
            )
        with _pop3_errors(self._config):
            try:
                return b"\r\n".join(self._server.retr(number)[1])[: self._kept_bytes]
            except poplib.error_proto as error:
                self._broken = error.args == ("line too long",)  # the rest of the line comes in place of the next answer
                if self._broken or _is_about_the_mail(error):
                    return None
                raise

    def remove(self, names: Sequence[str]) -> None:
        """At the end of the visit. There are no marks: what stays is remembered by its name."""
        with _pop3_errors(self._config):
            for name in () if self._config.keep else names:
                self._server.dele(self._numbers[name])


@contextmanager
def _pop3_errors(config: MailboxConfig) -> Iterator[None]:
    """Turns errors of the connection into `Unavailable`."""
    try:
        yield
    except (poplib.error_proto, OSError, EOFError) as error:
        raise Unavailable(f"the mailbox {config.name} cannot be read: {_pop3_text(error)}") from error


def _connect_pop3(config: MailboxConfig, trust: ssl.SSLContext) -> poplib.POP3:
    server: poplib.POP3
    if config.security is Security.TLS:
        server = poplib.POP3_SSL(config.host, config.port, context=trust, timeout=POP3_TIMEOUT_S)
    else:
        server = poplib.POP3(config.host, config.port, timeout=POP3_TIMEOUT_S)
    try:
        if config.security is Security.STARTTLS:
            server.stls(trust)
        server.user(config.user)
        server.pass_(config.password)
    except BaseException:
        with suppress(OSError):
            server.close()
        raise
    return server


def _numbered(lines: Sequence[bytes]) -> Iterator[tuple[int, str]]:
    """Of `number text`."""
    for line in lines:
        number, _, text = line.decode("utf-8", "replace").partition(" ")
        if number.isdigit() and text.strip():
            yield int(number), text.split()[0]


def _is_about_the_mail(error: poplib.error_proto) -> bool:
    """The server's own words are bytes; what poplib says itself (the line was cut) is not. RFC 3206 and 2449 name what passes."""
    (words,) = error.args[:1] or ("",)
    return isinstance(words, bytes) and b"[SYS/TEMP]" not in words and b"[IN-USE]" not in words


def _pop3_text(error: Exception) -> str:
    """Of poplib's errors the words are bytes."""
    first = error.args[0] if error.args else error
    return first.decode("utf-8", "replace")[:250] if isinstance(first, bytes) else str(error)[:250]


class Mailbox:
    """One mailbox; see events.mailbox_poller for how it is used."""

    def __init__(self, config: MailboxConfig, *, kept_bytes: int, trust: ssl.SSLContext | None = None) -> None:
        """`kept_bytes`: of each mail. `trust`: None for the system's certificate authorities."""
        self._config = config
        self._kept_bytes = kept_bytes
        self._trust = trust

    @property
    def name(self) -> str:
        """Identifies the mailbox, without its password."""
        return self._config.name

    @property
    def keeps(self) -> bool:
        """Whether mail stays after it was processed."""
        return self._config.keep

    @contextmanager
    def session(self) -> Iterator[ImapSession | Pop3Session]:
        """A connection that is logged in. Raises `Unavailable`."""
        trust = self._trust or ssl.create_default_context()
        made = ImapSession if self._config.protocol == "imap" else Pop3Session
        with made.begin(self._config, trust, kept_bytes=self._kept_bytes) as session:
            yield session
