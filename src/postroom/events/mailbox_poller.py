"""Polls a mailbox (IMAP or POP3) for inbound mail, for installations that cannot receive SMTP.

- A processed mail is removed, never before its events are stored. After a crash in between it is processed again, and gives the
  same events.
- A mail that is not ours stays in the mailbox, unread, and its name is remembered, so that each is read once. The same holds for
  mails that cannot be processed, and for all mails if the mailbox is configured to keep them. Names no longer in the mailbox are
  forgotten.
- The envelope is gone, so recipients come from the header (`Delivered-To` and the like). Only addresses with a valid token count.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Final, Protocol

from postroom.errors import Conflict, PostroomError, Temporary
from postroom.events.bounce_parser.mime import parse_header
from postroom.events.inbound_mail import InboundMailProcessor
from postroom.ledger.collection import iterate_items
from postroom.model.inbound_mail import InboundMail, MailVerdict
from postroom.platform.ports.tables import MAX_WRITES, Delete, ItemKey, Put, Tables
from postroom.telemetry.logs import event_logger

POLL_S: Final = 60.0
MAX_WAIT_S: Final = 900.0
MAX_PER_SESSION: Final = 500
"""Mails read in one session; the next session follows at once if there are more."""
MAX_TRIES: Final = 5
"""Sessions that may break on one mail before it is skipped."""
_GROUP: Final = 20
_MAX_HEADER_BYTES: Final = 32 * 1024
_MAX_ADDRESSES: Final = 10
_MAX_CANDIDATES: Final = 100
_RECIPIENT_FIELDS = ("delivered-to", "x-original-to", "x-delivered-to", "envelope-to", "x-envelope-to", "x-rcpt-to", "to", "cc")
_ADDRESS = re.compile(r"[^\s<>()\",;:]{1,256}@[^\s<>()\",;:]{1,255}")
_END_OF_HEADER = re.compile(rb"\r?\n\r?\n")
_log = event_logger(__name__)


class PolledSession(Protocol):
    """A connection to a mailbox (platform.mail.mailbox)."""

    def names(self) -> list[str]: ...
    def fetch(self, name: str) -> bytes | None: ...
    def remove(self, names: Sequence[str]) -> None: ...


class PolledMailbox(Protocol):
    """A mailbox to poll (platform.mail.mailbox)."""

    @property
    def name(self) -> str: ...
    @property
    def keeps(self) -> bool: ...
    def session(self) -> AbstractContextManager[PolledSession]: ...


class MailboxPoller:
    """Polls one mailbox. One process at a time should; two would do the same work twice."""

    def __init__(
        self,
        mailbox: PolledMailbox,
        processor: InboundMailProcessor,
        tables: Tables,
        *,
        on_trouble: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`on_trouble` is called with an error text, and with an empty text when it is over."""
        self._mailbox = mailbox
        self._processor = processor
        self._seen = _SeenMails(tables, mailbox.name)
        self._on_trouble = on_trouble
        self._broke: Counter[str] = Counter()
        """How often the session broke while a mail was fetched, by name."""

    def run(self, stopped: threading.Event) -> None:
        """Run until stopped. After an error of the mailbox or the store it polls less and less often, at least every 15 min."""
        failures = 0
        while not stopped.is_set():
            try:
                more = self.once()
            except PostroomError as error:
                failures += 1
                self._on_trouble(str(error))
                _log.warning("mailbox.poll_failed", mailbox=self._mailbox.name, reason=str(error))
                stopped.wait(min(MAX_WAIT_S, POLL_S * 2 ** min(failures - 1, 10)))
                continue
            if failures:
                failures = 0
                self._on_trouble("")
            if not more:
                stopped.wait(POLL_S)

    def once(self) -> bool:
        """One session; returns whether there is more to read. Raises `Unavailable`."""
        with self._mailbox.session() as session:
            names = session.names()
            new = self._seen.new(names)
            for at in range(0, min(len(new), MAX_PER_SESSION), _GROUP):
                self._collect(session, new[at : min(at + _GROUP, MAX_PER_SESSION)])
        return len(new) > MAX_PER_SESSION

    def _collect(self, session: PolledSession, names: Sequence[str]) -> None:
        mails = self._fetched(session, names)
        verdicts = self._process(mails)
        taken = [name for name, verdict in verdicts.items() if verdict is not MailVerdict.STRANGE]
        session.remove(taken)
        self._seen.add([name for name in mails if self._mailbox.keeps or name not in taken])

    def _fetched(self, session: PolledSession, names: Sequence[str]) -> dict[str, InboundMail]:
        mails = {}
        for name in names:
            content = self._fetch(session, name)
            if content is None:
                self._seen.add([name])  # at once: it may have broken the connection, and must not do so each time
            else:
                mails[name] = InboundMail(self._recipients(content), content)
        return mails

    def _fetch(self, session: PolledSession, name: str) -> bytes | None:
        """A mail that breaks the session every time is skipped after `MAX_TRIES`."""
        try:
            return session.fetch(name)
        except Temporary:
            self._broke[name] += 1
            if self._broke[name] >= MAX_TRIES:
                _log.warning("mailbox.mail_skipped", mailbox=self._mailbox.name, reason="the session broke while it was fetched")
                self._seen.add([name])
            raise

    def _process(self, mails: Mapping[str, InboundMail]) -> dict[str, MailVerdict]:
        """Each mail's verdict; a mail that cannot be processed is left out. Raises `Temporary` or `Conflict` of the store."""
        try:
            return dict(zip(mails, self._processor.process(list(mails.values())), strict=True))
        except (Temporary, Conflict):
            raise
        except Exception:  # noqa: BLE001  # one of them is the reason: try each alone
            return {name: verdict for name, mail in mails.items() for verdict in self._process_one(mail)}

    def _process_one(self, mail: InboundMail) -> list[MailVerdict]:
        try:
            return self._processor.process([mail])
        except (Temporary, Conflict):
            raise
        except PostroomError as error:
            _log.warning("mailbox.mail_skipped", mailbox=self._mailbox.name, reason=str(error))
            return []
        except Exception:  # noqa: BLE001  # a bug of ours: the mail would fail again after each start
            _log.error("mailbox.mail_skipped", exc_info=True, mailbox=self._mailbox.name)
            return []

    def _recipients(self, content: bytes) -> tuple[str, ...]:
        """Addresses of ours in the header."""
        header = parse_header(_END_OF_HEADER.split(content[:_MAX_HEADER_BYTES], 1)[0].replace(b"\r\n", b"\n"))
        named = (value for name in _RECIPIENT_FIELDS for value in header.fields.get(name, ()))
        found = dict.fromkeys(address for value in named for address in _ADDRESS.findall(value))
        ours = (address for address in islice(found, _MAX_CANDIDATES) if self._processor.accepts(address))
        return tuple(islice(ours, _MAX_ADDRESSES))


