"""Where templates and their versions are kept: a record each, and an object that holds all of a version.

The object is stored first, under a name made from its content, and then the record that names it: a crash leaves at worst
an object nobody refers to, and of two who save at once neither can touch what the other stored. The template's record and the
new version's are one conditional write: there is never a version without its template or the other way round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, TypeVar

import msgspec

from postroom.errors import Corrupt, NotFound
from postroom.model.template import CheckedTemplate, Template, TemplateSource, TemplateVersion
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.tables import Expect, Item, ItemKey, Put, Tables

Record = TypeVar("Record")

_PAGES = 10
"""Read for one page of a list, at most: what is filtered out costs a read too."""


class TemplatePage(NamedTuple):
    """Part of a list."""

    items: list[Template]
    cursor: str | None


class VersionPage(NamedTuple):
    """Part of a list."""

    items: list[TemplateVersion]
    cursor: str | None


class TemplateRecords:
    """See the module's text."""

    def __init__(self, tables: Tables, objects: Objects) -> None:
        self._tables = tables
        self._objects = objects

    def get(self, tenant: str, id: str) -> Template:  # noqa: A002
        """The record; `NotFound`."""
        item = self._tables.get(_key(tenant, id))
        if item is None:
            raise NotFound(f"there is no template {id}")
        return _template(item)

    def list(
        self, tenant: str, wanted: Callable[[Template], bool], *, cursor: str | None = None, limit: int = 100
    ) -> TemplatePage:
        """Those that are wanted, newest first. A page may be short before the end."""
        found: list[Template] = []
        for _ in range(_PAGES):
            page = self._tables.query(_partition(tenant), cursor=cursor, limit=limit - len(found), reverse=True)
            found += filter(wanted, map(_template, page.items))
            cursor = page.cursor
            if cursor is None or len(found) == limit:
                break
        return TemplatePage(found, cursor)

    def version(self, tenant: str, id: str, number: int) -> TemplateVersion:  # noqa: A002
        """The record of one version; `NotFound`."""
        item = self._tables.get(_version_key(tenant, id, number))
        if item is None:
            raise NotFound(f"template {id} has no version {number}")
        return _read(item, TemplateVersion)

    def versions(self, tenant: str, id: str, *, cursor: str | None = None, limit: int = 100) -> VersionPage:  # noqa: A002
        """All saves, newest first."""
        page = self._tables.query(_versions(tenant, id), cursor=cursor, limit=limit, reverse=True)
        return VersionPage([_read(item, TemplateVersion) for item in page.items], page.cursor)

    def put(self, tenant: str, template: Template, version: TemplateVersion | None = None) -> Template:
        """Store the record as it follows from the `revision` it was read with (0: it is new), and its new version.
        `Conflict`: somebody was there first; nothing was changed."""
        data = msgspec.to_builtins(template)
        del data["revision"]
        writes = [Put(_key(tenant, template.id), data, template.revision or Expect.ABSENT)]
        if version is not None:
            key = _version_key(tenant, template.id, version.number)
            writes.append(Put(key, msgspec.to_builtins(version), Expect.ABSENT))
        return replace(template, revision=self._tables.write(writes)[0])

    def store(self, tenant: str, id: str, number: int, checked: CheckedTemplate) -> str:  # noqa: A002
        """All of a version; the object's key. Again: harmless."""
        content = msgspec.json.encode(checked)
        name = hashlib.sha256(content).hexdigest()[:32]
        key = f"{tenant}/templates/{id}/{number:08}/{name}.json"
        if self._objects.info(key) is None:
            self._objects.put(key, content, content_type="application/json")
        return key

    def load(self, version: TemplateVersion) -> CheckedTemplate:
        """What `store` stored. `Corrupt`."""
        try:
            return msgspec.json.decode(self._objects.get(version.body_key), type=CheckedTemplate)
        except (NotFound, msgspec.MsgspecError) as error:
            raise Corrupt(f"the object {version.body_key} cannot be read: {error}") from error


def digest_of(source: TemplateSource) -> str:
    """The same for the same source."""
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
