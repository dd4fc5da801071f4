"""Templates and their immutable versions."""

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
    """A version ready for composing a campaign or single message."""

    template_id: str
    version: int
    """From 1."""
    subject: str
    html: str
    """MJML compiled, styles inlined."""
    text: str | None
    """None: derived from the HTML when it is composed."""


class Language(StrEnum):
    """The language of a template's body."""

    HTML = "html"
    MJML = "mjml"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSource:
    """A template as its author wrote it."""

    subject: str
    language: Language
    body: str
    text: str | None = None
    inline_css: bool = True
    """Move styles from style sheets into the elements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTemplate:
    """A template to save: exactly one of `html` and `mjml`."""

    name: str
    subject: str
    html: str | None = None
    mjml: str | None = None
    text: str | None = None
    inline_css: bool = True
    note: str = ""
    """The change, for the list of versions."""

    @property
    def source(self) -> TemplateSource:
        """The source without the name."""
        language = Language.HTML if self.mjml is None else Language.MJML
        body = self.mjml if self.mjml is not None else self.html or ""
        return TemplateSource(subject=self.subject, language=language, body=body, text=self.text, inline_css=self.inline_css)


class Severity(StrEnum):
    """How serious a finding is."""

    ERROR = "error"
    """The template cannot be saved."""
    WARNING = "warning"
    """It can be saved, but some recipients will not see it as intended."""


class TemplateFinding(NamedTuple):
    """An error or warning."""

    severity: Severity
    code: str
    """The code, as listed in docs/reference/templates.md."""
    part: str
    """`subject`, `html`, `mjml` or `text`."""
    message: str
    hint: str = ""
    """How to fix it."""
    line: int | None = None
    """Line in the author's source, from 1; None: it concerns the whole part."""
    column: int | None = None


class Variable(NamedTuple):
    """A variable of the template."""

    name: str
    required: bool
    """Without it a recipient's message is not made, unless the campaign treats missing values as empty."""


@dataclass(frozen=True, slots=True)
class CheckedTemplate:
    """A source with its compiled HTML, variables and findings."""

    source: TemplateSource
    html: str
    """As sent: compiled, styles inlined."""
    variables: tuple[Variable, ...]
    findings: tuple[TemplateFinding, ...]
    size: int
    """Bytes of the HTML, rendered with stand-in values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The template's record."""

    id: str
    name: str
    version: int
    """The newest version."""
    subject: str
    language: Language
    inline_css: bool
    archived: bool
    created_at: Instant
    created_by: str
    updated_at: Instant
    updated_by: str
    revision: int = 0
    """The store's version: rises with every change, renaming included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateVersion:
    """The record of one version."""

    number: int
    author: str
    saved_at: Instant
    note: str
    subject: str
    language: Language
    digest: str
    """The source's digest: equal sources have equal digests."""
    body_key: str
    """The key of the object with its content."""
