"""`postroom template`: templates kept as files, and as versions in the installation.

A template is `news.html` or `news.mjml`; beside it may be `news.txt` (the text part) and `news.toml` (name, subject, inline_css).
A pulled template can be pushed again unchanged.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from postroom.entrypoints.cli.output import Data, Json, OfTenant, every_item, print_json, print_rows, printable, shown_time
from postroom.entrypoints.cli.send import parse_variables, read_text
from postroom.entrypoints.cli.session import operator, recorded, say, tenant_session
from postroom.errors import Invalid, NotFound
from postroom.model.template import CheckedTemplate, Language, NewTemplate, Template, TemplateFinding, TemplateSource
from postroom.model.tenant import DEFAULT_TENANT
from postroom.services.template_checks import TemplateRefused
from postroom.services.templates import TemplateService
from postroom.templates.mjml import is_mjml
from postroom.wiring import Container

_KEYS = ("name", "subject", "inline_css")
_BODIES = (".html", ".htm", ".mjml")
_NO_FILE_NAME = re.compile(r"[^\w.-]+")


class TemplateFile(NamedTuple):
    """A template as its files define it; None if they do not define a value."""

    path: Path
    body: str
    language: Language
    text: str | None
    name: str | None
    subject: str | None
    inline_css: bool | None

    def new(self, *, name: str | None, known: Template | None, note: str = "") -> NewTemplate:
        """Return the template to save; values that the files do not define stay as in `known`, the stored template."""
        inline_css = known.inline_css if known and self.inline_css is None else self.inline_css
        return NewTemplate(
            name=name or self.name or self.path.stem,
            subject=self.subject if self.subject is not None else known.subject if known else "",
            html=self.body if self.language is Language.HTML else None,
            mjml=self.body if self.language is Language.MJML else None,
            text=self.text,
            inline_css=inline_css is not False,
            note=note,
        )


def read_files(path: Path) -> TemplateFile:
    """Read a template file and the .txt and .toml files beside it. Raises `Invalid`."""
    if path.suffix.lower() in (".txt", ".toml"):
        raise Invalid(f"{path} goes with a template: name the .html or .mjml file")
    if path.suffix.lower() not in _BODIES:
        raise Invalid(f"{path} is no template: its name must end in {', '.join(_BODIES)}")
    body = read_text(path)
    language = Language.MJML if path.suffix.lower() == ".mjml" or is_mjml(body) else Language.HTML
    text, about = path.with_suffix(".txt"), path.with_suffix(".toml")
    values = _read_toml(about) if about.exists() else {}
    return TemplateFile(
        path,
        body,
        language,
        text=read_text(text) if text.exists() else None,
        name=_text(about, values, "name"),
        subject=_text(about, values, "subject"),
        inline_css=_flag(about, values, "inline_css"),
    )


def write_files(directory: Path, name: str, source: TemplateSource, *, force: bool) -> list[Path]:
    """Write a template's files, in a new directory if needed. Raises `Invalid` if a file exists (without `force`)."""
    stem = _NO_FILE_NAME.sub("-", name).strip(".-") or "template"
    about = {"name": name, "subject": source.subject, "inline_css": source.inline_css}
    files = {
        directory / f"{stem}.{source.language.value}": source.body,
        directory / f"{stem}.toml": "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in about.items()),
    }
    if source.text is not None:
        files[directory / f"{stem}.txt"] = source.text
    there = [path.name for path in files if path.exists()]
    if there and not force:
        raise Invalid(f"{', '.join(there)} would be overwritten: choose another directory, or --force")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            path.write_text(content, "utf-8", newline="")
        if source.text is None:
            (directory / f"{stem}.txt").unlink(missing_ok=True)  # else the next push would bring the old text part back
    except OSError as error:
        raise Invalid(f"{directory} cannot be written: {error.strerror}") from error
    return list(files)


def _read_toml(path: Path) -> dict[str, object]:
    try:
        values = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"{path}: {error}") from error
    if unknown := sorted(values.keys() - set(_KEYS)):
        raise Invalid(f"{path}: unknown key {unknown[0]}; known keys are {', '.join(_KEYS)}")
    return values


def _text(path: Path, values: dict[str, object], key: str) -> str | None:
    value = values.get(key)
    if value is None or isinstance(value, str):
        return value
    raise Invalid(f"{path}: {key} must be text")


def _flag(path: Path, values: dict[str, object], key: str) -> bool | None:
    value = values.get(key)
    if value is None or isinstance(value, bool):
        return value
    raise Invalid(f"{path}: {key} must be true or false")


app = typer.Typer(help="Templates with versions, pushed from and pulled to files.", no_args_is_help=True)
Which = Annotated[str, typer.Argument(metavar="ID", help="Template id or full name.")]
Number = Annotated[int | None, typer.Option(min=1, help="Version. Default: the newest.")]
_ID = re.compile(r"[a-z2-7]{16}")


