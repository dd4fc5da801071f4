"""The people and machines behind a sink's recipients: what each does with its mail is in the name of its mailbox.

    gone-…     its server returns the mail for good          away-…     it answers that nobody is there
    full-…     its mailbox is full                           leaves-…   unsubscribes by the mailto of List-Unsubscribe
    slow-…     its server says that it still tries           asks-…     writes `unsubscribe` to the return path
    took-…     its server says that it was delivered         forged-…   somebody reports it who does not know its token
    angry-…    presses "this is spam"

They bring their mails to a listener as mail servers do: whatever is not answered 250 is brought again.
"""

from __future__ import annotations

import re
import smtplib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final
from urllib.parse import parse_qs, urlsplit

from tests.fakes.returned import complaint, dsn, out_of_office, wish
from tests.fakes.smtp_session import Acceptance
from tests.fakes.smtp_sink import SmtpSink

_AGAIN_S: Final = 0.02
_MAILTO = re.compile(rb"^List-Unsubscribe:.*?<(mailto:[^>]+)>", re.MULTILINE | re.DOTALL)
Letter = tuple[str, bytes]
"""To whom, and what."""


class Correspondents:
    """Begin to answer what the sink accepts, until the end of the `with`."""

    def __init__(self, sink: SmtpSink, port: int) -> None:
        self._sink = sink
        self._port = port
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="correspondents")
        self.answered: dict[str, str] = {}
        """What they did, by address, in order, once it was taken."""
        self.tries = 0

    def __enter__(self) -> Correspondents:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        done = 0
        while not self._stopping.wait(_AGAIN_S):
            while done < len(self._sink.accepted) and not self._stopping.is_set():
                self._answer(self._sink.accepted[done])
                done += 1

    def _answer(self, mail: Acceptance) -> None:
        letter = answer(mail)
        while letter is not None and not self._stopping.is_set():
            self.tries += 1
            try:
                with smtplib.SMTP("127.0.0.1", self._port, timeout=10) as client:
                    client.sendmail("", [letter[0]], letter[1])
            except (smtplib.SMTPException, OSError):
                self._stopping.wait(_AGAIN_S)
            else:
                self.answered[mail.recipient] = mail.recipient.partition("-")[0]
                return


def answer(mail: Acceptance) -> Letter | None:
    """What its recipient writes; None: nothing."""
    does = mail.recipient.partition("-")[0]
    return _HABITS[does](mail) if does in _HABITS else None


def _report(action: str, status: str, text: str = "") -> Callable[[Acceptance], Letter]:
    return lambda mail: (
        mail.mail_from,
        dsn(mail.mail_from, mail.recipient, action=action, status=status, text=text, original=mail.content),
    )


def _complain(mail: Acceptance) -> Letter:
    to = f"fbl@{mail.mail_from.partition('@')[2]}"
    return to, complaint(to, f"Return-Path: <{mail.mail_from}>\r\n".encode() + mail.content)


def _leave(mail: Acceptance) -> Letter:
    found = _MAILTO.search(mail.content)
    assert found, "there is no address to unsubscribe by mail"
    mailto = urlsplit(found[1].decode())
    return mailto.path, wish(mailto.path, mail.recipient, parse_qs(mailto.query)["subject"][0])


def _forge(mail: Acceptance) -> Letter:
    """To where anybody may write, with the token of the return path changed."""
    token, _, domain = mail.mail_from.partition("@")
    forged = token[:-1] + ("3" if token[-1] == "2" else "2")
    returned = f"Return-Path: <{forged}@{domain}>\r\nTo: {mail.recipient}\r\n\r\n".encode()
    return f"fbl@{domain}", dsn(f"{forged}@{domain}", mail.recipient, original=returned)


_HABITS: dict[str, Callable[[Acceptance], Letter]] = {
    "gone": _report("failed", "5.1.1"),
    "full": _report("failed", "5.2.2", "552 5.2.2 mailbox full"),
    "slow": _report("delayed", "4.4.1", "451 4.4.1 no answer from host"),
    "took": _report("delivered", "2.0.0", "250 2.0.0 Ok"),
    "angry": _complain,
    "away": lambda mail: (mail.mail_from, out_of_office(mail.mail_from, mail.recipient)),
    "leaves": _leave,
    "asks": lambda mail: (mail.mail_from, wish(mail.mail_from, mail.recipient, "unsubscribe")),
    "forged": _forge,
}
