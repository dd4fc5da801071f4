"""A campaign as a user runs it: `postroom send` as a process, to be killed, stopped, paused and resumed, then held against the sink.

Every process of an installation is found by the data directory in its environment, so that none survives its test, orphans
included.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from postroom.model.campaign import CampaignRef
from postroom.model.message import Message, MessageStatus
from postroom.model.tenant import DEFAULT_TENANT
from postroom.platform.ports.feed import MessageChange
from postroom.settings import Settings
from postroom.wiring import Container, open_app

TEMPLATE = "<p>Hello {{ name }}, welcome.</p>\n"
PATIENCE_S = 120.0
"""What a test waits for comes within a second or two; this long only on a machine that is busy with much else."""
_POLL_S = 0.01


def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    """Wait for a condition; an `AssertionError` naming it when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(_POLL_S)


def write_csv(path: Path, addresses: Iterable[str]) -> None:
    """Recipients with a name each."""
    path.write_text("email,name\n" + "".join(f"{address},N {address.partition('@')[0]}\n" for address in addresses))


class Run:
    """One `postroom` process. What it says goes to files: nobody has to read along."""

    def __init__(self, words: Iterable[str], *, environ: dict[str, str], cwd: Path, number: int) -> None:
        self._out, self._err = cwd / f"{number}.out", cwd / f"{number}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "postroom", *words],
                env=environ,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,  # the terminal's Ctrl-C of whoever runs the tests is not for it
            )

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait(self, seconds: float = PATIENCE_S) -> int:
        """Its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"still running after {seconds:g} s; it said:\n{self.stderr}") from error

    def until(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
        """Wait for a condition while it runs."""
        until(lambda: condition() or not self.running, what, seconds)
        assert condition(), f"it ended before {what}; it said:\n{self.stderr}"

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait()


class Office:
    """A data directory, the settings of whoever works on it, and one campaign."""

    def __init__(self, root: Path, port: int, *, connections: int = 4, options: str = "", **settings: str) -> None:
        self.root = root
        mail = f"smtp://127.0.0.1:{port}?tls=none&connections={connections}{options}"
        ours = {"data": str(root / "data"), "mail": mail, "workers": "2", **settings}
        self.data = Path(ours["data"])
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
        self.environ |= {f"POSTROOM_{name.upper()}": value for name, value in ours.items()}
        self.template, self.recipients = root / "hello.html", root / "people.csv"
        self.template.write_text(TEMPLATE)
        self._runs: list[Run] = []

    # Running it.

    def start(self, *words: str, **settings: str) -> Run:
        """`postroom …`, not waited for."""
        environ = self.environ | {f"POSTROOM_{name.upper()}": value for name, value in settings.items()}
        run = Run(words, environ=environ, cwd=self.root, number=len(self._runs))
        self._runs.append(run)
        return run

    def command(self, *words: str, seconds: float = PATIENCE_S, **settings: str) -> tuple[int, str, str]:
        """`postroom …` to its end: exit code, standard output, standard error."""
        run = self.start(*words, **settings)
        code = run.wait(seconds)
        return code, run.stdout, run.stderr

    def send(self, *words: str, **settings: str) -> Run:
        """Send `self.template` to `self.recipients`."""
        paths = "--template", str(self.template), "--recipients", str(self.recipients)
        return self.start("send", *paths, "--from", "News <news@a.example>", "--subject", "Hi {{ name }}", *words, **settings)

    def resume(self, *words: str, **settings: str) -> Run:
        """Go on with the campaign."""
        return self.start("send", "--resume", self.campaign, *words, **settings)

    def finish(self, seconds: float = PATIENCE_S) -> int:
        """Resume and wait for the end."""
        return self.resume().wait(seconds)

    def processes(self) -> list[int]:
        """Every living process of this installation, orphans included."""
        mark = f"POSTROOM_DATA={self.data}\0".encode()
        found = []
        for folder in Path("/proc").iterdir():
            with suppress(OSError):
                if folder.name.isdigit() and mark in (folder / "environ").read_bytes() and not _ended(folder):
                    found.append(int(folder.name))
        return sorted(found)

    def workers(self) -> list[int]:
        """The worker processes among them."""
        return [pid for pid in self.processes() if _is_worker(pid)]

    def close(self) -> None:
        """Nothing of it runs any more."""
        while living := self.processes():
            for pid in living:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for run in self._runs:
                if run.process.pid in living:
                    run.process.wait()

    # Looking at it.

    @contextmanager
    def opened(self) -> Iterator[Container]:
        """Its stores, for a look."""
        ours = {name: value for name, value in self.environ.items() if name.startswith("POSTROOM_")}
        with open_app(Settings.load(ours, None, {})) as postroom:
            yield postroom

    @property
    def campaign(self) -> str:
        """The id of the campaign, as `send` said it first thing."""
        return next(
            line.removeprefix("campaign ")
            for run in self._runs
            for line in run.stderr.splitlines()
            if line.startswith("campaign ")
        )

    @property
    def said_campaign(self) -> bool:
        """Whether there is something to resume."""
        return any(line.startswith("campaign ") for run in self._runs for line in run.stderr.splitlines())

    @property
    def ref(self) -> CampaignRef:
        return CampaignRef(DEFAULT_TENANT, self.campaign)

    def status(self) -> dict[str, Any]:
        """As `--json` shows it."""
        with self.opened() as postroom:
            return postroom.status.get(self.ref).as_dict()

    def messages(self) -> dict[str, Message]:
        """The ledger, by address."""
        found: dict[str, Message] = {}
        cursor: str | None = None
        with self.opened() as postroom:
            while True:
                page = postroom.messages.list(self.ref, cursor=cursor, limit=1_000)
                found |= {message.address: message for message in page.messages}
                cursor = page.cursor
                if cursor is None:
                    return found

    def changes(self) -> list[MessageChange]:
        """Everything that was ever written about a message."""
        found: list[MessageChange] = []
        position: str | None = None
        with self.opened() as postroom:
            while True:
                page = postroom.feed.read(f"{DEFAULT_TENANT}/{self.campaign}", position)
                if not page.changes:
                    return found
                found += page.changes
                position = page.position

    def log(self) -> str:
        """What the workers said."""
        path = self.data / "logs" / "workers.log"
        return path.read_text() if path.exists() else ""


MakeOffice = Callable[..., Office]
"""The fixture `make_office` (conftest.py): an `Office` in the test's own directory, whose processes end with the test."""


