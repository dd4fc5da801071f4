"""`/v1/templates`: create, update, version, compare, validate and preview templates.

The id of a new template is a recovery point. Every other change may be repeated: saving identical content creates no version.
Checking and rendering cost processor time, so they run under a `ConcurrencyLimit`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import APIRouter, Response

from postroom.errors import Denied, Unsupported
from postroom.gateway.access import Editor, Viewer
from postroom.gateway.audit import Audit, AuditChange, reads
from postroom.gateway.bodies import accepts
from postroom.gateway.etags import IfMatch, IfNoneMatch, demand, etag_of, matches, not_modified
from postroom.gateway.idempotency import Points
from postroom.gateway.limits import ConcurrencyLimit
from postroom.gateway.paging import Cursor, Limit, Page
from postroom.gateway.pipeline import Route
from postroom.gateway.schemas.templates import (
    MAX_BODY,
    Archived,
    Diff,
    DiffBody,
    FindingBody,
    From,
    NamePrefix,
    PreviewBody,
    Rollback,
    Row,
    TemplateBody,
    TemplateId,
    TemplateSummary,
    TemplateToValidate,
    TemplateWritten,
    To,
    Validation,
    VariableBody,
    VersionBody,
    VersionNumber,
    VersionSummary,
)
from postroom.model.access import Role
from postroom.model.template import Template
from postroom.services.template_checks import TemplateRefused
from postroom.services.templates import TemplateService

Rows = Callable[[str, str, int], Mapping[str, str]]
"""A row (from 1) of a tenant's upload, by column. Raises `NotFound`, `Invalid`."""


def templates_routes(service: TemplateService, rows: Rows | None = None) -> APIRouter:
    """All routes except the test send. `rows` None: previews take no upload."""
    router = APIRouter(prefix="/v1/templates", tags=["templates"], route_class=Route)
    checks = ConcurrencyLimit("templates are being checked")
    _add_records(router, service, checks)
    _add_changes(router, service, checks)
    _add_versions(router, service)
    _add_looks(router, service, checks, rows=rows)
    return router


def _add_records(router: APIRouter, service: TemplateService, checks: ConcurrencyLimit) -> None:
    @router.post("", operation_id="create_template", status_code=201)
    @accepts(MAX_BODY)
    def create(body: TemplateWritten, caller: Editor, points: Points, audit: Audit, response: Response) -> TemplateBody:
        """Create a template, with version 1.

        A template with errors is refused; the problem's `findings` list them. Warnings are stored with the template."""
        id_ = points.once("id", service.new_id)
        with checks.slot(caller.tenant):
            template = service.create(caller.tenant, id_, body.new(), caller.name)
        response.headers["Location"] = f"/v1/templates/{template.id}"
        return _changed_template(service, caller.tenant, audit, None, template, response)

    @router.get("", operation_id="list_templates")
    def list_templates(
        caller: Viewer, name: NamePrefix = "", archived: Archived = False, limit: Limit = 100, cursor: Cursor = None
    ) -> Page[TemplateSummary]:
        """List templates, newest first."""
        page = service.list(caller.tenant, archived=archived, prefix=name, cursor=cursor, limit=limit)
        return Page(items=[TemplateSummary.from_record(template) for template in page.items], cursor=page.cursor)

    @router.get(
        "/{template_id}",
        operation_id="get_template",
        response_model=TemplateBody,
        responses={304: {"description": "Not modified."}},
    )
    def get(
        template_id: TemplateId, caller: Viewer, response: Response, if_none_match: IfNoneMatch = None
    ) -> TemplateBody | Response:
        """Retrieve a template with its newest version."""
        template = service.get(caller.tenant, template_id)
        etag = etag_of(template.revision)
        if matches(if_none_match, etag):
            return not_modified(etag)
        response.headers["ETag"] = etag
        return _whole(service, caller.tenant, template)


