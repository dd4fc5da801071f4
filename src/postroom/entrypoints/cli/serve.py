"""`postroom serve`: run the whole platform on this machine, as one tree of processes.

The other commands here are hidden: `serve` and `send` start them as child processes.
"""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Annotated

import typer

from postroom.entrypoints.cli.output import Data
from postroom.entrypoints.cli.session import FAILED, load_settings, say, session
from postroom.entrypoints.server import process, processes
from postroom.errors import Conflict, PostroomError
from postroom.identity.directory import FIRST_ADMIN, first_invitation
from postroom.model.campaign import CampaignRef
from postroom.model.provider import INBOX
from postroom.model.tenant import DEFAULT_TENANT
from postroom.settings import Settings
from postroom.telemetry.logs import write_logs
from postroom.wiring import Container, open_app
from postroom.wiring.doctor import check_master_key


def worker_command(
    campaign: Annotated[str, typer.Option(help="Run only this campaign, until it ends.")] = "",
    tenant: Annotated[str, typer.Option(help="Tenant that owns the campaign.")] = DEFAULT_TENANT,
    maintenance: Annotated[bool, typer.Option(help="Fire timers and run maintenance jobs as well.")] = True,
) -> None:
    """Import and send until stopped."""
    from postroom.entrypoints.server import worker

    with _child() as postroom:
        code = worker.run(postroom, CampaignRef(tenant, campaign) if campaign else None, maintenance=maintenance)
    raise typer.Exit(code)


def timers_command() -> None:
    """Fire timers, handle scheduler messages and run maintenance jobs until stopped."""
    from postroom.entrypoints.server import timers

    with _child() as postroom:
        timers.run(postroom)


def callbacks_command() -> None:
    """Deliver callbacks until stopped."""
    from postroom.entrypoints.server import background

    with _child() as postroom:
        background.run_callbacks(postroom)


def feedback_command(
    handle: Annotated[int, typer.Option(help="File descriptor of the socket for inbound mail; -1 for none.")] = -1,
) -> None:
    """Receive and apply inbound events (bounces, complaints, unsubscribes) until stopped."""
    from postroom.entrypoints.server import background

    with _child() as postroom:
        background.run_feedback(postroom, None if handle < 0 else socket.socket(fileno=handle))


def inbox_command(port: Annotated[int, typer.Option(help="Port to listen on, on loopback; 0 for a free one.")] = 0) -> None:
    """Run the built-in inbox until stopped."""
    from postroom.entrypoints.server import timers

    with _child() as postroom:
        timers.run_inbox(postroom, port)


def http_command(handle: Annotated[int, typer.Option(help="File descriptor of the listening socket.")]) -> None:
    """Serve HTTP until stopped."""
    from postroom.entrypoints.server import http_server  # the web framework takes a while to load

    with _child() as postroom:
        http_server.run(postroom, socket.socket(fileno=handle))


@contextmanager
def _child() -> Iterator[Container]:
    """Open the installation in a child process; errors are reported to the parent."""
    try:
        with session() as postroom:
            write_logs(sys.stderr, postroom.settings.log_level, format=postroom.settings.log_format)
            yield postroom
    except PostroomError as error:
        process.report_fatal(error)
        raise typer.Exit(FAILED) from error


_LOOK_S = 0.1


def serve_command(
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: the host of POSTROOM_LISTEN.")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Port to listen on. Default: the port of POSTROOM_LISTEN.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Number of sender processes. Default: POSTROOM_WORKERS.")] = None,
    data: Data = None,
    mail: Annotated[str | None, typer.Option(help="Mail server: inbox:, smtp://… or ses://… Default: POSTROOM_MAIL.")] = None,
) -> None:
    """Run the HTTP server, workers, timers and the built-in inbox until SIGTERM or Ctrl-C; messages in flight are drained.

    Exit code 1: another server runs on the same data. Exit code 2: a setting, certificate or master key cannot be used.
    """
    settings = load_settings(data=data, workers=workers, mail=mail)
    settings = load_settings(data=data, workers=workers, mail=mail, listen=_listen(settings, host, port))
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    check_master_key(settings)
    with open_app(settings) as postroom, postroom.serving() as locked:
        if not locked:
            raise Conflict(f"another server is running on {settings.data}: stop it, or name another directory with --data")
        with processes.listening(settings) as http_listener, processes.listening_for_mail(settings) as mail_listener:
            supervisor = processes.build_supervisor(settings, http_listener, postroom.clock, say, mail_socket=mail_listener)
            try:
                supervisor.tend()
                _say_started(postroom)
                while not stopping.wait(_LOOK_S):
                    supervisor.tend()
                say("stopping: no new sends, waiting for what is in flight")
                supervisor.stop(processes.GRACE_S)
            finally:
                supervisor.kill()


def _listen(settings: Settings, host: str | None, port: int | None) -> str:
    """Return the listen setting with host and port replaced by the options that are given."""
    set_host, _, set_port = settings.listen.rpartition(":")
    chosen = host or set_host
    return f"{f'[{chosen}]' if ':' in chosen and not chosen.startswith('[') else chosen}:{port or set_port}"


def listen_warnings(settings: Settings) -> Iterator[str]:
    """Return warnings about settings that are unsafe when other machines can connect."""
    host = settings.listen.rpartition(":")[0].strip("[]")
    if host == "localhost" or (_is_address(host) and ip_address(host).is_loopback):
        return
    if settings.tls_certificate is None and not settings.trusted_proxies:
        yield (
            "passwords and keys can be read on the network: set POSTROOM_TLS_CERTIFICATE and POSTROOM_TLS_KEY, "
            "or POSTROOM_TRUSTED_PROXIES if a proxy in front terminates TLS"
        )
    if settings.api_url is None and _is_address(host) and ip_address(host).is_unspecified:
        yield f"links and tokens use {settings.api_base_url}, which is not reachable: set POSTROOM_API_URL to the public address"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _say_started(postroom: Container) -> None:
    settings = postroom.settings
    say(f"Postroom listens on {settings.api_base_url} with {settings.workers} workers on {settings.data}")
    if settings.mail == INBOX:
        say("mail goes to the built-in inbox only: set POSTROOM_MAIL=smtp://… or ses://… to send")
    if settings.feedback_listen is not None:
        say(f"mail to {settings.bounce_domain} is received on {settings.feedback_listen}")
    for warning in listen_warnings(settings):
        say(warning)
    link = first_invitation(postroom.issuer, postroom.memberships) if postroom.issuer is not None else None
    if link is not None:
        say(
            f"no user can sign in yet: set a password for {FIRST_ADMIN} at {link}\n(one use, within a day; or: postroom user add)"
        )
