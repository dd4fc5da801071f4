"""A real Postfix of the test's own: temporary configuration, queue and data, on a free loopback port, in the foreground.

It relays to a port of our choice. Recipients can be refused by name; those that begin with `grey` are greylisted once.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.flow.campaign_kit import until

_SERVICES = """
{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""
_SETTINGS = """
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
mail_owner = postfix
setgid_group = postdrop
maillog_file = {root}/log
maillog_file_prefixes = {root}
myhostname = relay.test.example
mydestination =
alias_maps =
local_recipient_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:{sink}
smtpd_recipient_restrictions = check_recipient_access texthash:{root}/etc/access,
    check_policy_service inet:127.0.0.1:{policy}, permit_mynetworks, reject
"""


class Relay(NamedTuple):
    """A running Postfix."""

    port: int
    log: Path


def why_not() -> str:
    """Why Postfix cannot run here; empty when it can."""
    if shutil.which("postfix", path="/usr/sbin:/usr/local/sbin") is None:
        return "postfix is not installed"
    if os.geteuid() != 0:
        return "only root can start a postfix"
    return ""


@contextmanager
def postfix(sink: int, refused: dict[str, str]) -> Iterator[Relay]:
    """Until the end of the block. `refused`: what it answers to which recipients."""
    root = Path(tempfile.mkdtemp(prefix="pf"))  # short: Unix sockets live in it
    try:
        with _greylist() as policy:
            port = _configure(root, sink=sink, policy=policy, refused=refused)
            with _master(root):
                until(lambda: _answers(port), f"postfix; its log:\n{_read(root / 'log')}", seconds=20)
                yield Relay(port, root / "log")
    finally:
        shutil.rmtree(root)


def _configure(root: Path, *, sink: int, policy: int, refused: dict[str, str]) -> int:
    root.chmod(0o755)
    for name in ("etc", "queue", "data"):
        (root / name).mkdir()
    shutil.chown(root / "data", "postfix")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    daemons = subprocess.run(["/usr/sbin/postconf", "-dh", "daemon_directory"], capture_output=True, text=True, check=True).stdout
    settings = _SETTINGS.format(root=root, sink=sink, policy=policy, daemons=daemons.strip())
    (root / "etc" / "main.cf").write_text(settings)
    (root / "etc" / "master.cf").write_text(_SERVICES.format(port=port))
    (root / "etc" / "access").write_text("".join(f"{who} {answer}\n" for who, answer in refused.items()))
    made = subprocess.run(["/usr/sbin/postfix", "-c", root / "etc", "check"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr + _read(root / "log")
    return port


@contextmanager
def _master(root: Path) -> Iterator[None]:
    """In a group of its own, so that all its daemons end with it."""
    daemons = subprocess.run(
        ["/usr/sbin/postconf", "-c", root / "etc", "-h", "daemon_directory"], capture_output=True, text=True, check=True
    ).stdout.strip()
    master = subprocess.Popen(
        [f"{daemons}/master", "-c", root / "etc", "-d"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "MAIL_CONFIG": str(root / "etc")},
    )
    try:
        yield
    finally:
        master.send_signal(signal.SIGTERM)
        master.wait(20)
        until(lambda: not _daemons(root), "the daemons to end", seconds=20)


def _daemons(root: Path) -> list[Path]:
    """Processes whose working directory is the queue."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and (folder / "cwd").readlink().is_relative_to(root):
                found.append(folder)
        except OSError:
            continue
    return found


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as client:
            return client.recv(3) == b"220"
    except OSError:
        return False


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@contextmanager
def _greylist() -> Iterator[int]:
    """A policy server (Postfix SMTPD_POLICY_README): puts off everybody called `grey…` once; its port."""
    seen: set[str] = set()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked: dict[str, str] = {}
            for line in self.rfile:
                name, _, value = line.decode().rstrip("\n").partition("=")
                asked[name] = value
                if not name:
                    recipient = asked.get("recipient", "")
                    first = recipient.startswith("grey") and recipient not in seen
                    seen.add(recipient)
                    self.wfile.write(b"action=DEFER 4.2.0 greylisted, come back\n\n" if first else b"action=DUNNO\n\n")
                    asked = {}

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(5)