def _add_changes(router: APIRouter, service: TemplateService, checks: ConcurrencyLimit) -> None:
    @router.put("/{template_id}", operation_id="save_template")
    @accepts(MAX_BODY)
    def save(
        template_id: TemplateId,
        body: TemplateWritten,
        caller: Editor,
        audit: Audit,
        response: Response,
        if_match: IfMatch = None,
    ) -> TemplateBody:
        """Update a template: create a new version, unless only the name changed.

        With `If-Match`, only if it was not changed since it was read."""
        before = service.get(caller.tenant, template_id)
        demand(if_match, etag_of(before.revision))
        seen = before.revision if if_match else None
        with checks.slot(caller.tenant):
            after = service.save(caller.tenant, template_id, body.new(), author=caller.name, if_version=seen)
        return _changed_template(service, caller.tenant, audit, before, after, response)

    @router.post("/{template_id}/rollback", operation_id="roll_back_template")
    def rollback(
        template_id: TemplateId, body: Rollback, caller: Editor, audit: Audit, response: Response, if_match: IfMatch = None
    ) -> TemplateBody:
        """Roll back a template: create a new version with the content of an older one."""
        before = service.get(caller.tenant, template_id)
        demand(if_match, etag_of(before.revision))
        seen = before.revision if if_match else None
        after = service.rollback(caller.tenant, template_id, body.version, author=caller.name, if_version=seen)
        return _changed_template(service, caller.tenant, audit, before, after, response)

    @router.delete("/{template_id}", operation_id="archive_template", status_code=204)
    def archive(template_id: TemplateId, caller: Editor, audit: Audit) -> None:
        """Archive a template.

        It is hidden in lists and cannot be changed. It can still be retrieved by its id, and its campaigns continue."""
        before = service.get(caller.tenant, template_id)
        after = service.archive(caller.tenant, template_id, author=caller.name)
        audit.changed("template", template_id, before=_audit_value(before), after=_audit_value(after))

    @router.post("/{template_id}/unarchive", operation_id="unarchive_template")
    def unarchive(template_id: TemplateId, caller: Editor, audit: Audit, response: Response) -> TemplateBody:
        """Unarchive a template."""
        before = service.get(caller.tenant, template_id)
        after = service.archive(caller.tenant, template_id, author=caller.name, archived=False)
        return _changed_template(service, caller.tenant, audit, before, after, response)


def _add_versions(router: APIRouter, service: TemplateService) -> None:
    @router.get("/{template_id}/versions", operation_id="list_template_versions")
    def versions(template_id: TemplateId, caller: Viewer, limit: Limit = 100, cursor: Cursor = None) -> Page[VersionSummary]:
        """List the versions of a template, newest first."""
        page = service.versions(caller.tenant, template_id, cursor=cursor, limit=limit)
        return Page(items=[VersionSummary.from_record(version) for version in page.items], cursor=page.cursor)

    @router.get("/{template_id}/versions/{version}", operation_id="get_template_version")
    def version(template_id: TemplateId, version: VersionNumber, caller: Viewer) -> VersionBody:
        """Retrieve a version of a template, with the HTML that messages are made from."""
        return VersionBody.whole(*service.version(caller.tenant, template_id, version))

    @router.get("/{template_id}/diff", operation_id="compare_template_versions")
    def diff(template_id: TemplateId, before: From, to: To, caller: Viewer) -> Diff:
        """Compare two versions of a template, part by part."""
        return Diff(parts=DiffBody.all(service.diff(caller.tenant, template_id, before, to)))


def _add_looks(router: APIRouter, service: TemplateService, checks: ConcurrencyLimit, *, rows: Rows | None) -> None:
    @router.post("/validate", operation_id="validate_template")
    @reads
    @accepts(MAX_BODY)
    def validate(body: TemplateToValidate, caller: Viewer) -> Validation:
        """Validate a template without saving it: errors, warnings, and the variables it uses."""
        try:
            with checks.slot(caller.tenant):
                checked = service.validate(caller.tenant, body.new())
        except TemplateRefused as refused:
            return Validation(valid=False, findings=FindingBody.all(refused.found), variables=[], size=None)
        findings, variables = FindingBody.all(checked.findings), VariableBody.all(checked.variables)
        return Validation(valid=True, findings=findings, variables=variables, size=checked.size)

    @router.post("/{template_id}/preview", operation_id="preview_template")
    @reads
    def preview(template_id: TemplateId, body: Row, caller: Viewer) -> PreviewBody:
        """Preview a template: render it with one row's values. A row of an upload needs the role editor."""
        _, checked = service.version(caller.tenant, template_id, body.version)
        row: Mapping[str, str] = {}
        if body.upload_id is not None:
            if rows is None:
                raise Unsupported("uploads are not to be had here: give the values as variables")
            if not caller.role.includes(Role.EDITOR):  # as for the sample rows of uploads
                raise Denied(
                    f"rows of uploads are personal data, for editors; {caller.name} is {caller.role}: give the values yourself"
                )
            row = rows(caller.tenant, body.upload_id, body.row)
        with checks.slot(caller.tenant):
            return PreviewBody.from_record(service.preview(caller.tenant, checked, body.variables, row))


def _whole(service: TemplateService, tenant: str, template: Template) -> TemplateBody:
    return TemplateBody.whole(template, service.version(tenant, template.id, template.version)[1])


def _changed_template(
    service: TemplateService, tenant: str, audit: AuditChange, before: Template | None, after: Template, response: Response
) -> TemplateBody:
    audit.changed("template", after.id, before=before and _audit_value(before), after=_audit_value(after))
    response.headers["ETag"] = etag_of(after.revision)
    return _whole(service, tenant, after)


def _audit_value(template: Template) -> object:
    return TemplateSummary.from_record(template).model_dump(mode="json")
