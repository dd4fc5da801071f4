"""Looks into a mailbox for mail that came back, for those who cannot receive SMTP.

A mail that was taken is removed, never before what it says is stored; killed in between, it is taken again, and the same mail
makes the same events. A mail that is nothing of ours is left as it is, unread, and its name remembered, as is one that cannot be
opened or was to be kept: so each is read once. What is no longer there is forgotten.

The envelope is gone: whom a mail was sent to, its head says (`Delivered-To` and its kin). Nothing of that is believed but a
token that opens.
"""

from __future__ import annotations

import hashlib
import logging
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

POLL_S: Final = 60.0
MAX_WAIT_S: Final = 900.0
MAX_PER_SESSION: Final = 500
"""Mails read in one connection; the next follows at once where there are more."""
MAX_TRIES: Final = 5
"""Of one mail, in as many visits."""
_TOGETHER: Final = 20
_MAX_HEAD: Final = 32 * 1024
_MAX_ADDRESSES: Final = 10
_MAX_LOOKED_AT: Final = 100
_NAMED_IN = ("delivered-to", "x-original-to", "x-delivered-to", "envelope-to", "x-envelope-to", "x-rcpt-to", "to", "cc")
_ADDRESS = re.compile(r"[^\s<>()\",;:]{1,256}@[^\s<>()\",;:]{1,255}")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_log = logging.getLogger(__name__)


class MailboxSession(Protocol):
    """One connection to a mailbox (platform.mail.mailboxes)."""

    def names(self) -> list[str]: ...
    def fetch(self, name: str) -> bytes | None: ...
    def remove(self, names: Sequence[str]) -> None: ...


class Mailbox(Protocol):
    """A mailbox (platform.mail.mailboxes)."""

    @property
    def name(self) -> str: ...
    @property
    def keeps(self) -> bool: ...
    def session(self) -> AbstractContextManager[MailboxSession]: ...


class MailboxPoller:
    """One mailbox, for one process at a time; two would only do the same work twice."""

    def __init__(
        self,
        mailbox: Mailbox,
        mailroom: InboundMailProcessor,
        tables: Tables,
        *,
        trouble: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`trouble` is told what keeps it from working, and the empty text once that is over."""
        self._mailbox = mailbox
        self._mailroom = mailroom
        self._left = _Left(tables, mailbox.name)
        self._trouble = trouble
        self._broke: Counter[str] = Counter()
        """How often the mailbox broke while a mail was read."""

    def run(self, stopped: threading.Event) -> None:
        """Until stopped. The store or the mailbox out of order: again later, less often each time."""
        failures = 0
        while not stopped.is_set():
            try:
                more = self.once()
            except PostroomError as error:
                failures += 1
                self._trouble(str(error))
                _log.warning("%s", error)
                stopped.wait(min(MAX_WAIT_S, POLL_S * 2 ** min(failures - 1, 10)))
                continue
            if failures:
                failures = 0
                self._trouble("")
            if not more:
                stopped.wait(POLL_S)

    def once(self) -> bool:
        """Look into it; whether there is more to read. `Unavailable`."""
        with self._mailbox.session() as session:
            names = session.names()
            new = self._left.new(names)
            for at in range(0, min(len(new), MAX_PER_SESSION), _TOGETHER):
                self._collect(session, new[at : min(at + _TOGETHER, MAX_PER_SESSION)])
        return len(new) > MAX_PER_SESSION

    def _collect(self, session: MailboxSession, names: Sequence[str]) -> None:
        mails = self._fetched(session, names)
        verdicts = self._take(mails)
        taken = [name for name, verdict in verdicts.items() if verdict is not MailVerdict.STRANGE]
        session.remove(taken)
        self._left.add([name for name in mails if self._mailbox.keeps or name not in taken])

    def _fetched(self, session: MailboxSession, names: Sequence[str]) -> dict[str, InboundMail]:
        mails = {}
        for name in names:
            content = self._fetch(session, name)
            if content is None:
                self._left.add([name])  # now: it may have broken the connection, and is not to do so each time
            else:
                mails[name] = InboundMail(self._recipients(content), content)
        return mails

    def _fetch(self, session: MailboxSession, name: str) -> bytes | None:
        """A mail on which the mailbox breaks every time does not keep all others waiting for ever."""
        try:
            return session.fetch(name)
        except Temporary:
            self._broke[name] += 1
            if self._broke[name] >= MAX_TRIES:
                _log.warning("a mail in %s cannot be read, and is left", self._mailbox.name)
                self._left.add([name])
            raise

    def _take(self, mails: Mapping[str, InboundMail]) -> dict[str, MailVerdict]:
        """What became of each; one that cannot be opened is left out. `Temporary`, `Conflict`: of the store; again later."""
        try:
            return dict(zip(mails, self._mailroom.take(list(mails.values())), strict=True))
        except (Temporary, Conflict):
            raise
        except Exception:  # noqa: BLE001  # one is the reason: each alone
            return {name: verdict for name, mail in mails.items() for verdict in self._take_one(mail)}

    def _take_one(self, mail: InboundMail) -> list[MailVerdict]:
        try:
            return self._mailroom.take([mail])
        except (Temporary, Conflict):
            raise
        except PostroomError as error:
            _log.warning("a mail in %s cannot be opened, and is left: %s", self._mailbox.name, error)
            return []
        except Exception:  # noqa: BLE001  # a mail that shows a mistake of ours would be there again after each start
            _log.exception("a mail in %s cannot be opened, and is left", self._mailbox.name)
            return []

    def _recipients(self, content: bytes) -> tuple[str, ...]:
        """Addresses of ours that its head names."""
        head = parse_header(_END_OF_HEAD.split(content[:_MAX_HEAD], 1)[0].replace(b"\r\n", b"\n"))
        named = (value for name in _NAMED_IN for value in head.fields.get(name, ()))
        found = dict.fromkeys(address for value in named for address in _ADDRESS.findall(value))
        ours = (address for address in islice(found, _MAX_LOOKED_AT) if self._mailroom.knows(address))
        return tuple(islice(ours, _MAX_ADDRESSES))


class _Left:
    """The names of mails that were read and are still there."""

    def __init__(self, tables: Tables, mailbox: str) -> None:
        self._tables = tables
        self._partition = f"#mailbox#{_digest(mailbox)}"
        self._digests: set[str] | None = None

    def new(self, names: Sequence[str]) -> list[str]:
        """Those not read yet. The others are all that there is to remember."""
        there = {_digest(name): name for name in names}
        known = self._loaded()
        self._write([Delete(self._place(digest)) for digest in known - there.keys()])
        known &= there.keys()
        return [name for digest, name in there.items() if digest not in known]

    def add(self, names: Sequence[str]) -> None:
        """They were read, and stay."""
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
