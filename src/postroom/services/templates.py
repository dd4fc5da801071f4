"""Templates: saved as immutable versions, compared, rolled back, archived. Nothing is ever lost.

A save checks the source (services.template_checks) and makes a version that never changes. A save that changes nothing makes
none, so saving again after a lost answer is harmless. If two callers save at once, the second gets `Conflict`.

A version's object is stored first, under a name made from its content, then the record that names it. A crash leaves at worst
an unused object. The template's record and the version's are one conditional write: neither exists without the other.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import NamedTuple, TypeVar

import msgspec

from postroom.clock import Clock
from postroom.delivery.compose import ContentCompiler, RowError
from postroom.errors import Conflict, Corrupt, Invalid, NotFound
from postroom.model import ids
from postroom.model.template import (
    MAX_NAME,
    MAX_NOTE,
    CheckedTemplate,
    NewTemplate,
    Template,
    TemplateContent,
    TemplateSource,
    TemplateVersion,
)
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.tables import Expect, Item, ItemKey, Put, Tables
from postroom.services.template_checks import (
    STAND_IN_URL,
    PartDiff,
    RenderedTemplate,
    RenderInput,
    TemplateRenderer,
    by_name,
    check,
    compare,
    tidy,
)

Record = TypeVar("Record")
_PAGES = 10
"""Pages read for one page of a list, at most: filtered items cost a read too."""


class TemplatePage(NamedTuple):
    items: list[Template]
    cursor: str | None


class VersionPage(NamedTuple):
    items: list[TemplateVersion]
    cursor: str | None


class TemplateRecords:
    """Stores templates and their versions."""

    def __init__(self, tables: Tables, objects: Objects) -> None:
        self._tables = tables
        self._objects = objects

    def get(self, tenant: str, id: str) -> Template:  # noqa: A002
        """Raises `NotFound`."""
        item = self._tables.get(_key(tenant, id))
        if item is None:
            raise NotFound(f"there is no template {id}")
        return _template(item)

    def list(
        self, tenant: str, wanted: Callable[[Template], bool], *, cursor: str | None = None, limit: int = 100
    ) -> TemplatePage:
        """Templates for which `wanted` is true, newest first. A page may be short before the end."""
        found: list[Template] = []
        for _ in range(_PAGES):
            page = self._tables.query(_partition(tenant), cursor=cursor, limit=limit - len(found), reverse=True)
            found += filter(wanted, map(_template, page.items))
            cursor = page.cursor
            if cursor is None or len(found) == limit:
                break
        return TemplatePage(found, cursor)

    def version(self, tenant: str, id: str, number: int) -> TemplateVersion:  # noqa: A002
        """Raises `NotFound`."""
        item = self._tables.get(_version_key(tenant, id, number))
        if item is None:
            raise NotFound(f"template {id} has no version {number}")
        return _read(item, TemplateVersion)

    def versions(self, tenant: str, id: str, *, cursor: str | None = None, limit: int = 100) -> VersionPage:  # noqa: A002
        """Versions, newest first."""
        page = self._tables.query(_versions(tenant, id), cursor=cursor, limit=limit, reverse=True)
        return VersionPage([_read(item, TemplateVersion) for item in page.items], page.cursor)

    def put(self, tenant: str, template: Template, version: TemplateVersion | None = None) -> Template:
        """Store a changed template (`revision` 0: a new one) and its new version, if any.

        Raises `Conflict` if it was changed since it was read; then nothing is stored."""
        data = msgspec.to_builtins(template)
        del data["revision"]
        writes = [Put(_key(tenant, template.id), data, template.revision or Expect.ABSENT)]
        if version is not None:
            key = _version_key(tenant, template.id, version.number)
            writes.append(Put(key, msgspec.to_builtins(version), Expect.ABSENT))
        return replace(template, revision=self._tables.write(writes)[0])

    def store(self, tenant: str, id: str, number: int, checked: CheckedTemplate) -> str:  # noqa: A002
        """Store a version's content and return the object's key. Idempotent."""
        content = msgspec.json.encode(checked)
        name = hashlib.sha256(content).hexdigest()[:32]
        key = f"{tenant}/templates/{id}/{number:08}/{name}.json"
        if self._objects.info(key) is None:
            self._objects.put(key, content, content_type="application/json")
        return key

    def load(self, version: TemplateVersion) -> CheckedTemplate:
        """The content stored by `store`. Raises `Corrupt`."""
        try:
            return msgspec.json.decode(self._objects.get(version.body_key), type=CheckedTemplate)
        except (NotFound, msgspec.MsgspecError) as error:
            raise Corrupt(f"the object {version.body_key} cannot be read: {error}") from error


def digest_of(source: TemplateSource) -> str:
    """Equal for equal sources."""
    return hashlib.sha256(msgspec.json.encode(source, order="deterministic")).hexdigest()[:32]


def _partition(tenant: str) -> str:
    return f"{tenant}#templates"


def _key(tenant: str, id: str) -> ItemKey:  # noqa: A002
    return ItemKey(_partition(tenant), id)


def _versions(tenant: str, id: str) -> str:  # noqa: A002
    return f"{tenant}#template-versions#{id}"


def _version_key(tenant: str, id: str, number: int) -> ItemKey:  # noqa: A002
    return ItemKey(_versions(tenant, id), f"{number:08}")


def _template(item: Item) -> Template:
    return _read(item, Template, revision=item.version)


def _read(item: Item, kind: type[Record], **more: int) -> Record:
    try:
        return msgspec.convert({**item.data, **more}, kind)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the record of template {item.key.sort} cannot be read: {error}") from error


MAX_CACHED = 8_000_000
"""Characters of contents kept in memory. A version never changes, so entries stay valid."""
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Preview:
    rendered: RenderedTemplate
    missing: tuple[str, ...]
    """Required variables without a value in the row."""
    size: int
    """Bytes of the HTML."""
    checked: CheckedTemplate


class TemplateService:
    """Saves, reads, compares and archives templates. Each method raises `NotFound` also for another tenant's id."""

    def __init__(self, tables: Tables, objects: Objects, clock: Clock, composing: ContentCompiler) -> None:
        self._records = TemplateRecords(tables, objects)
        self._clock = clock
        self._composing = composing
        self._contents: OrderedDict[tuple[str, str, int], TemplateContent] = OrderedDict()
        self._lock = Lock()

    def new_id(self) -> str:
        """An unused id; ids sort by age."""
        return ids.campaign_id(self._clock.now(), self._clock.random(5))

    def create(self, tenant: str, id: str, new: NewTemplate, author: str) -> Template:  # noqa: A002
        """Version 1 of a new template. If the id exists, returns that template. Raises `TemplateRefused`, or `Invalid` for the
        name."""
        checked = self.validate(tenant, new)
        now = self._clock.now()
        template = Template(
            id=id,
            name=_name(new.name),
            version=1,
            subject=checked.source.subject,
            language=checked.source.language,
            inline_css=checked.source.inline_css,
            archived=False,
            created_at=now,
            created_by=author,
            updated_at=now,
            updated_by=author,
        )
        try:
            return self._records.put(tenant, template, self._version(tenant, template, checked, new.note))
        except Conflict:  # the first attempt succeeded, and its response was lost
            return self._records.get(tenant, id)

    def get(self, tenant: str, id: str) -> Template:  # noqa: A002
        return self._records.get(tenant, id)

    def list(
        self,
        tenant: str,
        *,
        archived: bool | None = False,
        prefix: str = "",
        cursor: str | None = None,
        limit: int = 100,
    ) -> TemplatePage:
        """Templates, newest first. `archived` None: both. `prefix`: the beginning of names, in any case. Raises `Invalid` for the
        cursor."""
        prefix = prefix.casefold()

        def wanted(template: Template) -> bool:
            return (archived is None or template.archived is archived) and template.name.casefold().startswith(prefix)

        return self._records.list(tenant, wanted, cursor=cursor, limit=limit)

    def save(
        self,
        tenant: str,
        id: str,  # noqa: A002
        new: NewTemplate,
        *,
        author: str,
        if_version: int | None = None,
    ) -> Template:
        """Make a new version, unless only the name changed. `if_version`: the `revision` the caller read.

        Raises `Conflict` if it is archived or was saved meanwhile; `TemplateRefused`."""
        template = self._open(tenant, id, if_version)
        checked = self.validate(tenant, new)
        named = replace(template, name=_name(new.name), updated_at=self._clock.now(), updated_by=author)
        source = checked.source
        if self._records.version(tenant, id, template.version).digest == digest_of(source):
            return template if named.name == template.name else self._records.put(tenant, named)
        saved = replace(
            named,
            version=template.version + 1,
            subject=source.subject,
            language=source.language,
            inline_css=source.inline_css,
        )
        return self._records.put(tenant, saved, self._version(tenant, saved, checked, new.note))

    def rollback(self, tenant: str, id: str, version: int, *, author: str, if_version: int | None = None) -> Template:  # noqa: A002
        """Make a new version equal to an older one. Raises `NotFound` for an unknown number."""
        template = self._open(tenant, id, if_version)
        old = self._records.version(tenant, id, version)
        if old.digest == self._records.version(tenant, id, template.version).digest:
            return template
        saved = replace(
            template,
            version=template.version + 1,
            subject=old.subject,
            language=old.language,
            inline_css=self._records.load(old).source.inline_css,
            updated_at=self._clock.now(),
            updated_by=author,
        )
        note = f"back to version {version}"
        again = replace(old, number=saved.version, author=author, saved_at=saved.updated_at, note=note)
        return self._records.put(tenant, saved, again)

    def archive(self, tenant: str, id: str, *, author: str, archived: bool = True) -> Template:  # noqa: A002
        """Archive or restore. An archived template is not listed and cannot be changed, but is readable by id. Idempotent."""
        for _ in range(_TRIES):
            template = self._records.get(tenant, id)
            if template.archived is archived:
                return template
            try:
                now = self._clock.now()
                return self._records.put(tenant, replace(template, archived=archived, updated_at=now, updated_by=author))
            except Conflict:  # saved by another caller: read again
                continue
        raise Conflict(f"template {id} is being changed by others all the time; try again")

    def versions(self, tenant: str, id: str, *, cursor: str | None = None, limit: int = 100) -> VersionPage:  # noqa: A002
        """Versions, newest first."""
        self._records.get(tenant, id)
        return self._records.versions(tenant, id, cursor=cursor, limit=limit)

    def version(self, tenant: str, id: str, number: int | None = None) -> tuple[TemplateVersion, CheckedTemplate]:  # noqa: A002
        """A version and its content; None: the newest."""
        found = self._records.version(tenant, id, number or self._records.get(tenant, id).version)
        return found, self._records.load(found)

    def content(self, tenant: str, id: str, version: int | None = None) -> TemplateContent:  # noqa: A002
        """What messages are composed from; None: the newest version. Also of an archived template."""
        number = version or self._records.get(tenant, id).version
        key = (tenant, id, number)
        with self._lock:
            if key in self._contents:
                self._contents.move_to_end(key)
                return self._contents[key]
        checked = self._records.load(self._records.version(tenant, id, number))
        content = TemplateContent(id, number, checked.source.subject, checked.html, checked.source.text)
        self._remember(key, content)
        return content

    def diff(self, tenant: str, id: str, before: int, after: int) -> tuple[PartDiff, ...]:  # noqa: A002
        old, new = (self._records.load(self._records.version(tenant, id, number)) for number in (before, after))
        return compare(old.source, new.source, names=(f"version {before}", f"version {after}"))

    def validate(self, tenant: str, new: NewTemplate) -> CheckedTemplate:
        """Check without storing. Raises `TemplateRefused` with all errors."""
        if (new.html is None) == (new.mjml is None):
            raise Invalid("give a template either html or mjml")
        return check(tidy(new.source), tenant, composing=self._composing, clock=self._clock)

    def preview(
        self,
        tenant: str,
        checked: CheckedTemplate,
        values: Mapping[str, str],
        row: Mapping[str, str] | None = None,
    ) -> Preview:
        """Render with `values` by variable; they override `row` by column. Raises `Invalid` if no message can be made."""
        rendering = self._rendering(RenderInput(checked.source.subject, checked.html, checked.source.text), tenant)
        values = {**by_name(row or {}, rendering.names), **values}
        try:
            rendered = rendering.render(values)
        except RowError as problem:
            raise Invalid(str(problem).removeprefix("Row at line 1: ")) from problem
        missing = tuple(name for name, required in checked.variables if required and not values.get(name))
        return Preview(rendered, missing, len(rendered.html.encode()), checked)

    def _rendering(self, parts: RenderInput, tenant: str) -> TemplateRenderer:
        url = self._composing.public_url
        try:
            return TemplateRenderer(parts, tenant, composing=self._composing, public_url=url)
        except Invalid:
            if url is not None:
                raise
            return TemplateRenderer(parts, tenant, composing=self._composing, public_url=STAND_IN_URL)

    def _open(self, tenant: str, id: str, if_version: int | None) -> Template:  # noqa: A002
        template = self._records.get(tenant, id)
        if if_version is not None and template.revision != if_version:
            raise Conflict(f"template {id} was changed since you read it: read it again")
        if template.archived:
            raise Conflict(f"template {id} is archived: unarchive it to change it")
        return template

    def _version(self, tenant: str, template: Template, checked: CheckedTemplate, note: str) -> TemplateVersion:
        return TemplateVersion(
            number=template.version,
            author=template.updated_by,
            saved_at=template.updated_at,
            note=note[:MAX_NOTE],
            subject=checked.source.subject,
            language=checked.source.language,
            digest=digest_of(checked.source),
            body_key=self._records.store(tenant, template.id, template.version, checked),
        )

    def _remember(self, key: tuple[str, str, int], content: TemplateContent) -> None:
        with self._lock:
            self._contents[key] = content
            while len(self._contents) > 1 and sum(map(_size, self._contents.values())) > MAX_CACHED:
                self._contents.popitem(last=False)


def _size(content: TemplateContent) -> int:
    return len(content.html) + len(content.text or "")


def _name(text: str) -> str:
    name = " ".join(text.split())
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise Invalid(f"a template's name has 1 to {MAX_NAME} printable characters")
    return name
