"""The words of the project: docstrings, comments, texts for users and documentation use plain English and the field's terms.

A floor, not proof of good prose: it refuses words that only ever hid a missing subject ("nobody", "whoever") and names that meant
something to their authors alone ("house", "door"). It also holds class names to one meaning.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "postroom").rglob("*.py"))
CODE = [*SOURCES, *sorted((ROOT / "infra").rglob("*.py")), *sorted((ROOT / "bench").rglob("*.py"))]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "infra").rglob("*.md"))]

AVOIDED = {
    r"nobody|somebody|anybody|whoever|whomever|whatsoever|no one": "name the subject: a worker, a recipient, a caller, a process",
    r"see the module's text|as one reads it|as it stands|where it stands": "say what it does",
    r"put away|puts away": "archive, delete",
    r"vouch(es|ed|ing)?(?! for the)": "trust",
    r"chores?|the house": "maintenance",
    r"the door|a door|doors": "HTTP server, API",
    r"lanes?": "endpoint queue",
    r"strangers?": "public, unauthenticated",
    r"leaflets?": "recipient page",
    r"mailroom": "inbound mail processor",
    r"letterhead": "sender display",
    r"tall(y|ies)": "rate window, count",
    r"the two homes|both homes|either home|homes?": "backend; campaign",
    r"of its own accord|by and by|hitherto|thereof|wherein": "plain English",
}
"""What to avoid → what to write."""

ALLOWED = {
    "CHANGELOG.md": {"vouch", "put away", "chores", "the door", "house", "mailroom", "lane", "lanes"},  # names what was renamed
    "src/postroom/events/bounce_parser/patterns.py": {"no one"},  # servers' own words
    "src/postroom/recipients_file/columns.py": {"home"},  # a column's heading in people's files
    "bench/smtp.py": {"nobody"},  # the user of that name
}
"""Words that a file needs after all."""

SHARED_NAMES: dict[str, str] = {}
"""Class names that two packages may share → why."""


def words_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and text of every docstring, comment and string of a module, or of every line of a page."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            for offset, line in enumerate(token.string.splitlines()):
                yield token.start[0] + offset, line


def avoided(path: Path) -> list[str]:
    allowed = ALLOWED.get(path.relative_to(ROOT).as_posix(), set())
    found = []
    for number, line in words_of(path):
        for words, instead in AVOIDED.items():
            found += [
                f"{path.relative_to(ROOT)}:{number}: '{match[0]}' ({instead}): {line.strip()[:100]}"
                for match in re.finditer(rf"(?<![\w./-])({words})(?![\w/-])", line, re.IGNORECASE)
                if match[0].lower() not in allowed
            ]
    return found


@pytest.mark.parametrize("path", [*CODE, *PAGES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_texts_use_plain_words(path: Path) -> None:
    assert avoided(path) == []


def test_a_class_name_means_one_thing() -> None:
    """No public class name in two packages, but for those argued in SHARED_NAMES."""
    places = defaultdict(set)
    for path in SOURCES:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].add(path.relative_to(ROOT / "src" / "postroom").as_posix())
    assert {name: sorted(where) for name, where in places.items() if len(where) > 1 and name not in SHARED_NAMES} == {}
