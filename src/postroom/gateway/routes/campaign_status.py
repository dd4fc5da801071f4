"""`GET /v1/campaigns/{id}/status`: a campaign's status in numbers, made to be polled by many callers.

`StatusCache` holds ready response bytes and reads the store a few times a second at most, so a thousand callers of one campaign
cost as much as one: the first whose entry is too old starts a read, the others wait for it (single flight). Without callers
nothing is read. A campaign that has ended is checked by its record's version, its counts less often. Waiting for a change holds
no thread. The cache may be lost at any time. What it shows is at most `every` seconds old, or four times as old as a read
takes; a change made by this process (`forget`) is visible at once.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request, Response

from postroom.clock import Clock
from postroom.gateway.access import Viewer
from postroom.gateway.etags import IfNoneMatch, etag_of, matches
from postroom.gateway.pipeline import Route
from postroom.gateway.schemas.campaign_messages import CampaignStatusBody
from postroom.gateway.schemas.campaigns import CampaignId
from postroom.model.campaign import ENDED, CampaignRef, CampaignStatus
from postroom.services.status import StatusReport, StatusService

EVERY_S = 0.3
READING_SHARE = 0.25
"""The most of the time spent reading one campaign: with many events, each read of a large campaign counts all of them again
(ports.messages: `totals`).
"""
ENDED_EVERY_S = 5.0
ENTRIES = 10_000
_LATELY_S = 10.0
_SHORTEST_S = 1.0  # a rate over a shorter time is noise


@dataclass(frozen=True, slots=True)
class CachedStatus:
    """A serialised status."""

    body: bytes
    etag: str


class StatusCache:
    """Used on one event loop."""

    def __init__(
        self,
        status: StatusService,
        clock: Clock,
        *,
        every: float = EVERY_S,
        ended_every: float = ENDED_EVERY_S,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._status = status
        self._clock = clock
        self._every = every
        self._ended_every = ended_every
        self._pause = pause
        self._entries: OrderedDict[CampaignRef, _Entry] = OrderedDict()
        self._closing = False

    async def look(self, ref: CampaignRef) -> CachedStatus:
        """The status, at most `every` old. Raises `NotFound`."""
        entry = self._entries.get(ref)
        if entry is None:
            entry = self._entries[ref] = _Entry()
            if len(self._entries) > ENTRIES:
                self._entries.popitem(last=False)
        elif entry.posted is not None and self._clock.monotonic() < entry.until:
            return entry.posted
        self._entries.move_to_end(ref)
        return await self._renewed(ref, entry)

    async def watch(
        self, ref: CampaignRef, known: Callable[[str], bool], *, seconds: float, gone: Callable[[], Awaitable[bool]]
    ) -> CachedStatus:
        """The status as soon as its tag is not `known`, after `seconds`, or once the caller is `gone`."""
        ends = self._clock.monotonic() + seconds
        while True:
            posted = await self.look(ref)
            left = ends - self._clock.monotonic()
            if left <= 0 or self._closing or not known(posted.etag) or await gone():
                return posted
            await self._pause(min(self._every, left))

    def forget(self, ref: CampaignRef) -> None:
        """Drop the entry after a change: the next call reads it. Thread-safe."""
        if ref in self._entries:  # a read in progress ends in the dropped entry
            self._entries[ref] = _Entry()

    def close(self) -> None:
        """End all waits within `every`: the server stops."""
        self._closing = True

    async def _renewed(self, ref: CampaignRef, entry: _Entry) -> CachedStatus:
        reading = entry.reading
        if reading is None or reading.done() or reading.get_loop() is not asyncio.get_running_loop():
            reading = entry.reading = asyncio.ensure_future(asyncio.to_thread(self._read, ref, entry))
        try:
            return await asyncio.shield(reading)  # a caller that leaves must not cancel the read for others
        except Exception:
            if entry.posted is None and self._entries.get(ref) is entry:
                del self._entries[ref]
            raise

    def _read(self, ref: CampaignRef, entry: _Entry) -> CachedStatus:
        now = self._clock.monotonic()
        posted = entry.posted
        if posted is None or now >= entry.recount_at:
            status: StatusReport | None = self._status.get(ref)
        else:
            status = self._status.get_unless(ref, entry.version)
        if status is not None:
            posted = _cached_status(replace(status, recent_per_second=entry.lately(status, now)))
            entry.version = status.campaign.version
            entry.recount_at = now + (self._ended_every if status.campaign.status in ENDED else 0.0)
            entry.posted = posted
        assert posted is not None
        took = self._clock.monotonic() - now
        entry.until = now + max(self._every, took / READING_SHARE)
        return posted


class _Entry:
    """The cache entry of one campaign. Only one read at a time changes it."""

    def __init__(self) -> None:
        self.posted: CachedStatus | None = None
        self.until = 0.0
        self.recount_at = 0.0
        self.version = 0
        self.reading: asyncio.Future[CachedStatus] | None = None
        self._seen: deque[tuple[float, int]] = deque()
        """When the number of messages past sending changed, and its value then."""
        self._rate: float | None = None

    def lately(self, status: StatusReport, now: float) -> float | None:
        """Messages past sending per second, over the last ten seconds or since the read before them.

        It stays equal until something changes or ten seconds have passed, so that time alone does not wake waiting callers."""
        seen = self._seen
        if status.campaign.status is not CampaignStatus.SENDING:
            seen.clear()
            self._rate = None
        elif not seen:
            seen.append((now, status.done))
        elif status.done != seen[-1][1]:
            while len(seen) > 1 and seen[0][0] < now - _LATELY_S:
                seen.popleft()
            since, done = seen[0]
            self._rate = max(0, status.done - done) / max(now - since, _SHORTEST_S)
            seen.append((now, status.done))
        elif self._rate is not None and now - seen[-1][0] >= _LATELY_S:
            self._rate = 0.0
        return self._rate


def _cached_status(status: StatusReport) -> CachedStatus:
    body = orjson.dumps(status.as_dict())
    return CachedStatus(body, etag_of(hashlib.sha256(body).hexdigest()[:24]))


MAX_WAIT_S = 20
"""API Gateway's limit is 29 seconds."""

