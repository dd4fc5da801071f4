"""A scripted IMAP and a scripted POP3 server over one mailbox, each in threads of its own, on loopback.

They know as much of their protocols as a visit needs, keep what they hold in a `Store` that tests look at, and misbehave at a command
when told (`Store.faults`).
"""

from __future__ import annotations

import re
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

USER, PASSWORD = "post@shop.example", "p@ss/word"


@dataclass
class Kept:
    """One mail."""

    uid: int
    content: bytes
    flags: set[str] = field(default_factory=set)


class Store:
    """What the mailbox holds, and how its server behaves."""

    def __init__(self, *, uidplus: bool = True, keywords: bool = True) -> None:
        self.mails: list[Kept] = []
        self.validity = 7
        self.uidplus = uidplus
        self.keywords = keywords
        self.fetched: list[int] = []
        """By uid, every time."""
        self.logins = 0
        self.faults: dict[str, str] = {}
        """By command: `drop` closes the line instead of answering, anything else is the answer (`NO …`)."""
        self.secure = False
        self._next = 1

    def add(self, *contents: bytes) -> None:
        for content in contents:
            self.mails.append(Kept(self._next, content))
            self._next += 1

    @property
    def uids(self) -> list[int]:
        """Of what is still there and not marked as deleted."""
        return [mail.uid for mail in self.mails if r"\Deleted" not in mail.flags]


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    store: Store
    tls: ssl.SSLContext | None
    immediate: bool


class _Handler(socketserver.StreamRequestHandler):
    server: _Server
    timeout = 10
    disable_nagle_algorithm = True

    def setup(self) -> None:
        if self.server.immediate and self.server.tls is not None:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
            self.server.store.secure = True
        super().setup()

    def protect(self) -> None:
        assert self.server.tls is not None
        self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        self.server.store.secure = True
        self.connection = self.request
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", buffering=0)

    def handle(self) -> None:
        try:
            self.talk()
        except (OSError, _Dropped):
            return

    def finish(self) -> None:
        try:
            super().finish()
        except OSError:
            return
        finally:
            self.request.close()

    def talk(self) -> None:
        raise NotImplementedError

    def say(self, *lines: bytes) -> None:
        self.wfile.write(b"".join(line + b"\r\n" for line in lines))

    def fault(self, command: str) -> str:
        """The scripted answer; empty: none."""
        answer = self.server.store.faults.get(command, "")
        if answer == "drop":
            raise _Dropped
        return answer


class _Dropped(Exception):
    """The line is closed."""


