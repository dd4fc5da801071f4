"""ministack, an emulator of AWS, as one process of this pytest run: loopback, a free port, real checks of permissions.

It lives in a virtualenv of its own, `.venv-ministack`, made by `make test`. Each test works in an account of its own: the
emulator takes any twelve digits for one.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from postroom.platform.aws._clients import AwsAccount

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / ".venv-ministack" / "bin" / "ministack"
REGION = "us-east-1"
_START_S = 60
_STOP_S = 3
_ATTEMPTS = 3  # at finding a port: another process may take it between our look and the emulator's
# The emulator ends with the process that started it, even if that is killed.
_TETHERED = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"
_KEY = pytest.StashKey["Emulator"]()


class Emulator:
    """A running emulator."""

    def __init__(
        self, process: subprocess.Popen[bytes], port: int, home: TemporaryDirectory[str], *, encrypted: bool = False
    ) -> None:
        self.endpoint = f"{'https' if encrypted else 'http'}://127.0.0.1:{port}"
        self.home = Path(home.name)
        """Where it keeps its files, and its functions'."""
        self._process = process
        self._home = home
        self._accounts = itertools.count(100_000_000_000)

    def account(self) -> AwsAccount:
        """A fresh account, empty."""
        return AwsAccount(REGION, self.endpoint, str(next(self._accounts)), "test")

    def stop(self) -> None:
        """End it: asked first, then killed."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        self._home.cleanup()


def emulator(config: pytest.Config) -> Emulator:
    """This run's emulator, started when first asked for and stopped with the run. Skips the test where it cannot be had."""
    if _KEY not in config.stash:
        if not PROGRAM.exists():
            pytest.skip("no AWS emulator here: `make test` installs it")
        config.stash[_KEY] = started = start()
        config.add_cleanup(started.stop)
    return config.stash[_KEY]


def start(*, encrypted: bool = False, **variables: str) -> Emulator:
    """An emulator of one's own, to be stopped. `variables` are its environment's, and so its functions'; `encrypted`: they have it
    speak TLS."""
    for _ in range(_ATTEMPTS):
        port = _free_port()
        home = TemporaryDirectory(prefix="postroom-aws-")
        log = Path(home.name) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", _TETHERED, str(PROGRAM)],
                env=_environment(port, home.name) | variables,
                stdout=output,
                stderr=output,
            )
        started = Emulator(process, port, home, encrypted=encrypted)
        if _healthy(started.endpoint, process):
            return started
        said = log.read_text(errors="replace")[-2_000:]
        started.stop()
    raise RuntimeError(f"the AWS emulator did not start:\n{said}")


def _environment(port: int, home: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "localhost",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "AUTH": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "TMPDIR": home,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _healthy(endpoint: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    return False