Wait = Annotated[
    int,
    Query(
        ge=0,
        le=MAX_WAIT_S,
        description="Seconds to wait for a change: from the version in `If-None-Match`, or else from the current one.",
    ),
]

_CACHING = "private, no-cache"
_ANSWERS: dict[int | str, dict[str, object]] = {
    200: {"model": CampaignStatusBody, "description": "The status, with its `ETag`."},
    304: {"description": "Not modified."},
}


def status_routes(board: StatusCache) -> APIRouter:
    """The status route; it holds no thread while it waits."""
    router = APIRouter(prefix="/v1/campaigns", tags=["status", "campaigns"], route_class=Route)

    @router.get("/{campaign_id}/status", operation_id="get_campaign_status", responses=_ANSWERS)
    async def status(
        campaign_id: CampaignId, caller: Viewer, request: Request, wait: Wait = 0, if_none_match: IfNoneMatch = None
    ) -> Response:
        """Retrieve a campaign's status in numbers, at most half a second old.

        With `If-None-Match`, an unchanged status is answered with 304; with `wait`, the response waits for a change."""
        ref = CampaignRef(caller.tenant, campaign_id)
        posted = await board.look(ref)
        if wait:
            first = posted.etag
            known = if_none_match

            def seen(etag: str) -> bool:
                return etag == first if known is None else matches(known, etag)

            posted = await board.watch(ref, seen, seconds=wait, gone=request.is_disconnected)
        headers = {"ETag": posted.etag, "Cache-Control": _CACHING}
        if if_none_match is not None and matches(if_none_match, posted.etag):
            return Response(status_code=304, headers=headers)
        return Response(posted.body, media_type="application/json", headers=headers)

    return router
