"""Request and response bodies of `/v1/templates`."""

from __future__ import annotations

from typing import Annotated, Self

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.config import JsonValue

from postroom.clock import rfc3339
from postroom.gateway.schemas.scalars import WHOLE, Flag
from postroom.model.template import (
    MAX_NAME,
    MAX_NOTE,
    MAX_SUBJECT,
    CheckedTemplate,
    Language,
    NewTemplate,
    Severity,
    Template,
    TemplateFinding,
    TemplateVersion,
    Variable,
)
from postroom.model.upload import ID_PATTERN
from postroom.services.template_checks import PartDiff
from postroom.services.templates import Preview
from postroom.templates.render import MAX_SOURCE

MAX_VERSION = 99_999_999
MAX_BODY = 6_000_000
"""Bytes of a template as JSON: a character may take six."""
_TEXT = r"^[^\x00]*$"
_LINE = r"^[^\x00-\x1f\x7f]*$"
_SOME = r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$"
_MJML = "<mjml><mj-body><mj-section><mj-column><mj-text>Hello</mj-text></mj-column></mj-section></mj-body></mjml>"
_HTML_OR_MJML: list[JsonValue] = [
    {"required": ["html"], "properties": {"html": {"type": "string"}, "mjml": {"type": "null"}}},
    {"required": ["mjml"], "properties": {"mjml": {"type": "string"}, "html": {"type": "null"}}},
]
TemplateId = Annotated[
    str, Path(pattern=r"^[a-z2-7]{16}$", max_length=16, description="The template's id.", examples=["aeqs6ksh3xegymb7"])
]
VersionNumber = Annotated[int, Path(ge=1, le=MAX_VERSION, description="The version's number.", examples=[2])]
From = Annotated[int, Query(alias="from", ge=1, le=MAX_VERSION, description="The earlier version.", examples=[1])]
To = Annotated[int, Query(ge=1, le=MAX_VERSION, description="The later version.", examples=[2])]
NamePrefix = Annotated[
    str,
    Query(
        max_length=MAX_NAME, pattern=_LINE, description="Only templates with this name prefix, ignoring case.", examples=["News"]
    ),
]
_Version = Annotated[int, Field(ge=1, le=MAX_VERSION), WHOLE]
Archived = Annotated[bool, Query(description="True: only archived templates. Default: only others.")]
Name = Annotated[str, StringConstraints(pattern=r"^[^\x00]{1,200}$", max_length=200)]
Value = Annotated[str, StringConstraints(pattern=_TEXT, max_length=100_000)]


class TemplateText(BaseModel):
    """The source of a template: exactly one of `html` and `mjml`."""

    model_config = ConfigDict(extra="forbid")

    subject: str = Field(max_length=MAX_SUBJECT, pattern=_LINE, description="Template of the subject.")
    html: str | None = Field(None, max_length=MAX_SOURCE, pattern=_TEXT, description="Template in HTML.")
    mjml: str | None = Field(None, max_length=MAX_SOURCE, pattern=_TEXT, description="Template in MJML.")
    text: str | None = Field(
        None, max_length=MAX_SOURCE, pattern=_TEXT, description="Template of the text part; null or blank: derived from the HTML."
    )
    inline_css: Flag = Field(True, description="Move styles from `<style>` into the elements, where that is safe.")

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if (self.html is None) == (self.mjml is None):
            raise ValueError("give either html or mjml")
        return self


class TemplateWritten(TemplateText):
    """A template as its author wrote it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "oneOf": _HTML_OR_MJML,
            "examples": [
                {
                    "name": "Autumn news",
                    "subject": "News for {{ first_name|default('you') }}",
                    "html": "<p>Hello {{ first_name|default('there') }}</p>",
                    "note": "the first draft",
                },
                {"name": "Hello", "subject": "Hello", "mjml": _MJML},
            ],
        },
    )

    name: str = Field(min_length=1, max_length=MAX_NAME, pattern=_SOME, description="The display name; need not be unique.")
    note: str = Field(
        "", max_length=MAX_NOTE, pattern=_LINE, description="A note about the change, shown in the list of versions."
    )

    def new(self) -> NewTemplate:
        return NewTemplate(**self.model_dump())


class TemplateToValidate(TemplateText):
    """A template, as for a save; its name and note may be left out."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "oneOf": _HTML_OR_MJML,
            "examples": [{"subject": "Hi", "html": '<p>Hi {{ first_name }}</p><a href="#">Read on</a>'}],
        },
    )

    name: str = Field("", max_length=MAX_NAME, pattern=_LINE, description="Not looked at.")
    note: str = Field("", max_length=MAX_NOTE, pattern=_LINE, description="Not looked at.")

    def new(self) -> NewTemplate:
        return NewTemplate(**self.model_dump())


