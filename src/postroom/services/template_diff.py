"""What changed between two versions of a template, part by part, as a unified diff of what the author wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import unified_diff
from itertools import takewhile
from typing import NamedTuple

from postroom.model.template import TemplateSource

MAX_COMPARED = 2_000
"""Lines that differ, in both together: beyond that, old and new are shown one after the other, because comparing grows with
the square."""
CONTEXT = 3


class PartDiff(NamedTuple):
    """One part that differs."""

    part: str
    """`subject`, `body` or `text`."""
    diff: str


def compare(before: TemplateSource, after: TemplateSource, *, names: tuple[str, str]) -> tuple[PartDiff, ...]:
    """The parts that differ; `names` are what the two are called."""
    parts = (
        ("subject", before.subject, after.subject),
        ("body", before.body, after.body),
        ("text", before.text or "", after.text or ""),
    )
    return tuple(PartDiff(part, "\n".join(_diff(old, new, names))) for part, old, new in parts if old != new)


def _diff(old: str, new: str, names: tuple[str, str]) -> Iterator[str]:
    before, after = old.split("\n"), new.split("\n")
    start = _alike(before, after)
    end = _alike(before[start:][::-1], after[start:][::-1])
    if len(before) + len(after) - 2 * (start + end) <= MAX_COMPARED:
        yield from _near(before, after, start, end, names)
        return
    yield from (f"--- {names[0]}", f"+++ {names[1]}")
    yield f"@@ -{start + 1},{len(before) - start - end} +{start + 1},{len(after) - start - end} @@"
    yield from (f"-{line}" for line in before[start : len(before) - end])
    yield from (f"+{line}" for line in after[start : len(after) - end])


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    """How many lines are the same at the beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _near(before: Sequence[str], after: Sequence[str], start: int, end: int, names: tuple[str, str]) -> Iterator[str]:
    """Only around what differs; line numbers are those of the whole."""
    start, end = max(0, start - CONTEXT), max(0, end - CONTEXT)
    found = unified_diff(before[start : len(before) - end], after[start : len(after) - end], *names, n=CONTEXT, lineterm="")
    for line in found:
        yield _moved(line, start) if line.startswith("@@") else line


def _moved(heading: str, by: int) -> str:
    """`@@ -1,2 +1,3 @@`, further down."""
    words = heading.split()
    for at in (1, 2):
        first, comma, count = words[at][1:].partition(",")
        words[at] = f"{words[at][0]}{int(first) + by}{comma}{count}"
    return " ".join(words)
