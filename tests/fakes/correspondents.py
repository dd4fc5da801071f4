"""The people and machines behind a sink's recipients: what each does with its mail is in the name of its mailbox.

    gone-…     its server returns the mail for good          away-…     it answers that nobody is there
    full-…     its mailbox is full                           leaves-…   unsubscribes by the mailto of List-Unsubscribe
    slow-…     its server says that it still tries           asks-…     writes `unsubscribe` to the return path
    took-…     its server says that it was delivered         forged-…   somebody reports it who does not know its token
    angry-…    presses "this is spam"                        reads-…    fetches the pixel, then follows a link
                                                             presses-…  unsubscribes by the button (RFC 8058)

They bring their mails to a listener as mail servers do: whatever is not answered 250 is brought again. Browsers and mail programs
try again too, where there is no answer.
"""

from __future__ import annotations

import email
import email.policy
import re
import smtplib
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from email.message import EmailMessage
from functools import partial
from html import unescape
from types import TracebackType
from typing import Final
from urllib.parse import parse_qs, urlsplit

import requests

from tests.fakes.returned import complaint, dsn, out_of_office, wish
from tests.fakes.smtp_session import Acceptance
from tests.fakes.smtp_sink import SmtpSink

_AGAIN_S: Final = 0.02
_BROWSER: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
_ANSWERED: Final = frozenset({200, 302})
_MAILTO = re.compile(rb"^List-Unsubscribe:.*?<(mailto:[^>]+)>", re.MULTILINE | re.DOTALL)
Letter = tuple[str, bytes]
"""To whom, and what."""
Request = tuple[str, str]
"""Method and URL."""


class Correspondents:
    """Begin to answer what the sink accepts, until the end of the `with`."""

    def __init__(self, sink: SmtpSink, port: int) -> None:
        self._sink = sink
        self._port = port
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="correspondents")
        self.answered: dict[str, str] = {}
        """What they did, by address, in order, once it was taken."""
        self.answered_at: dict[str, float] = {}
        """When, on the monotonic clock."""
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
        steps: list[Callable[[], None]] = [partial(_ask, *request) for request in requests_of(mail)]
        if (letter := answer(mail)) is not None:
            steps.append(partial(self._bring, letter))
        for step in steps:
            self._repeat(step)
        if steps and not self._stopping.is_set():
            self.answered_at[mail.recipient] = time.monotonic()
            self.answered[mail.recipient] = mail.recipient.partition("-")[0]

    def _repeat(self, step: Callable[[], None]) -> None:
        """Until it is answered well."""
        while not self._stopping.is_set():
            self.tries += 1
            with suppress(smtplib.SMTPException, OSError):
                step()
                return
            self._stopping.wait(_AGAIN_S)

    def _bring(self, letter: Letter) -> None:
        with smtplib.SMTP("127.0.0.1", self._port, timeout=10) as client:
            client.sendmail("", [letter[0]], letter[1])


def answer(mail: Acceptance) -> Letter | None:
    """What its recipient writes; None: nothing."""
    does = mail.recipient.partition("-")[0]
    return _HABITS[does](mail) if does in _HABITS else None


def requests_of(mail: Acceptance) -> list[Request]:
    """What its recipient asks for over HTTP, in order."""
    does = mail.recipient.partition("-")[0]
    return _SURFING[does](mail) if does in _SURFING else []


def _ask(method: str, url: str) -> None:
    """An `OSError`: it was not answered well."""
    form = {"List-Unsubscribe": "One-Click"} if method == "POST" else None
    answered = requests.request(method, url, data=form, headers={"User-Agent": _BROWSER}, timeout=10, allow_redirects=False)
    if answered.status_code not in _ANSWERED:
        raise requests.RequestException(f"{url} answered {answered.status_code}")


def _message(mail: Acceptance) -> EmailMessage:
    found = email.message_from_bytes(mail.content, policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


def read(mail: Acceptance) -> list[Request]:
    """The pixel, and the first link."""
    body = _message(mail).get_body(("html",))
    assert body is not None
    html = str(body.get_content())
    pixel, link = re.search(r'<img src="([^"]+)"', html), re.search(r'<a href="([^"]+)"', html)
    assert pixel, "it has no pixel"
    assert link, "it has no link"
    return [("GET", unescape(pixel[1])), ("GET", unescape(link[1]))]


def _press(mail: Acceptance) -> list[Request]:
    found = re.search(r"<(http[^>]+)>", _message(mail)["List-Unsubscribe"])
    assert found, "there is no button to unsubscribe"
    return [("POST", found[1])]


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
_SURFING: dict[str, Callable[[Acceptance], list[Request]]] = {"reads": read, "presses": _press}
