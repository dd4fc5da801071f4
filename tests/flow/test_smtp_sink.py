"""The scripted server as a process of its own: what it accepted is on disk before its client hears of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from postroom.platform.mail.port import Verdict
from postroom.platform.mail.smtp_url import SmtpConfig
from tests.fakes.delivery import deliver, deliveries


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "tests.fakes.smtp_sink", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as child:
        assert child.stdout is not None
        try:
            yield child, int(child.stdout.readline())
        finally:
            child.kill()


def test_its_record_survives_a_kill_and_holds_what_was_accepted(tmp_path: Path) -> None:
    record = tmp_path / "accepted"
    rules = [
        {"stage": "dot", "action": "accept_drop", "to": "r3@*"},
        {"stage": "rcpt", "action": "reply", "code": 550, "to": "r4@*"},
    ]
    items = deliveries(10)
    with process("--record", str(record), "--rules", json.dumps(rules)) as (child, port):
        deliver(SmtpConfig("127.0.0.1", port, connections=2), items)
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    assert items[3].verdict is Verdict.UNKNOWN
    assert items[4].verdict is Verdict.PERMANENT
    recorded = [line.split("\t")[0] for line in record.read_text().splitlines()]
    assert sorted(recorded) == sorted(item.rcpt_to for item in items if item is not items[4])


def test_it_ends_on_sigterm_and_refuses_unknown_options() -> None:
    with process("--options", '{"pipelining": false}') as (child, _):
        child.terminate()
        assert child.wait(10) == 0
    wrong = subprocess.run(
        [sys.executable, "-m", "tests.fakes.smtp_sink", "--options", '{"speed": 9}'],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert wrong.returncode != 0
    assert "unknown options: {'speed'}" in wrong.stderr
