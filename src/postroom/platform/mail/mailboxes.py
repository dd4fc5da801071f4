"""Mailboxes of others that are looked into from time to time, by IMAP or POP3: for those who cannot receive SMTP.

A visit is one connection: what is there, some of it read, what was taken removed. Of a mail no more is kept than its reader
reads. A removal counts at the latest when the visit ends without an error; a visit that breaks may have removed or not, and
whoever comes again finds what is left. Whatever goes wrong is `Unavailable`.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from postroom.platform.mail._imap import ImapVisit
from postroom.platform.mail._pop3 import Pop3Visit
from postroom.platform.mail.mailbox_url import MailboxConfig


class Visit(Protocol):
    """One connection."""

    def names(self) -> list[str]:
        """Every mail that is there, by a name that it keeps, oldest first."""
        ...

    def fetch(self, name: str) -> bytes | None:
        """The mail, as far as it is read; None: it is gone, too large, or cannot be had."""
        ...

    def remove(self, names: Sequence[str]) -> None:
        """They were taken. Of a mailbox that keeps its mail: only marked, where there are marks."""
        ...


class Mailbox:
    """One mailbox."""

    def __init__(self, config: MailboxConfig, *, kept_bytes: int, trust: ssl.SSLContext | None = None) -> None:
        """`kept_bytes`: of one mail. `trust`: whose certificates are believed; None: those that the system believes."""
        self._config = config
        self._kept_bytes = kept_bytes
        self._trust = trust

    @property
    def name(self) -> str:
        """For people, and to remember what was seen in it."""
        return self._config.name

    @property
    def keeps(self) -> bool:
        """Whether mail that was taken stays."""
        return self._config.keep

    @contextmanager
    def visit(self) -> Iterator[Visit]:
        """A connection, logged in. `Unavailable`."""
        trust = self._trust or ssl.create_default_context()
        made = ImapVisit if self._config.protocol == "imap" else Pop3Visit
        with made.begin(self._config, trust, kept_bytes=self._kept_bytes) as visit:
            yield visit
