"""docs/reference/bounces.md says what the code does: every code with its class and type, and the limits."""

from __future__ import annotations

import re
from pathlib import Path

from postroom.events.bounce_parser.classify import ENHANCED_CODES, ENHANCED_SUBJECTS, SMTP_REPLIES
from postroom.events.bounce_parser.mime import MAX_DEPTH, MAX_FIELDS, MAX_PARSED_BYTES, MAX_PARTS, MAX_VALUE
from postroom.events.bounce_parser.recipients import MAX_RECIPIENTS
from postroom.model.event import BounceType

PAGE = (Path(__file__).parents[2] / "docs/reference/bounces.md").read_text("utf-8")
ROW = re.compile(r"^\| `([0-9.*]+)` \| [^|]+ \| (\w+) \| (\w+) \|$", re.MULTILINE)


def test_every_code_stands_there_as_it_is_applied() -> None:
    applied = ENHANCED_CODES | {f"{subject}.*": meaning for subject, meaning in ENHANCED_SUBJECTS.items()} | SMTP_REPLIES
    assert ROW.findall(PAGE) == [(code, *map(str, applied[code])) for code, _, _ in ROW.findall(PAGE)]
    assert {code for code, _, _ in ROW.findall(PAGE)} == applied.keys()


def test_every_type_stands_there() -> None:
    assert all(f"| `{each}` |" in PAGE for each in BounceType)


def test_the_limits_stand_there() -> None:
    assert f"first {MAX_PARSED_BYTES // 1024} KB" in PAGE
    assert (
        f"{MAX_PARTS} parts, {MAX_DEPTH} levels, {MAX_FIELDS} fields of {MAX_VALUE:,} characters a part, {MAX_RECIPIENTS} recipients"
        in PAGE
    )
