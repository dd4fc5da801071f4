"""Checks templates as a campaign compiles them, with line and column of errors and warnings; previews; compares versions.

Errors refuse the template; warnings are kept with it. Compilers' messages begin with the place: `HTML template, line 3, column
7: …`. If they name no column, it is that of the word they quote, or of the line's first tag.

Previews use the composer that makes campaigns (delivery.compose), with a stand-in recipient: links are as written, there is no
open pixel, and `cid:` pictures are empty. Required variables are found by trial: all but one have a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import unified_diff
from email import message_from_bytes, policy
from functools import partial
from itertools import islice, takewhile
from typing import NamedTuple, TypeVar

import orjson

from postroom.clock import Clock, Instant
from postroom.delivery.compose import ContentCompiler, RowError, variables
from postroom.errors import Invalid, TooLarge
from postroom.model import address
from postroom.model.campaign import Attachment, CampaignRef, Content, MissingPolicy
from postroom.model.ids import CAMPAIGN_ID_LENGTH, Key, encode
from postroom.model.message import MessageStatus, Recipient
from postroom.model.template import MAX_SUBJECT, CheckedTemplate, Language, Severity, TemplateFinding, TemplateSource, Variable
from postroom.recipients_file.columns import address_column, find_column
from postroom.templates import markup, review
from postroom.templates.inline_css import NotInlined, inline_css
from postroom.templates.lexer import cleaned, take_apart
from postroom.templates.markup import HTML_PART
from postroom.templates.mjml import MJML_PART, compile_mjml
from postroom.templates.render import ParsedTemplate, read_template

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
    """The finding for an error; `part` is used if the message names none."""
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


STAND_IN_URL = "https://links.example"
"""Target of unsubscribe links in previews if POSTROOM_PUBLIC_URL is not set."""
SOMEONE = "someone@example.com"
MAX_INLINE = 50
_NOBODY = encode(0, CAMPAIGN_ID_LENGTH)
_CID = re.compile(r"\bcid:([^\"'\s)>{]+)", re.IGNORECASE)


class RenderInput(NamedTuple):
    subject: str
    html: str
    text: str | None


class RenderedTemplate(NamedTuple):
    subject: str
    html: str
    text: str


class TemplateRenderer:
    """One compiled template. Not thread-safe."""

    def __init__(
        self,
        parts: RenderInput,
        tenant: str,
        *,
        composing: ContentCompiler,
        missing: MissingPolicy = MissingPolicy.EMPTY,
        public_url: str | None,
    ) -> None:
        """Raises `Invalid` as a campaign would."""
        self.names = tuple(sorted(variables(html=parts.html, text=parts.text, subject=parts.subject)))
        content = Content(
            subject=parts.subject,
            from_=SOMEONE,
            missing=missing,
            track_opens=False,
            track_clicks=False,
        )
        self._composer = composing.compile(
            CampaignRef(tenant, _NOBODY),
            content,
            html=parts.html,
            text=parts.text,
            attachments=_pictures(parts.html),
            columns=self.names,
            public_url=public_url,
        )

    def render(self, values: Mapping[str, str]) -> RenderedTemplate:
        """Render with these values; `email` is the recipient. Raises `RowError` if the message cannot be made."""
        row = orjson.dumps([values.get(name) for name in self.names]).decode()
        to = _mailbox(values.get("email") or SOMEONE)
        recipient = Recipient(Key(bytes(12)), 1, to, None, row, MessageStatus.PENDING, 0)
        message = message_from_bytes(self._composer.compose(0, recipient, Instant(0)).content, policy=policy.default)
        html, text = (_body(message.get_body((kind,))) for kind in ("html", "plain"))
        return RenderedTemplate(str(message["Subject"] or ""), html, text)


def by_name(row: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The values of a recipients file's row for the template's `names`, matched as an import does."""
    columns = tuple(row)
    found = {name: at for name in names if (at := find_column(columns, name)) is not None}
    values = {name: row[columns[at]].strip() for name, at in found.items()}
    with suppress(Invalid):  # no address column
        values["email"] = row[columns[address_column(columns, [tuple(row.values())], None)]].strip()
    return values


def _body(part: object) -> str:
    content: str = part.get_content()  # type: ignore[attr-defined]  # the stubs know no payload's type
    return content.replace("\r\n", "\n")


