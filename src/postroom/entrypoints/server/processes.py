"""`postroom serve` put together: which processes there are, what they share, how they begin and end.

    http      serves HTTP on a socket that the parent holds: while the process is replaced, connections wait in the backlog
    worker    imports and sends; one or more
    timers    fires timers, handles scheduler messages, runs maintenance jobs
    callbacks makes the requests to tenants' callback endpoints
    feedback  takes in mail that comes back, on a socket that the parent holds as well, and makes all that comes back part of
              the records
    inbox     the built-in inbox, where mail leaves to it

The parent does nothing but watch, so there is nothing that could end it. Should it be killed all the same, its children notice
and drain. All that a crash leaves is found in the stores at the next start: nothing needs to be repaired first.
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
from postroom.wiring.container import check_inbound_mail

GRACE_S = 27.0
"""All processes end within 30 s of SIGTERM, whatever `drain` says: orchestrators wait that long."""
_BACKLOG = 2_048
_LOOPBACK = "127.0.0.1"


@contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """Yield the HTTP server's socket. Raises `Invalid` if the address or the certificate cannot be used."""
    if settings.tls_certificate is not None:
        check_certificate(settings)
    with closing(_listening(settings.listen, "the HTTP server", "POSTROOM_LISTEN")) as listener:
        yield listener


@contextmanager
def listening_for_mail(settings: Settings) -> Iterator[socket.socket | None]:
    """Yield the SMTP listener's socket, None if POSTROOM_FEEDBACK_LISTEN is not set. Raises `Invalid` when a setting for mail
    that comes back cannot be used."""
    check_inbound_mail(settings)
    if settings.feedback_listen is None:
        yield None
        return
    with closing(_listening(settings.feedback_listen, "the SMTP listener", "POSTROOM_FEEDBACK_LISTEN")) as listener:
        yield listener


def _listening(address: str, what: str, setting: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        family = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, int(port)), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise Invalid(f"{what} cannot listen on {address}: {error.strerror or error}; set {setting}") from error


def check_certificate(settings: Settings) -> None:
    """Raises `Invalid` when certificate and key cannot be used together."""
    certificate, key = settings.tls_certificate, settings.tls_key
    assert certificate is not None
    try:
        for file in filter(None, (certificate, key)):
            file.open("rb").close()
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}; see POSTROOM_TLS_CERTIFICATE and POSTROOM_TLS_KEY") from error
    try:  # a key under a passphrase is refused: else the server would wait for it to be typed
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        wanted = "a certificate with the chain to its issuer, and its private key without a passphrase, both PEM"
        found = f"{certificate} and {key}" if key else f"{certificate}, without POSTROOM_TLS_KEY,"
        raise Invalid(f"{found} cannot be used for TLS ({error.reason or error}): needed are {wanted}") from error


def build_supervisor(
    settings: Settings,
    listener: socket.socket,
    clock: Clock,
    say: Callable[[str], None],
    *,
    mail_socket: socket.socket | None = None,
) -> Supervisor:
    """Return the supervisor of all processes, not yet started."""
    specs = []
    mail = settings.mail
    if mail == INBOX:
        port = _free_port()
        mail = f"smtp://{_LOOPBACK}:{port}?tls=none"
        specs.append(ProcessSpec("inbox", ["inbox-server", "--port", str(port)], settings.environ(), last=True))
    environ = settings.environ(mail=mail)
    specs.append(ProcessSpec("timers", ["timers"], environ))
    mail_handles = [] if mail_socket is None else [mail_socket.fileno()]
    specs.append(
        ProcessSpec("feedback", ["feedback", *(f"--handle={handle}" for handle in mail_handles)], environ, handles=mail_handles)
    )
    specs.append(ProcessSpec("callbacks", ["callbacks"], environ))
    worker = ["worker", "--no-maintenance"]
    specs += [ProcessSpec(f"worker {number}", worker, environ) for number in range(1, settings.workers + 1)]
    specs.append(ProcessSpec("http", ["http", "--handle", str(listener.fileno())], environ, handles=[listener.fileno()]))
    return Supervisor(specs, clock, patience_s=2 * settings.lease, say=say)


def _free_port() -> int:
    """For the inbox, which keeps it over restarts."""
    with closing(socket.create_server((_LOOPBACK, 0))) as probe:
        port: int = probe.getsockname()[1]
        return port