class Rollback(BaseModel):
    """The version whose content becomes the newest."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"version": 1}]})

    version: _Version = Field(description="A version of this template.")


class Row(BaseModel):
    """Values for a preview: by variable, of a row of an upload, or both (values by variable win)."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"variables": {"first_name": "Anna", "email": "anna@example.com"}}]}
    )

    variables: dict[Name, Value] = Field(
        default_factory=dict, max_length=1_000, description="Values by name; `email` is the recipient's address."
    )
    version: _Version | None = Field(None, description="The template version. Default: the newest.")
    upload_id: str | None = Field(
        None, pattern=ID_PATTERN, max_length=16, description="An uploaded recipients file.", examples=["4qhk2m7cxw3a5yzn"]
    )
    row: Annotated[int, Field(ge=1, le=1_000), WHOLE] = Field(1, description="Which of its rows, from 1.")


class FindingBody(BaseModel):
    """An error or warning of a check."""

    severity: Severity = Field(description="An `error` refuses a save; a `warning` does not.")
    code: str = Field(description="Which kind of thing; see the reference of templates.", examples=["image-without-alt"])
    part: str = Field(description="`subject`, `html`, `mjml` or `text`.", examples=["html"])
    message: str = Field(description="What it is.", examples=["<img> has no alternative text"])
    hint: str = Field(description="How to fix it; may be empty.")
    line: int | None = Field(description="In what the author wrote, from 1; null: it is about the whole part.", examples=[12])
    column: int | None = Field(description="From 1.", examples=[7])

    @classmethod
    def all(cls, findings: tuple[TemplateFinding, ...]) -> list[Self]:
        return [cls(**finding._asdict()) for finding in findings]


class VariableBody(BaseModel):
    """A variable of a template."""

    name: str = Field(description="Its name, as a column or a variable of the campaign gives it.", examples=["first_name"])
    required: bool = Field(description="Without it the message of a recipient is not made, unless the campaign allows that.")

    @classmethod
    def all(cls, variables: tuple[Variable, ...]) -> list[Self]:
        return [cls(name=name, required=required) for name, required in variables]


class TemplateSummary(BaseModel):
    """A template in a list."""

    id: str = Field(description="Its id.", examples=["aeqs6ksh3xegymb7"])
    name: str = Field(description="A display name or description.", examples=["Autumn news"])
    version: int = Field(description="The number of the newest version.", examples=[2])
    subject: str = Field(description="Template of the subject.")
    language: Language = Field(description="The language of its body.")
    inline_css: bool = Field(description="Whether styles are moved into the elements.")
    archived: bool = Field(description="Whether it is archived: hidden in lists and read-only.")
    created_at: str = Field(description="RFC 3339, UTC.", examples=["2026-09-21T14:13:20.000Z"])
    created_by: str = Field(description="Who did it.", examples=["ann@example.com"])
    updated_at: str = Field(description="When it was last saved, renamed or archived.")
    updated_by: str = Field(description="Who did it.")

    @classmethod
    def from_record(cls, template: Template) -> TemplateSummary:
        return TemplateSummary.model_validate(_summary(template))


class TemplateParts(BaseModel):
    """The content of a version."""

    html: str | None = Field(description="The source, if it is HTML; lines end with LF.")
    mjml: str | None = Field(description="The source, if it is MJML.")
    text: str | None = Field(description="Template of the text part; null: it is derived from the HTML.")
    variables: list[VariableBody] = Field(description="The variables it uses.")
    findings: list[FindingBody] = Field(description="Warnings, as found when it was saved.")
    size: int = Field(description="Bytes of the HTML, rendered with made-up values.", examples=[23110])


