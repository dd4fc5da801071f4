"""What the log holds, and what it does not."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from postroom.telemetry.logs import write_logs


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
