"""`postroom serve` put together: which processes there are, what they share, how they begin and end.

    door      answers HTTP on a socket that the parent holds: while a door is replaced, callers wait in its line
    worker    imports and sends; one or more
    timers    fires timers, hands notes on, keeps house
    callbacks tells tenants' own systems what happened
    feedback  takes in mail that comes back, on a socket that the parent holds as well, and makes all that comes back part of
              the records
    inbox     the built-in inbox, where mail leaves to it

The parent does nothing but watch, so there is nothing that could end it. Should it be killed all the same, its children notice
and drain. All that a crash leaves is found in the stores by whoever starts next: nothing needs to be repaired first.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from postroom.clock import Clock
from postroom.entrypoints.server.supervisor import ProcessSpec, Supervisor
from postroom.errors import Invalid
from postroom.model.provider import INBOX
from postroom.settings import Settings
from postroom.wiring.feedback import check_way_back

GRACE_S = 27.0
"""Within half a minute of SIGTERM all is over, whatever `drain` says: what an orchestrator waits for."""
_BACKLOG = 2_048
_LOOPBACK = "127.0.0.1"


@contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """The door's socket. `Invalid`: it cannot be had, or its certificate cannot be used."""
    if settings.tls_certificate is not None:
        check_certificate(settings)
    with closing(_listening(settings.listen, "the door", "POSTROOM_LISTEN")) as door:
        yield door


@contextmanager
def listening_for_mail(settings: Settings) -> Iterator[socket.socket | None]:
    """The socket of mail that comes back; None: it is not to be had by SMTP. `Invalid`: it cannot be, or its mailbox cannot."""
    check_way_back(settings)
    if settings.feedback_listen is None:
        yield None
        return
    with closing(_listening(settings.feedback_listen, "the mailroom", "POSTROOM_FEEDBACK_LISTEN")) as door:
        yield door


def _listening(address: str, what: str, setting: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        family = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, int(port)), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise Invalid(f"{what} cannot listen on {address}: {error.strerror or error}; set {setting}") from error


def check_certificate(settings: Settings) -> None:
    """`Invalid`: certificate and key cannot be used together."""
    certificate, key = settings.tls_certificate, settings.tls_key
    assert certificate is not None
    try:
        for file in filter(None, (certificate, key)):
            file.open("rb").close()
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}; see POSTROOM_TLS_CERTIFICATE and POSTROOM_TLS_KEY") from error
    try:  # a key under a passphrase is refused: else the server would wait for somebody to type it
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        wanted = "a certificate with the chain to its issuer, and its private key without a passphrase, both PEM"
        found = f"{certificate} and {key}" if key else f"{certificate}, without POSTROOM_TLS_KEY,"
        raise Invalid(f"{found} cannot be used for TLS ({error.reason or error}): needed are {wanted}") from error


def build_supervisor(
    settings: Settings, door: socket.socket, clock: Clock, say: Callable[[str], None], *, mail_door: socket.socket | None = None
) -> Supervisor:
    """Everybody, not yet started."""
    posts = []
    mail = settings.mail
    if mail == INBOX:
        port = _free_port()
        mail = f"smtp://{_LOOPBACK}:{port}?tls=none"
        posts.append(ProcessSpec("inbox", ["inbox-server", "--port", str(port)], settings.environ(), last=True))
    environ = settings.environ(mail=mail)
    posts.append(ProcessSpec("timers", ["timers"], environ))
    mail_handles = [] if mail_door is None else [mail_door.fileno()]
    posts.append(
        ProcessSpec("feedback", ["feedback", *(f"--handle={handle}" for handle in mail_handles)], environ, handles=mail_handles)
    )
    posts.append(ProcessSpec("callbacks", ["callbacks"], environ))
    posts += [ProcessSpec(f"worker {number}", ["worker", "--no-chores"], environ) for number in range(1, settings.workers + 1)]
    posts.append(ProcessSpec("door", ["door", "--handle", str(door.fileno())], environ, handles=[door.fileno()]))
    return Supervisor(posts, clock, patience_s=2 * settings.lease, say=say)


def _free_port() -> int:
    """For the inbox, which keeps it when it is started again."""
    with closing(socket.create_server((_LOOPBACK, 0))) as probe:
        port: int = probe.getsockname()[1]
        return port