class TemplateBody(TemplateSummary, TemplateParts):
    """A template with its newest version."""

    @classmethod
    def whole(cls, template: Template, checked: CheckedTemplate) -> TemplateBody:
        return cls.model_validate(_summary(template) | _parts(checked))


class VersionSummary(BaseModel):
    """A version in a list."""

    version: int = Field(description="Its number, from 1.", examples=[2])
    author: str = Field(description="Who saved it.", examples=["ann@example.com"])
    saved_at: str = Field(description="RFC 3339, UTC.", examples=["2026-09-21T14:13:20.000Z"])
    note: str = Field(description="The author's note about the change; may be empty.", examples=["back to version 1"])
    subject: str = Field(description="Template of the subject.")
    language: Language = Field(description="The language of its body.")

    @classmethod
    def from_record(cls, version: TemplateVersion) -> VersionSummary:
        return VersionSummary.model_validate(_version(version))


class VersionBody(VersionSummary, TemplateParts):
    """A version with its content."""

    inline_css: bool = Field(description="Whether styles were moved into the elements.")
    compiled: str = Field(description="The HTML template that messages are made from: MJML compiled, styles in the elements.")

    @classmethod
    def whole(cls, version: TemplateVersion, checked: CheckedTemplate) -> VersionBody:
        more = {"inline_css": checked.source.inline_css, "compiled": checked.html}
        return cls.model_validate(_version(version) | _parts(checked) | more)


class DiffBody(BaseModel):
    """A part that differs."""

    part: str = Field(description="`subject`, `body` or `text`.", examples=["body"])
    diff: str = Field(
        description="Unified diff, lines ended by LF.", examples=["--- version 1\n+++ version 2\n@@ -1 +1 @@\n-a\n+b"]
    )

    @classmethod
    def all(cls, parts: tuple[PartDiff, ...]) -> list[Self]:
        return [cls(part=part, diff=diff) for part, diff in parts]


class Diff(BaseModel):
    """The differences between two versions."""

    parts: list[DiffBody] = Field(description="The parts that differ; empty: none does.")


class PreviewBody(BaseModel):
    """A message as it would be sent, without tracking."""

    subject: str = Field(description="Rendered.")
    html: str = Field(description="The rendered HTML. Show it in a sandboxed frame: its content is not trusted.")
    text: str = Field(description="Rendered; derived from the HTML where the template has none.")
    missing: list[str] = Field(description="Required variables without a value: an ordinary campaign fails such a recipient.")
    size: int = Field(description="Bytes of the HTML.", examples=[23110])
    findings: list[FindingBody] = Field(description="Warnings about the template.")

    @classmethod
    def from_record(cls, preview: Preview) -> PreviewBody:
        findings = FindingBody.all(preview.checked.findings)
        rendered = preview.rendered._asdict()
        return cls(**rendered, missing=list(preview.missing), size=preview.size, findings=findings)


class Validation(BaseModel):
    """The result of a validation."""

    valid: bool = Field(description="Whether the template could be saved: the findings have no error.")
    findings: list[FindingBody] = Field(description="Errors and warnings, each with its place.")
    variables: list[VariableBody] = Field(description="The variables it uses; empty if it is not valid.")
    size: int | None = Field(description="Bytes of the HTML, rendered with made-up values; null where it is not valid.")


def _summary(template: Template) -> dict[str, object]:
    return {
        "id": template.id,
        "name": template.name,
        "version": template.version,
        "subject": template.subject,
        "language": template.language,
        "inline_css": template.inline_css,
        "archived": template.archived,
        "created_at": rfc3339(template.created_at),
        "created_by": template.created_by,
        "updated_at": rfc3339(template.updated_at),
        "updated_by": template.updated_by,
    }


def _version(version: TemplateVersion) -> dict[str, object]:
    return {
        "version": version.number,
        "author": version.author,
        "saved_at": rfc3339(version.saved_at),
        "note": version.note,
        "subject": version.subject,
        "language": version.language,
    }


def _parts(checked: CheckedTemplate) -> dict[str, object]:
    source = checked.source
    return {
        "html": source.body if source.language is Language.HTML else None,
        "mjml": source.body if source.language is Language.MJML else None,
        "text": source.text,
        "variables": VariableBody.all(checked.variables),
        "findings": FindingBody.all(checked.findings),
        "size": checked.size,
    }
