"""Turns what the compilers of templates say into findings: which part, which line, which column, what is wrong, what to do.

Their sentences all begin with the place: `HTML template, line 3, column 7: …`. Where the column is not told, it is that of the
word they quote, or of the line's first tag.
"""

from __future__ import annotations

import re

from postroom.errors import Invalid, TooLarge
from postroom.model.template import Severity, TemplateFinding, TemplateSource

_SENTENCE = re.compile(r"(?P<part>[A-Za-z ]+?)(?:, line (?P<line>\d+)(?:, column (?P<column>\d+))?)?: (?P<message>.*)", re.DOTALL)
_PARTS = {
    "subject": "subject",
    "text template": "text",
    "HTML template": "html",
    "text derived from the HTML template": "html",
    "MJML template": "mjml",
}
_QUOTED = re.compile(r"""['`"]([^'`"]{1,80})['`"]|(\{%-?\s*\w+)|(</?[\w-]+)|filter (\w+)|function (\w+)|test (\w+)""")
_TAG = re.compile(r"\{[{%]|<\w")


def finding_of(problem: Invalid, part: str, source: TemplateSource) -> TemplateFinding:
    """Of an error; `part` where its sentence names none."""
    told = _SENTENCE.fullmatch(str(problem))
    if told is None or told["part"] not in _PARTS:
        return TemplateFinding(Severity.ERROR, _code(problem, part), part, str(problem).rstrip("."))
    named = _PARTS[told["part"]]
    part = source.language.value if named in ("html", "mjml") else named
    message, _, hint = told["message"].rstrip().rstrip(".").partition("; ")
    line = int(told["line"]) if told["line"] else None
    column = int(told["column"]) if told["column"] else None
    if line is not None and column is None:
        column = _column(_line(source, part, line), message)
    return TemplateFinding(Severity.ERROR, _code(problem, part), part, message, hint, line, column)


def sentence(finding: TemplateFinding) -> str:
    """A finding in one line."""
    where = f"{finding.part}, line {finding.line}, column {finding.column}" if finding.line else finding.part
    return f"{where}: {finding.message}" + (f"; {finding.hint}" if finding.hint else "")


def _code(problem: Invalid, part: str) -> str:
    if isinstance(problem, TooLarge):
        return "too-large"
    text = str(problem)
    if "is not available" in text or text.endswith("is unknown."):
        return "unknown-word"
    return "mjml" if part == "mjml" and "MJML template" in text else "syntax"


def _line(source: TemplateSource, part: str, number: int) -> str:
    text = {"subject": source.subject, "text": source.text or ""}.get(part, source.body)
    lines = text.split("\n")
    return lines[number - 1] if number <= len(lines) else ""


def _column(line: str, message: str) -> int:
    for found in _QUOTED.finditer(message):
        word = next(group for group in found.groups() if group)
        if (at := line.find(word)) >= 0:
            return at + 1
    tag = _TAG.search(line)
    return tag.start() + 1 if tag else 1