def _mailbox(text: str) -> str:
    try:
        return address.parse_address(text).mailbox
    except address.AddressError as problem:
        raise Invalid(f"email: {problem}") from problem


def _pictures(html: str) -> list[tuple[Attachment, bytes]]:
    names = sorted(set(_CID.findall(html)))[:MAX_INLINE]
    return [(Attachment("", f"{at}.png", "image/png", name), b"") for at, name in enumerate(names)]


MAX_TRIED = 100
"""At most so many variables are tried; the rest count as required."""
MAX_SECONDS = 0.5
"""Time limit of those trials."""
Made = TypeVar("Made")


class TemplateRefused(Invalid):
    """The template has errors. `findings` has them and the warnings, as JSON values."""

    def __init__(self, findings: Iterable[TemplateFinding]) -> None:
        self.found = tuple(findings)
        self.findings: list[dict[str, object]] = [finding._asdict() for finding in self.found]
        errors = [finding for finding in self.found if finding.severity is Severity.ERROR]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(f"{sentence(errors[0])}{more}")


@dataclass(slots=True)
class _Work:
    """The state of one check."""

    source: TemplateSource
    tenant: str
    composing: ContentCompiler
    findings: list[TemplateFinding] = field(default_factory=list)

    @property
    def part(self) -> str:
        return self.source.language.value

    def attempt(self, part: str, make: Callable[[], Made]) -> Made | None:
        """The result of `make`; None if it failed, which adds a finding."""
        try:
            return make()
        except Invalid as problem:
            self.findings.append(finding_of(problem, part, self.source))
            return None

    def compose(self, html: str, *, public_url: str | None = STAND_IN_URL) -> TemplateRenderer:
        """Compile as a campaign whose recipients must have every value."""
        parts = RenderInput(self.source.subject, html, self.source.text)
        return TemplateRenderer(parts, self.tenant, composing=self.composing, missing=MissingPolicy.ERROR, public_url=public_url)

    def warn(self, code: str, message: str, hint: str, where: tuple[int, int] | None = None) -> None:
        line, column = where or (None, None)
        self.findings.append(TemplateFinding(Severity.WARNING, code, self.part, message, hint, line, column))


class _Read(NamedTuple):
    """The parts, each valid on its own."""

    subject: ParsedTemplate
    body: ParsedTemplate
    html: str
    """Compiled."""


def tidy(source: TemplateSource) -> TemplateSource:
    """Line ends as LF, control characters dropped. The result is stored, and lines and columns refer to it."""
    text = None if source.text is None or not source.text.strip() else cleaned(source.text)
    return replace(source, body=cleaned(source.body), text=text, subject=" ".join(cleaned(source.subject).split()))


def check(source: TemplateSource, tenant: str, *, composing: ContentCompiler, clock: Clock) -> CheckedTemplate:
    """Check a source that is `tidy`. Raises `TemplateRefused`."""
    work = _Work(source, tenant, composing)
    parts = _read_parts(work)
    rendering = work.attempt(work.part, partial(work.compose, source.body))  # as written: lines are the author's
    if rendering is None:
        raise TemplateRefused(work.findings)
    work.findings += review.review_subject(parts.subject)
    work.findings += islice(review.review_body(source.body, parts.body, source.language), review.MAX_FINDINGS)
    html = _inlined(work, parts.html)
    if html != source.body:
        rendering = work.attempt(work.part, partial(work.compose, html))
    if rendering is None:  # too large after compiling: no line of the source to name
        work.findings[-1] = work.findings[-1]._replace(line=None, column=None)
        raise TemplateRefused(work.findings)
    _warn_without_public_url(work, html)
    size = _size(rendering, html)
    work.findings += review.review_whole(work.part, size, unsubscribes="unsubscribe_url" in parts.body.variables)
    return CheckedTemplate(source, html, _variables(rendering, clock), tuple(work.findings), size)


def _read_parts(work: _Work) -> _Read:
    """Compile all parts, so that all errors are reported at once. Raises `TemplateRefused`."""
    source = work.source
    subject = work.attempt("subject", partial(_read_subject, source.subject))
    if source.text is not None:
        work.attempt("text", partial(read_template, source.text, part="text template"))
    body = work.attempt(work.part, partial(_read_body, source))
    html = work.attempt(work.part, partial(_compiled, source)) if body else None
    if subject is None or body is None or html is None or work.findings:
        raise TemplateRefused(work.findings)
    return _Read(subject, body, html)


