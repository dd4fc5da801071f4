"""The contents of single messages in the object store: each stored once, under its own digest, before any message names it.

They are kept apart by *era*, 32 days of streams, so that an era whose streams are deleted can be deleted as a whole. A crash
leaves at worst a content that no message names; whoever sends the same again finds it there.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from postroom.errors import Conflict
from postroom.model.campaign import CampaignRef
from postroom.model.stream import SingleContent, digest_of, stream_day
from postroom.platform.ports.objects import Objects

ERA_DAYS = 32
_KNOWN = 10_000


class Contents:
    """Those of all tenants. For several threads."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._known: set[str] = set()

    def put(self, ref: CampaignRef, document: bytes, links: Sequence[str]) -> str:
        """Keep a content of a stream's messages, as `SingleContent.document` wrote it, and its link table; its digest. Again:
        harmless, and free."""
        digest = digest_of(document)
        key = _key(ref, digest)
        if key in self._known:
            return digest
        if links:
            self._put(links_key(ref, digest), msgspec.json.encode(links))
        self._put(key, document)
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known.add(key)
        return digest

    def get(self, ref: CampaignRef, digest: str) -> SingleContent:
        """What messages of that stream are made of. `NotFound`, `Corrupt`."""
        return SingleContent.parse(self._objects.get(_key(ref, digest)))

    def purge(self, tenant: str, era: int) -> None:
        """Delete an era, once all of its streams are deleted. Again: harmless."""
        self._objects.purge(_prefix(tenant, era))

    def _put(self, key: str, content: bytes) -> None:
        try:
            self._objects.put(key, content, content_type="application/json", if_absent=True)
        except Conflict:  # it is there: under its digest it cannot be anything else
            return


def links_key(ref: CampaignRef, digest: str) -> str:
    """The link table of a content: a JSON array of URLs, what a tracked link's index selects from."""
    return f"{_key(ref, digest)}.links"


def _key(ref: CampaignRef, digest: str) -> str:
    return f"{_prefix(ref.tenant, stream_day(ref.campaign) // ERA_DAYS)}{digest}"


def _prefix(tenant: str, era: int) -> str:
    return f"{tenant}/streams/{era:06}/"
