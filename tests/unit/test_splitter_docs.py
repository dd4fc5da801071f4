"""docs/reference/import.md says what the code does: every reason, and the limits."""

from __future__ import annotations

import re
from pathlib import Path

from postroom.model.address import MAX_LOCAL_OCTETS, MAX_MAILBOX_OCTETS, AddressProblem
from postroom.pipeline.splitter.splitter import CHUNK, CHUNK_BYTES
from postroom.recipients_file.columns import MAX_COLUMNS
from postroom.recipients_file.records import MAX_RECORD
from postroom.recipients_file.rows import DUPLICATE, MAX_VALUES_BYTES, SUPPRESSED, VALUES_TOO_LONG

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "import.md").read_text(encoding="utf-8")


def test_every_reason_of_the_report_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert documented == {reason.value for reason in AddressProblem} | {DUPLICATE, SUPPRESSED, VALUES_TOO_LONG}


def test_the_limits_are_those_of_the_code() -> None:
    for limit in (
        f"{MAX_RECORD:,} characters",
        f"{MAX_VALUES_BYTES:,} bytes",
        f"{CHUNK:,} rows",
        f"{MAX_COLUMNS:,} columns",
        f"{CHUNK_BYTES // 10**6} MB",
    ):
        assert limit in PAGE
    assert f"up to {MAX_LOCAL_OCTETS} bytes; the address up to {MAX_MAILBOX_OCTETS}." in PAGE
