"""A template and its versions: every save is a new one, and none ever changes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from postroom.clock import Instant

MAX_NAME = 200
MAX_SUBJECT = 2_000
"""Characters of a subject's template."""
MAX_NOTE = 500


@dataclass(frozen=True, slots=True)
class TemplateContent:
    """One version, ready to be composed: what a campaign or a single message is made from."""

    template_id: str
    version: int
    """From 1."""
    subject: str
    html: str
    """MJML compiled, style sheets inlined."""
    text: str | None
    """None: derived from the HTML when it is composed."""


class Language(StrEnum):
    """What the body of a template is written in."""

    HTML = "html"
    MJML = "mjml"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSource:
    """What an author writes."""

    subject: str
    language: Language
    body: str
    text: str | None = None
    inline_css: bool = True
    """Move styles from style sheets into the elements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTemplate:
    """A template on its way in: exactly one of `html` and `mjml`."""

    name: str
    subject: str
    html: str | None = None
    mjml: str | None = None
    text: str | None = None
    inline_css: bool = True
    note: str = ""
    """What changed, for whoever reads the list of versions."""

    @property
    def source(self) -> TemplateSource:
        """Without its name."""
        language = Language.HTML if self.mjml is None else Language.MJML
        body = self.mjml if self.mjml is not None else self.html or ""
        return TemplateSource(subject=self.subject, language=language, body=body, text=self.text, inline_css=self.inline_css)


class Severity(StrEnum):
    """Whether it can be sent."""

    ERROR = "error"
    """It cannot: not saved."""
    WARNING = "warning"
    """It can, and some readers will not see what was meant."""


class TemplateFinding(NamedTuple):
    """One thing that a check of a template found."""

    severity: Severity
    code: str
    """Which kind of thing: one of docs/reference/templates.md."""
    part: str
    """`subject`, `html`, `mjml` or `text`."""
    message: str
    hint: str = ""
    """What to do about it."""
    line: int | None = None
    """In what the author wrote, from 1; None: it is about the whole part."""
    column: int | None = None


class Variable(NamedTuple):
    """A value that the template asks of a row."""

    name: str
    required: bool
    """Without it, the message of a recipient is not made (unless the campaign says that what is missing is empty)."""


@dataclass(frozen=True, slots=True)
class CheckedTemplate:
    """A source, and what became of it."""

    source: TemplateSource
    html: str
    """As it is sent: compiled, inlined."""
    variables: tuple[Variable, ...]
    findings: tuple[TemplateFinding, ...]
    size: int
    """Bytes of the HTML when it is rendered with made-up values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The record: what is true now."""

    id: str
    name: str
    version: int
    """The newest, which is the one that counts."""
    subject: str
    language: Language
    inline_css: bool
    archived: bool
    created_at: Instant
    created_by: str
    updated_at: Instant
    updated_by: str
    revision: int = 0
    """The store's: rises with every change, of the name too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateVersion:
    """One save."""

    number: int
    author: str
    saved_at: Instant
    note: str
    subject: str
    language: Language
    digest: str
    """Of the source: two versions with the same are the same."""
    body_key: str
    """The object that holds it all."""
