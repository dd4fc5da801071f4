"""Makes of what an author wrote what is sent, and says what is wrong with it: errors refuse it, warnings are kept with it.

The template is compiled exactly as a campaign's is (delivery.compose), for a recipient nobody is. Which variables are
required is found by trying: all have a value but one, and the message is made or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import NamedTuple, TypeVar

from postroom.clock import Clock
from postroom.delivery.compose import ContentCompiler, RowError
from postroom.errors import Invalid, TooLarge
from postroom.model.campaign import MissingPolicy
from postroom.model.template import (
    MAX_SUBJECT,
    CheckedTemplate,
    Language,
    Severity,
    TemplateFinding,
    TemplateSource,
    Variable,
)
from postroom.services.template_findings import finding_of, sentence
from postroom.services.template_rendering import STAND_IN_URL, Parts, Rendering
from postroom.templates import markup, review
from postroom.templates.inline_css import NotInlined, inline_css
from postroom.templates.lexer import cleaned, take_apart
from postroom.templates.markup import HTML_PART
from postroom.templates.mjml import MJML_PART, compile_mjml
from postroom.templates.render import ParsedTemplate, read_template

MAX_TRIED = 100
"""Variables: those beyond are said to be required."""
MAX_SECONDS = 0.5
"""Of trying them."""

Made = TypeVar("Made")


class TemplateRefused(Invalid):
    """The template has errors: they are in `findings`, with the warnings, as JSON values."""

    def __init__(self, findings: Iterable[TemplateFinding]) -> None:
        self.found = tuple(findings)
        self.findings: list[dict[str, object]] = [finding._asdict() for finding in self.found]
        errors = [finding for finding in self.found if finding.severity is Severity.ERROR]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(f"{sentence(errors[0])}{more}")


@dataclass(slots=True)
class _Work:
    """One check."""

    source: TemplateSource
    tenant: str
    composing: ContentCompiler
    findings: list[TemplateFinding] = field(default_factory=list)

    @property
    def part(self) -> str:
        return self.source.language.value

    def attempt(self, part: str, make: Callable[[], Made]) -> Made | None:
        """None: it failed, and the finding says why."""
        try:
            return make()
        except Invalid as problem:
            self.findings.append(finding_of(problem, part, self.source))
            return None

    def compose(self, html: str, *, public_url: str | None = STAND_IN_URL) -> Rendering:
        """As a campaign would, whose recipients must have every value."""
        parts = Parts(self.source.subject, html, self.source.text)
        return Rendering(parts, self.tenant, composing=self.composing, missing=MissingPolicy.ERROR, public_url=public_url)

    def warn(self, code: str, message: str, hint: str, where: tuple[int, int] | None = None) -> None:
        line, column = where or (None, None)
        self.findings.append(TemplateFinding(Severity.WARNING, code, self.part, message, hint, line, column))


class _Read(NamedTuple):
    """The parts, each without an error of its own."""

    subject: ParsedTemplate
    body: ParsedTemplate
    html: str
    """Compiled."""


def tidy(source: TemplateSource) -> TemplateSource:
    """Line ends as LF, control characters dropped: what is stored, and what lines and columns are counted in."""
    text = None if source.text is None or not source.text.strip() else cleaned(source.text)
    return replace(source, body=cleaned(source.body), text=text, subject=" ".join(cleaned(source.subject).split()))


def check(source: TemplateSource, tenant: str, *, composing: ContentCompiler, clock: Clock) -> CheckedTemplate:
    """Of a `tidy` source. `TemplateRefused`."""
    work = _Work(source, tenant, composing)
    parts = _read_parts(work)
    rendering = work.attempt(work.part, partial(work.compose, source.body))  # as written, for lines are its author's, of MJML too
    if rendering is None:
        raise TemplateRefused(work.findings)
    work.findings += review.review_subject(parts.subject)
    work.findings += islice(review.review_body(source.body, parts.body, source.language), review.MAX_FINDINGS)
    html = _inlined(work, parts.html)
    if html != source.body:
        rendering = work.attempt(work.part, partial(work.compose, html))
    if rendering is None:  # it has grown too large: a line would be that of what was made
        work.findings[-1] = work.findings[-1]._replace(line=None, column=None)
        raise TemplateRefused(work.findings)
    _warn_without_public_url(work, html)
    size = _size(rendering, html)
    work.findings += review.review_whole(work.part, size, unsubscribes="unsubscribe_url" in parts.body.variables)
    return CheckedTemplate(source, html, _variables(rendering, clock), tuple(work.findings), size)


def _read_parts(work: _Work) -> _Read:
    """All of them, so that all that is wrong is told at once. `TemplateRefused`."""
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
    """With its styles in its elements, where that is wanted."""
    if not work.source.inline_css:
        return html
    result = inline_css(html)
    for left in result.left:
        hint = "it still works where mail readers know <style>; inline_css: false says that this is meant"
        work.warn("not-inlined", left.why, hint, _place_of(work, html, left))
    return result.html


def _place_of(work: _Work, html: str, left: NotInlined) -> tuple[int, int] | None:
    """Known for HTML; of MJML, only its compiled form was looked at."""
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


def _size(rendering: Rendering, html: str) -> int:
    try:
        return len(rendering.render({name: name for name in rendering.names}).html.encode())
    except RowError:  # a made-up value was not what the template computes with
        return len(html.encode())


def _variables(rendering: Rendering, clock: Clock) -> tuple[Variable, ...]:
    names = rendering.names
    values = dict.fromkeys(names, "1")
    until = clock.monotonic() + MAX_SECONDS
    if not _is_made(rendering, values):  # whatever is left out then, nothing can be told
        return tuple(Variable(name, required=True) for name in names)

    def required(at: int, name: str) -> bool:
        return at >= MAX_TRIED or clock.monotonic() > until or not _is_made(rendering, {**values, name: ""})

    return tuple(Variable(name, required=required(at, name)) for at, name in enumerate(names))


def _is_made(rendering: Rendering, values: dict[str, str]) -> bool:
    try:
        rendering.render(values)
    except RowError:
        return False
    return True