class _SeenMails:
    """The names of mails that were read and are still in the mailbox, as digests."""

    def __init__(self, tables: Tables, mailbox: str) -> None:
        self._tables = tables
        self._partition = f"#mailbox#{_digest(mailbox)}"
        self._digests: set[str] | None = None

    def new(self, names: Sequence[str]) -> list[str]:
        """Names not read yet. Forgets names that are no longer in the mailbox."""
        there = {_digest(name): name for name in names}
        known = self._loaded()
        self._write([Delete(self._place(digest)) for digest in known - there.keys()])
        known &= there.keys()
        return [name for digest, name in there.items() if digest not in known]

    def add(self, names: Sequence[str]) -> None:
        """Note mails as read."""
        digests = [_digest(name) for name in names]
        self._write([Put(self._place(digest), {}) for digest in digests])
        self._loaded().update(digests)

    def _loaded(self) -> set[str]:
        if self._digests is None:
            self._digests = {item.key.sort for item in iterate_items(self._tables, self._partition)}
        return self._digests

    def _write(self, writes: Sequence[Put | Delete]) -> None:
        for at in range(0, len(writes), MAX_WRITES):
            self._tables.write(writes[at : at + MAX_WRITES])

    def _place(self, digest: str) -> ItemKey:
        return ItemKey(self._partition, digest)


def _digest(name: str) -> str:
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