@app.command("list")
def list_templates(
    name: Annotated[str, typer.Option(help="Only templates whose name starts with this.")] = "",
    archived: Annotated[bool, typer.Option("--archived", help="List archived templates.")] = False,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """List templates, newest first."""
    with tenant_session(tenant, data) as postroom:
        templates = _every(postroom.templates, tenant, prefix=name, archived=archived)
    if as_json:
        print_json([_as_dict(template) for template in templates])
        return
    rows = [(one.id, one.name, str(one.version), shown_time(one.updated_at), one.updated_by) for one in templates]
    print_rows(
        ("id", "name", "version", "updated", "by"), rows, none="no matching templates: create one with `postroom template push`"
    )


@app.command()
def push(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="HTML or MJML files; .txt and .toml files beside them are read too.")
    ],
    name: Annotated[str | None, typer.Option(help="Template name. Default: from the .toml file, else the file name.")] = None,
    note: Annotated[str, typer.Option(help="Note shown in the list of versions.")] = "",
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Create templates, or save new versions of those with the same name.

    Exit code 2: a template has errors, which are listed; templates before it are saved."""
    if name is not None and len(files) > 1:
        raise Invalid("--name is for one file")
    with tenant_session(tenant, data) as postroom:
        pushed = [_push(postroom, tenant, path, name=name, note=note) for path in files]
    if as_json:
        print_json([{**_as_dict(template), "result": result} for template, result in pushed])
        return
    rows = [(template.id, template.name, str(template.version), result) for template, result in pushed]
    print_rows(("id", "name", "version", "result"), rows)


@app.command()
def pull(
    which: Which,
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Target directory.")] = Path(),
    version: Number = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """Write a template's source to files and print their names."""
    with tenant_session(tenant, data) as postroom:
        template = _find(postroom.templates, tenant, which)
        _, checked = postroom.templates.version(tenant, template.id, version)
    for path in write_files(directory, template.name, checked.source, force=force):
        typer.echo(path)


@app.command()
def preview(
    which: Annotated[str, typer.Argument(metavar="ID|FILE", help="Template file, or id or name of a stored template.")],
    given: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Variable. Repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write the HTML to.")] = None,
    version: Number = None,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Render a template as it would be sent: subject and text on standard output, warnings on standard error."""
    with tenant_session(tenant, data) as postroom:
        checked = _checked(postroom.templates, tenant, which, version)
        shown = postroom.templates.preview(tenant, checked, parse_variables(given or []))
    _say_findings(which, checked.findings)
    if shown.missing:
        say(f"missing: {', '.join(shown.missing)}")
    if out is not None:
        try:
            out.write_text(shown.rendered.html, "utf-8")
        except OSError as error:
            raise Invalid(f"{out} cannot be written: {error.strerror}") from error
    if as_json:
        found = [finding._asdict() for finding in checked.findings]
        print_json({**shown.rendered._asdict(), "missing": shown.missing, "size": shown.size, "findings": found})
    else:
        typer.echo(printable(f"Subject: {shown.rendered.subject}\n\n{shown.rendered.text}"), nl=False)


def _push(postroom: Container, tenant: str, path: Path, *, name: str | None, note: str) -> tuple[Template, str]:
    service = postroom.templates
    file = read_files(path)
    known = _named(service, tenant, name or file.name or path.stem)
    new, author = file.new(name=name, known=known, note=note), operator(tenant).name
    try:
        id = service.new_id() if known is None else known.id  # noqa: A001
        with recorded(postroom, "template push", tenant=tenant, target=f"template/{id}"):
            template = service.create(tenant, id, new, author) if known is None else service.save(tenant, id, new, author=author)
    except TemplateRefused as refused:
        _say_findings(str(path), refused.found)
        raise Invalid(f"{path} was not saved: {refused}") from refused
    _say_findings(str(path), service.version(tenant, template.id, template.version)[1].findings)
    if known is None:
        return template, "created"
    return template, "unchanged" if template.version == known.version else "saved"


def _checked(service: TemplateService, tenant: str, which: str, version: int | None) -> CheckedTemplate:
    """Check a template file, or load a stored version."""
    path = Path(which)
    if not path.is_file():
        return service.version(tenant, _find(service, tenant, which).id, version)[1]
    if version is not None:
        raise Invalid("--version is for a stored template, not for a file")
    new: NewTemplate = read_files(path).new(name=None, known=None)
    try:
        return service.validate(tenant, new)
    except TemplateRefused as refused:
        _say_findings(which, refused.found)
        raise


def _find(service: TemplateService, tenant: str, which: str) -> Template:
    """Find a template by id or name. Raises `NotFound`, or `Invalid` if several templates have the name."""
    if _ID.fullmatch(which):
        try:
            return service.get(tenant, which)
        except NotFound:  # a name may look like an id
            pass
    template = _named(service, tenant, which)
    if template is None:
        raise NotFound(f"there is no template {which}: neither an id nor a name; see postroom template list")
    return template


def _named(service: TemplateService, tenant: str, name: str) -> Template | None:
    name = " ".join(name.split())
    found = [one for one in _every(service, tenant, prefix=name) if one.name == name]
    if len(found) > 1:
        raise Invalid(f"{len(found)} templates are named {name!r} ({', '.join(one.id for one in found)}): rename or archive one")
    return found[0] if found else None


def _every(service: TemplateService, tenant: str, *, prefix: str, archived: bool = False) -> list[Template]:
    return list(
        every_item(lambda cursor, limit: service.list(tenant, archived=archived, prefix=prefix, cursor=cursor, limit=limit))
    )


def _say_findings(where: str, findings: tuple[TemplateFinding, ...]) -> None:
    """Report findings in the format of compilers, so that editors can jump to the line."""
    for finding in findings:
        at = f":{finding.line}:{finding.column}" if finding.line and finding.part in ("html", "mjml") else f" ({finding.part})"
        hint = f"; {finding.hint}" if finding.hint else ""
        say(f"{where}{at}: {finding.severity.value}: {finding.message}{hint} [{finding.code}]")


def _as_dict(template: Template) -> dict[str, object]:
    times = {"created_at": shown_time(template.created_at), "updated_at": shown_time(template.updated_at)}
    return {name: value for name, value in (asdict(template) | times).items() if name != "revision"}