def states(messages: dict[str, Message]) -> dict[str, int]:
    """How many messages are in each state."""
    return dict(Counter(message.status.label for message in messages.values()))


def assert_exact(messages: dict[str, Message], accepted: Iterable[str], *, twice: Iterable[str] = ()) -> None:
    """The ledger is what the sink accepted, recipient by recipient.

    `sent` is exactly once there (at least once for those in `twice`), `unknown` once or never, anything else never.
    """
    arrived, may_repeat = Counter(accepted), set(twice)
    strangers = set(arrived) - set(messages)
    assert not strangers, f"mail for nobody in the ledger: {sorted(strangers)[:5]}"
    wrong = []
    for address, message in messages.items():
        times = arrived[address]
        most = 99 if address in may_repeat else 1
        least = 1 if message.status is MessageStatus.SENT else 0
        if message.status not in (MessageStatus.SENT, MessageStatus.UNKNOWN):
            most = 0
        if not least <= times <= most:
            wrong.append(f"{address} is {message.status.label} ({message.attempt}, {message.reply!r}) and arrived {times} times")
    assert not wrong, f"{len(wrong)} of {len(messages)}: " + "; ".join(wrong[:5])


def assert_adds_up(shown: dict[str, Any]) -> None:
    """Every row is counted once."""
    counts = shown["counts"]
    past = ("pending", "sending", "sent", "delivered", "deferred", "bounced", "complained", "failed", "unknown", "skipped")
    assert counts["accepted"] == sum(counts[state] for state in past)
    assert counts["rows"] == counts["accepted"] + counts["invalid"] + counts["duplicate"] + counts["suppressed"]


def parse(stdout: str) -> dict[str, Any]:
    """The one object that `--json` prints."""
    (line,) = stdout.splitlines()
    shown: dict[str, Any] = orjson.loads(line)
    return shown


def _is_worker(pid: int) -> bool:
    with suppress(OSError):
        return b"\0worker\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _ended(folder: Path) -> bool:
    return (folder / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
