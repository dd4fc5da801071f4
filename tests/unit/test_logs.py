"""What the log holds, and what it does not."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from postroom.telemetry.logs import event_logger, write_logs


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    write_logs(stream)
    yield stream
    for handler in set(root.handlers) - set(before):
        root.removeHandler(handler)
    root.setLevel(level)


def test_the_dialogues_of_the_built_in_inbox_stay_out_of_the_log(log: io.StringIO) -> None:
    """aiosmtpd tells each line of them: a dozen a message, with the addresses."""
    logging.getLogger("mail.log").info("RCPT TO:<anna@example.com>")
    logging.getLogger("mail.log").warning("something is wrong")
    assert "anna" not in log.getvalue()
    assert "something is wrong" in log.getvalue()


def test_what_a_stranger_wrote_begins_no_line_of_its_own(log: io.StringIO) -> None:
    logging.getLogger("x").warning("it said %s", "550 no\r\n2026-01-01T00:00:00.000Z 1 ERROR forged\x1b[2J\u2028\ttab é")
    (line,) = log.getvalue().splitlines()
    assert line.endswith(r"it said 550 no\r\n2026-01-01T00:00:00.000Z 1 ERROR forged\x1b[2J\u2028" + "\ttab é")


def test_an_event_is_one_line_with_its_fields(log: io.StringIO) -> None:
    event_logger("postroom.test").warning("relay.unreachable", relay="mx.example:25", reason="550 no\r\nforged line", tries=3)
    (line,) = log.getvalue().splitlines()
    assert "WARNING postroom.test: relay.unreachable relay=mx.example:25 reason=" in line
    assert line.endswith("tries=3")


def test_a_program_reads_the_same_event_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    root, stream = logging.getLogger(), io.StringIO()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    write_logs(stream, format="json")
    try:
        int("odd")
    except ValueError:
        event_logger("postroom.test").exception("import.failed", campaign="c1", level="not the line's own", rows=7)
    logging.getLogger("library").warning("it said %s", "550 no\r\nforged")
    ours, others = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (ours["event"], ours["level"], ours["campaign"], ours["rows"]) == ("import.failed", "error", "c1", 7)
    assert (ours["error"], "Traceback" in ours["stack"]) == ("ValueError: invalid literal for int() with base 10: 'odd'", True)
    assert (others["event"], others["logger"], others["message"]) == ("log", "library", "it said 550 no\r\nforged")
