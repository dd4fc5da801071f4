"""The contents of single messages in the object store: each stored once, under its own digest, before any message names it.

A crash leaves at worst a content that no message names; whoever sends the same again finds it there.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from postroom.errors import Conflict
from postroom.model.stream import SingleContent, digest_of
from postroom.platform.ports.objects import Objects

_KNOWN = 10_000


class Contents:
    """Those of all tenants. For several threads."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._known: set[str] = set()

    def put(self, tenant: str, document: bytes, links: Sequence[str]) -> str:
        """Keep a content, as `SingleContent.document` wrote it, and its link table; its digest. Again: harmless, and free."""
        digest = digest_of(document)
        key = _key(tenant, digest)
        if key in self._known:
            return digest
        if links:
            self._put(links_key(tenant, digest), msgspec.json.encode(links))
        self._put(key, document)
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known.add(key)
        return digest

    def get(self, tenant: str, digest: str) -> SingleContent:
        """`NotFound`, `Corrupt`."""
        return SingleContent.parse(self._objects.get(_key(tenant, digest)))

    def _put(self, key: str, content: bytes) -> None:
        try:
            self._objects.put(key, content, content_type="application/json", if_absent=True)
        except Conflict:  # it is there: under its digest it cannot be anything else
            return


def links_key(tenant: str, digest: str) -> str:
    """A content's link table: a JSON array of URLs, what a tracked link's index selects from."""
    return f"{_key(tenant, digest)}.links"


def _key(tenant: str, digest: str) -> str:
    return f"{tenant}/streams/contents/{digest}"
