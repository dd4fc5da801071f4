"""A visit to an IMAP mailbox (RFC 3501): mails are read without being marked as read, and taken ones removed by their UIDs."""

from __future__ import annotations

import imaplib
import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, Self

from postroom.errors import Unavailable
from postroom.platform.mail.mailbox_url import MailboxConfig, Security

TIMEOUT_S: Final = 20.0
READ: Final = "$PostroomRead"
"""The mark of a mail that was taken and stays."""

_MOST_AT_ONCE: Final = 4 * 1024 * 1024
"""Bytes of one literal: the server's word is not a reason to fill the memory."""
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


class ImapVisit:
    """See `mailboxes.Visit`."""

    def __init__(self, server: imaplib.IMAP4, config: MailboxConfig, kept_bytes: int) -> None:
        self._server = server
        self._config = config
        self._kept_bytes = kept_bytes
        self._validity = ""

    @classmethod
    @contextmanager
    def begin(cls, config: MailboxConfig, trust: ssl.SSLContext, *, kept_bytes: int) -> Iterator[Self]:
        """Logged in, the folder opened."""
        with _speaking(config):
            server = _connected(config, trust)
        try:
            visit = cls(server, config, kept_bytes)
            visit._open()
            yield visit
            with _speaking(config):
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
        with _speaking(self._config):
            status, data = self._server.uid("FETCH", _uid(name), f"(BODY.PEEK[]<0.{self._kept_bytes}>)")
        if status != "OK" and _LATER.search(text := _text(data)):
            raise Unavailable(f"the mailbox {self._config.name} refuses FETCH: {text}")
        return next((bytes(part[1]) for part in data if isinstance(part, tuple)), None)

    def remove(self, names: Sequence[str]) -> None:
        """Marked as deleted; gone for good where the server removes by UID (RFC 4315). Elsewhere that is left to whoever cleans
        up: a bare EXPUNGE would remove what others marked."""
        if not names:
            return
        uids = ",".join(map(_uid, names))
        if self._config.keep:
            with suppress(Unavailable):  # no such marks here: the mail's name is remembered
                self._ask("STORE", uids, "+FLAGS.SILENT", f"({READ})")
            return
        self._ask("STORE", uids, "+FLAGS.SILENT", r"(\Deleted)")
        if "UIDPLUS" in self._server.capabilities:
            self._ask("EXPUNGE", uids)

    def _open(self) -> None:
        folder = self._config.folder.replace("\\", r"\\").replace('"', r"\"")
        with _speaking(self._config):
            status, data = self._server.select(f'"{folder}"')
        if status != "OK":
            raise Unavailable(f"the mailbox {self._config.name} cannot be opened: {_text(data)}")
        (validity,) = self._server.response("UIDVALIDITY")[1][:1] or [None]
        found = _UID_VALIDITY.search(validity or b"")
        self._validity = found[0].decode() if found else "0"

    def _ask(self, command: str, *words: str) -> list[Any]:
        with _speaking(self._config):
            status, data = self._server.uid(command, *words)
        if status != "OK":
            raise Unavailable(f"the mailbox {self._config.name} refuses {command}: {_text(data)}")
        return data


@contextmanager
def _speaking(config: MailboxConfig) -> Iterator[None]:
    """What goes wrong in the dialogue."""
    try:
        yield
    except (imaplib.IMAP4.error, OSError, EOFError) as error:
        raise Unavailable(f"the mailbox {config.name} cannot be read: {error}") from error


def _connected(config: MailboxConfig, trust: ssl.SSLContext) -> imaplib.IMAP4:
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


def _text(data: Sequence[Any]) -> str:
    return " ".join(part.decode("utf-8", "replace") for part in data if isinstance(part, bytes))[:250]
