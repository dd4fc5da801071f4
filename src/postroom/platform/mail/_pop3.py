"""A visit to a POP3 mailbox (RFC 1939): what is removed is gone once the visit ends well (QUIT)."""

from __future__ import annotations

import poplib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, Self

from postroom.errors import Unavailable
from postroom.platform.mail.mailbox_url import MailboxConfig, Security

TIMEOUT_S: Final = 20.0
MAX_BYTES: Final = 10 * 1024 * 1024
"""Of one mail. POP3 has no way to fetch only so many bytes."""


class Pop3Visit:
    """See `mailboxes.Visit`."""

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
        with _speaking(config):
            server = _connected(config, trust)
        try:
            yield cls(server, config, kept_bytes)
            with _speaking(config):
                server.quit()
        finally:
            with suppress(OSError):
                server.close()

    def names(self) -> list[str]:
        """By UIDL: a name for as long as the mail is there."""
        with _speaking(self._config):
            self._numbers = {name: number for number, name in _numbered(self._server.uidl()[1])}
            self._sizes = {number: int(size) for number, size in _numbered(self._server.list()[1]) if size.isdigit()}
        return sorted(self._numbers, key=self._numbers.__getitem__)

    def fetch(self, name: str) -> bytes | None:
        """All that is read of it."""
        number = self._numbers.get(name)
        if number is None or self._sizes.get(number, 0) > MAX_BYTES:
            return None
        if self._broken:
            raise Unavailable(
                f"the mailbox {self._config.name} has a mail with a line that is too long: it is passed over next time"
            )
        with _speaking(self._config):
            try:
                return b"\r\n".join(self._server.retr(number)[1])[: self._kept_bytes]
            except poplib.error_proto as error:
                self._broken = error.args == ("line too long",)  # the rest of the line comes in place of the next answer
                if self._broken or _is_about_the_mail(error):
                    return None
                raise

    def remove(self, names: Sequence[str]) -> None:
        """At the end of the visit. There are no marks: what stays is remembered by its name."""
        with _speaking(self._config):
            for name in () if self._config.keep else names:
                self._server.dele(self._numbers[name])


@contextmanager
def _speaking(config: MailboxConfig) -> Iterator[None]:
    """What goes wrong in the dialogue."""
    try:
        yield
    except (poplib.error_proto, OSError, EOFError) as error:
        raise Unavailable(f"the mailbox {config.name} cannot be read: {_text(error)}") from error


def _connected(config: MailboxConfig, trust: ssl.SSLContext) -> poplib.POP3:
    server: poplib.POP3
    if config.security is Security.TLS:
        server = poplib.POP3_SSL(config.host, config.port, context=trust, timeout=TIMEOUT_S)
    else:
        server = poplib.POP3(config.host, config.port, timeout=TIMEOUT_S)
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


def _text(error: Exception) -> str:
    """Of poplib's errors the words are bytes."""
    first = error.args[0] if error.args else error
    return first.decode("utf-8", "replace")[:250] if isinstance(first, bytes) else str(error)[:250]