def _read_subject(subject: str) -> ParsedTemplate:
    if len(subject) > MAX_SUBJECT:
        raise TooLarge(f"subject: {len(subject)} characters; it may have {MAX_SUBJECT}.")
    return read_template(subject, part="subject")


def _read_body(source: TemplateSource) -> ParsedTemplate:
    mjml = source.language is Language.MJML
    found = read_template(source.body, part=MJML_PART if mjml else HTML_PART)
    if not mjml:
        markup.check(found.skeleton, part=HTML_PART)
    return found


def _compiled(source: TemplateSource) -> str:
    return compile_mjml(source.body) if source.language is Language.MJML else source.body


def _inlined(work: _Work, html: str) -> str:
    """The HTML with styles inlined, if wanted."""
    if not work.source.inline_css:
        return html
    result = inline_css(html)
    for left in result.left:
        hint = "it still works where mail readers know <style>; inline_css: false says that this is meant"
        work.warn("not-inlined", left.why, hint, _place_of(work, html, left))
    return result.html


def _place_of(work: _Work, html: str, left: NotInlined) -> tuple[int, int] | None:
    """Line and column in HTML; None for MJML, where only the compiled form is known."""
    if work.source.language is Language.MJML:
        return None
    return review.place(html, take_apart(cleaned(html), part=HTML_PART).source_at(left.position))


def _warn_without_public_url(work: _Work, html: str) -> None:
    if work.composing.public_url is not None:
        return
    try:
        work.compose(html, public_url=None)
    except Invalid:
        work.warn(
            "no-public-url",
            "unsubscribe_url is put out, and this installation has none: campaigns with this template are refused",
            "set POSTROOM_PUBLIC_URL, or write {% if unsubscribe_url %} around it",
        )


def _size(rendering: TemplateRenderer, html: str) -> int:
    try:
        return len(rendering.render({name: name for name in rendering.names}).html.encode())
    except RowError:  # a stand-in value did not fit a computation
        return len(html.encode())


def _variables(rendering: TemplateRenderer, clock: Clock) -> tuple[Variable, ...]:
    names = rendering.names
    values = dict.fromkeys(names, "1")
    until = clock.monotonic() + MAX_SECONDS
    if not _is_made(rendering, values):  # not renderable at all: required variables cannot be found
        return tuple(Variable(name, required=True) for name in names)

    def required(at: int, name: str) -> bool:
        return at >= MAX_TRIED or clock.monotonic() > until or not _is_made(rendering, {**values, name: ""})

    return tuple(Variable(name, required=required(at, name)) for at, name in enumerate(names))


def _is_made(rendering: TemplateRenderer, values: dict[str, str]) -> bool:
    try:
        rendering.render(values)
    except RowError:
        return False
    return True


MAX_COMPARED = 2_000
"""Differing lines compared in all. Beyond, old and new are shown one after the other: comparing takes quadratic time."""
CONTEXT = 3


class PartDiff(NamedTuple):
    part: str
    """`subject`, `body` or `text`."""
    diff: str


def compare(before: TemplateSource, after: TemplateSource, *, names: tuple[str, str]) -> tuple[PartDiff, ...]:
    """The parts that differ; `names` label the two versions."""
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
    """The number of equal lines at the beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _near(before: Sequence[str], after: Sequence[str], start: int, end: int, names: tuple[str, str]) -> Iterator[str]:
    """A unified diff of the differing lines with context; line numbers refer to the whole."""
    start, end = max(0, start - CONTEXT), max(0, end - CONTEXT)
    found = unified_diff(before[start : len(before) - end], after[start : len(after) - end], *names, n=CONTEXT, lineterm="")
    for line in found:
        yield _moved(line, start) if line.startswith("@@") else line


def _moved(heading: str, by: int) -> str:
    """Shift the line numbers of a heading such as `@@ -1,2 +1,3 @@`."""
    words = heading.split()
    for at in (1, 2):
        first, comma, count = words[at][1:].partition(",")
        words[at] = f"{words[at][0]}{int(first) + by}{comma}{count}"
    return " ".join(words)
