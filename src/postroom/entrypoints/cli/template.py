"""`postroom template`: templates kept as files, and as versions in the installation."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from postroom.entrypoints.cli.making import variables
from postroom.entrypoints.cli.operating import operator, recorded
from postroom.entrypoints.cli.options import Data, Json, OfTenant
from postroom.entrypoints.cli.output import print_json, print_rows, printable, shown_time
from postroom.entrypoints.cli.session import say, session
from postroom.entrypoints.cli.template_files import read_files, write_files
from postroom.errors import Invalid, NotFound
from postroom.model.template import CheckedTemplate, NewTemplate, Template, TemplateFinding
from postroom.model.tenant import DEFAULT_TENANT
from postroom.services.template_checks import TemplateRefused
from postroom.services.templates import TemplateService
from postroom.wiring import Container

app = typer.Typer(help="Templates, from files and as versions.", no_args_is_help=True)
Which = Annotated[str, typer.Argument(metavar="ID", help="Its id, or its whole name.")]
Number = Annotated[int | None, typer.Option(min=1, help="Which version; the newest unless given.")]
_ID = re.compile(r"[a-z2-7]{16}")


@app.command("list")
def list_templates(
    name: Annotated[str, typer.Option(help="Only names that begin so.")] = "",
    archived: Annotated[bool, typer.Option("--archived", help="Only what was put away.")] = False,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """List templates, newest first."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        templates = _every(postroom.templates, tenant, prefix=name, archived=archived)
    if as_json:
        print_json([_as_dict(template) for template in templates])
        return
    rows = [(one.id, one.name, str(one.version), shown_time(one.updated_at), one.updated_by) for one in templates]
    print_rows(("id", "name", "version", "updated", "by"), rows, none="no such templates: `postroom template push` stores one")


@app.command()
def push(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="HTML or MJML; a .txt and a .toml beside it count too.")],
    name: Annotated[str | None, typer.Option(help="Its name; else the .toml says it, else the file's name.")] = None,
    note: Annotated[str, typer.Option(help="What changed, for the list of versions.")] = "",
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Create templates, or save new versions of those that have the name.

    Exit code 2: one has errors, which are listed; those before it are saved."""
    if name is not None and len(files) > 1:
        raise Invalid("--name is for one file")
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        pushed = [_push(postroom, tenant, path, name=name, note=note) for path in files]
    if as_json:
        print_json([{**_as_dict(template), "result": result} for template, result in pushed])
        return
    rows = [(template.id, template.name, str(template.version), result) for template, result in pushed]
    print_rows(("id", "name", "version", "result"), rows)


@app.command()
def pull(
    which: Which,
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to.")] = Path(),
    version: Number = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """Write a template into files, as its author wrote it; prints their names."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        template = _find(postroom.templates, tenant, which)
        _, checked = postroom.templates.version(tenant, template.id, version)
    for path in write_files(directory, template.name, checked.source, force=force):
        typer.echo(path)


@app.command()
def preview(
    which: Annotated[str, typer.Argument(metavar="ID|FILE", help="A file that is there, or a template's id or name.")],
    given: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A value; again for more.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the HTML there.")] = None,
    version: Number = None,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Render a template as it would be sent: subject and text on standard output, warnings on standard error."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        checked = _checked(postroom.templates, tenant, which, version)
        shown = postroom.templates.preview(tenant, checked, variables(given or []))
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
    """Of a file, or of what is stored."""
    path = Path(which)
    if not path.is_file():
        return service.version(tenant, _find(service, tenant, which).id, version)[1]
    if version is not None:
        raise Invalid("--version is for a template that is stored, not for a file")
    new: NewTemplate = read_files(path).new(name=None, known=None)
    try:
        return service.validate(tenant, new)
    except TemplateRefused as refused:
        _say_findings(which, refused.found)
        raise


def _find(service: TemplateService, tenant: str, which: str) -> Template:
    """By id or name. `NotFound`; `Invalid`: several have the name."""
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
    templates: list[Template] = []
    cursor: str | None = None
    while True:
        page = service.list(tenant, archived=archived, prefix=prefix, cursor=cursor, limit=1_000)
        templates += page.items
        cursor = page.cursor
        if cursor is None:
            return templates


def _say_findings(where: str, findings: tuple[TemplateFinding, ...]) -> None:
    """As compilers do, so that editors can jump there."""
    for finding in findings:
        at = f":{finding.line}:{finding.column}" if finding.line and finding.part in ("html", "mjml") else f" ({finding.part})"
        hint = f"; {finding.hint}" if finding.hint else ""
        say(f"{where}{at}: {finding.severity.value}: {finding.message}{hint} [{finding.code}]")


def _as_dict(template: Template) -> dict[str, object]:
    times = {"created_at": shown_time(template.created_at), "updated_at": shown_time(template.updated_at)}
    return {name: value for name, value in (asdict(template) | times).items() if name != "revision"}