class _Imap(_Handler):
    def talk(self) -> None:
        self.say(b"* OK IMAP4rev1 ready")
        while raw := self.rfile.readline():
            tag, _, line = raw.decode().rstrip("\r\n").partition(" ")
            command, _, rest = line.partition(" ")
            name = rest.split(" ")[0] if command.upper() == "UID" else command
            if answer := self.fault(name.upper()):
                self.say(f"{tag} {answer}".encode())
                continue
            getattr(self, f"do_{name.lower()}")(rest)
            self.say(f"{tag} OK done".encode())
            if name.upper() == "STARTTLS":
                self.protect()
            if name.upper() == "LOGOUT":
                return

    def do_capability(self, rest: str) -> None:
        self.say(b"* CAPABILITY IMAP4rev1 STARTTLS" + (b" UIDPLUS" if self.server.store.uidplus else b""))

    def do_starttls(self, rest: str) -> None:
        """Nothing to say before the tagged answer."""

    def do_logout(self, rest: str) -> None:
        self.say(b"* BYE")

    def do_login(self, rest: str) -> None:
        if rest != f'{USER} "{PASSWORD}"':
            self.server.store.faults["SELECT"] = "NO wrong password"
        self.server.store.logins += 1

    def do_select(self, rest: str) -> None:
        store = self.server.store
        self.say(f"* {len(store.mails)} EXISTS".encode(), f"* OK [UIDVALIDITY {store.validity}] uids".encode())

    def do_uid(self, rest: str) -> None:
        raise AssertionError(rest)

    def do_search(self, rest: str) -> None:
        marked = "$PostroomRead" in rest
        found = [mail.uid for mail in self.server.store.mails if r"\Deleted" not in mail.flags]
        if marked:
            found = [mail.uid for mail in self.server.store.mails if mail.uid in found and "$PostroomRead" not in mail.flags]
        self.say(("* SEARCH " + " ".join(map(str, found))).rstrip().encode())

    def do_fetch(self, rest: str) -> None:
        asked = re.fullmatch(r"FETCH (\d+) \(BODY\.PEEK\[\]<0\.(\d+)>\)", rest)
        assert asked, rest
        for number, mail in enumerate(self.server.store.mails, 1):
            if mail.uid == int(asked[1]):
                self.server.store.fetched.append(mail.uid)
                part = mail.content[: int(asked[2])]
                self.wfile.write(f"* {number} FETCH (UID {mail.uid} BODY[]<0> {{{len(part)}}}\r\n".encode() + part + b")\r\n")

    def do_store(self, rest: str) -> None:
        _, uids, _, flag = rest.split(" ")
        if flag.startswith("($") and not self.server.store.keywords:
            return
        for mail in self.server.store.mails:
            if str(mail.uid) in uids.split(","):
                mail.flags.add(flag.strip("()"))

    def do_expunge(self, rest: str) -> None:
        uids = rest.split(" ")[1].split(",")
        store = self.server.store
        store.mails = [mail for mail in store.mails if not (r"\Deleted" in mail.flags and str(mail.uid) in uids)]


class _Pop3(_Handler):
    def talk(self) -> None:
        self.say(b"+OK POP3 ready")
        self.deleted: set[int] = set()
        while raw := self.rfile.readline():
            command, _, rest = raw.decode().rstrip("\r\n").partition(" ")
            if answer := self.fault(command):
                self.say(answer.encode())
                continue
            getattr(self, f"do_{command.lower()}")(rest)
            if command == "QUIT":
                return

    def do_capa(self, rest: str) -> None:
        self.say(b"+OK", b"STLS", b"UIDL", b".")

    def do_stls(self, rest: str) -> None:
        self.say(b"+OK")
        self.protect()

    def do_user(self, rest: str) -> None:
        self.say(b"+OK")

    def do_pass(self, rest: str) -> None:
        self.server.store.logins += 1
        self.say(b"+OK" if rest == PASSWORD else b"-ERR wrong password")

    def do_uidl(self, rest: str) -> None:
        self.say(b"+OK", *(f"{n} u{mail.uid}".encode() for n, mail in enumerate(self.server.store.mails, 1)), b".")

    def do_list(self, rest: str) -> None:
        self.say(b"+OK", *(f"{n} {len(mail.content)}".encode() for n, mail in enumerate(self.server.store.mails, 1)), b".")

    def do_retr(self, rest: str) -> None:
        mail = self.server.store.mails[int(rest) - 1]
        self.server.store.fetched.append(mail.uid)
        lines = mail.content.removesuffix(b"\r\n").split(b"\r\n")
        self.say(b"+OK", *(b"." + line if line.startswith(b".") else line for line in lines), b".")

    def do_dele(self, rest: str) -> None:
        self.deleted.add(self.server.store.mails[int(rest) - 1].uid)
        self.say(b"+OK")

    def do_quit(self, rest: str) -> None:
        store = self.server.store
        store.mails = [mail for mail in store.mails if mail.uid not in self.deleted]
        self.say(b"+OK")


@contextmanager
def mailbox_server(protocol: str, store: Store, *, tls: ssl.SSLContext | None = None, immediate: bool = False) -> Iterator[int]:
    """Its port. `immediate`: TLS from the first byte."""
    with _Server(("127.0.0.1", 0), _Imap if protocol == "imap" else _Pop3) as server:
        server.store, server.tls, server.immediate = store, tls, immediate
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name=f"fake {protocol}")
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(10)
