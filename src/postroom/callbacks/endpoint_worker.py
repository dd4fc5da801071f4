"""Works off one endpoint's queue: takes due deliveries under a lease, makes the requests, stores the results.

A worker counts the requests under way in its process, so that every endpoint gets a slot. What was taken and not settled when a
process is killed becomes due again when its lease has run out, with the same id.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from postroom.callbacks.attempts import (
    GONE,
    EndpointClient,
    delivery_after_failure,
    delivery_after_response,
    is_success,
    requested_rest_s,
    signed_headers,
)
from postroom.clock import Clock, Instant
from postroom.errors import Denied, NotFound, PostroomError, Unavailable
from postroom.ledger.callback_deliveries import CallbackDeliveries, ClaimedDelivery, EndpointRef
from postroom.ledger.callback_endpoints import CAMPAIGN_PREFIX, CallbackEndpoints
from postroom.ledger.campaigns import Campaigns
from postroom.model.callback import MAX_AGE_MS, CallbackDelivery, CallbackEndpoint, DeliveryStatus
from postroom.model.campaign import CampaignRef
from postroom.telemetry.logs import event_logger

POLL_S: Final = 0.1
"""Shortest pause between two polls of an endpoint."""
FAILURES: Final = 3
"""After this many failures in a row requests are made one at a time, with pauses between them."""
MAX_PER_ENDPOINT: Final = 16
"""Concurrent requests to one endpoint."""
MAX_REQUESTS: Final = 400
"""Concurrent requests of a process. Each holds an open file, of which a process commonly may have 1,024."""
_MAX_POLL_S: Final = 1.0
_REST_S: Final = 0.5
_MAX_REST_S: Final = 30.0
_CROWDED: Final = 300
"""With this many requests under way, an endpoint that begins gets one slot."""
_CROWDED_TENANT: Final = 150
"""The same for one tenant's requests: no tenant ever has more than 350 slots, and the others have the rest."""
_TAKE: Final = 33
_TAKE_CROWDED: Final = 4
_LEASE_MS: Final = 60_000
_DISABLE_AFTER_MS: Final = 3 * 86_400_000
_MAX_EXPIRED: Final = 1_000
"""Overdue deliveries given up per poll."""
_log = event_logger(__name__)


class DueDeliveries(NamedTuple):
    """An endpoint and the deliveries that were taken for it."""

    endpoint: CallbackEndpoint
    taken: list[ClaimedDelivery]


class EndpointState:
    """What a process knows of one endpoint: whether it is busy, its failures in a row, and when to poll it next."""

    def __init__(self) -> None:
        self.client: EndpointClient | None = None
        self.failures = 0
        """In a row."""
        self.task: asyncio.Task[None] | None = None
        self.next_poll = 0.0
        self.worked_at = 0.0
        self._pause = POLL_S

    @property
    def busy(self) -> bool:
        """Whether requests are under way."""
        return self.task is not None and not self.task.done()

    @property
    def failing(self) -> bool:
        """Whether requests are made one at a time, with pauses between them."""
        return self.failures >= FAILURES

    def responded(self, *, ok: bool, now: float, rest_s: float = 0.0) -> None:
        """Note an attempt's result. A failing endpoint rests between attempts, up to 30 s, or `rest_s` if it asked for that."""
        self.failures = 0 if ok else max(self.failures + 1, FAILURES if rest_s else 0)
        if self.failing:
            rests = min(_MAX_REST_S, _REST_S * 2.0 ** min(10, self.failures - FAILURES))
            self.next_poll = max(self.next_poll, now + max(rests, rest_s))

    def polled(self, *, found: bool, now: float, pause: float = 0.0) -> None:
        """Note a poll's result. Idle endpoints are polled less and less often, so that many of them cost little."""
        self._pause = POLL_S if found else min(_MAX_POLL_S, 2 * self._pause)
        if not found:
            self.next_poll = max(self.next_poll, now + max(pause, self._pause))


class EndpointWorker:
    """Makes the requests of all endpoints of one process."""

    def __init__(
        self,
        callbacks: CallbackEndpoints,
        deliveries: CallbackDeliveries,
        campaigns: Campaigns,
        *,
        connect: Callable[[], EndpointClient],
        on_disabled: Callable[[CallbackEndpoint], None],
        clock: Clock,
    ) -> None:
        """`connect` returns a client for one server. `on_disabled` is called after an endpoint was disabled here."""
        self._callbacks = callbacks
        self._deliveries = deliveries
        self._campaigns = campaigns
        self._connect = connect
        self._on_disabled = on_disabled
        self._clock = clock
        self.reserved = 0
        """Slots in use, of all endpoints."""
        self._reserved_by_tenant: Counter[str] = Counter()
        self.stopping = False
        """CallbackDeliveries that were taken and not tried yet are given back."""

    def take(self, name: EndpointRef, *, alone: bool) -> DueDeliveries | None:
        """Take due deliveries, one if `alone`. Returns None if nothing is due or the endpoint was removed; none taken if it is
        disabled."""
        if not self._deliveries.is_due(name):
            return None
        endpoint = self._endpoint(name)
        if endpoint is None:
            self._deliveries.drop(*name)
            return None
        if alone or not endpoint.enabled:
            self._expire(name, endpoint)
        if not endpoint.enabled:
            return DueDeliveries(endpoint, [])
        most = 1 if alone else _TAKE_CROWDED if self.reserved >= _CROWDED else _TAKE
        return DueDeliveries(endpoint, self._deliveries.claim(name, limit=most, lease_ms=_LEASE_MS))

    def _expire(self, name: EndpointRef, endpoint: CallbackEndpoint) -> None:
        """Give up deliveries that waited longer than a day, at most `_MAX_EXPIRED` per poll."""
        disabled = f"the callback is disabled: {endpoint.disabled_reason}".rstrip(": ")
        reason = "not tried: requests before it failed" if endpoint.enabled else disabled
        before, ended = Instant(self._clock.now() - MAX_AGE_MS), 0
        while ended < _MAX_EXPIRED and (more := self._deliveries.give_up(name, before, reason)):
            ended += more

    async def work(self, name: EndpointRef, state: EndpointState, due: DueDeliveries | None) -> None:
        """Make requests until nothing is due or the endpoint fails.

        The next deliveries are taken when most of the last are done, so that a slow response delays only itself. When the process
        is crowded the endpoint gets one slot and returns after its first deliveries.
        """
        crowded = self.reserved >= _CROWDED or self._reserved_by_tenant[name.tenant] >= _CROWDED_TENANT
        room = min(len(due.taken) if due else 0, 1 if crowded else MAX_PER_ENDPOINT)
        slots, batches = asyncio.Semaphore(room), list[asyncio.Task[None]]()
        self.reserved += room
        self._reserved_by_tenant[name.tenant] += room
        try:
            while due is not None and due.taken:
                nearly_done = asyncio.Event()
                batches = [each for each in batches if not each.done() or _failed(each)]
                batches.append(asyncio.create_task(self._deliver(state, due, slots, nearly_done)))
                await nearly_done.wait()
                if room < MAX_PER_ENDPOINT or state.failing or self.stopping or any(_failed(each) for each in batches):
                    break
                due = await asyncio.to_thread(self.take, name, alone=False)
            await asyncio.wait(batches)
            for each in batches:
                each.result()
        except PostroomError as error:  # its secret cannot be opened, say: the leases run out, and all becomes due again
            _log.warning("callback.deferred", callback=name.endpoint, tenant=name.tenant, reason=str(error))
            state.responded(ok=False, now=self._clock.monotonic())
        finally:
            for each in batches:  # some are left only if this was cancelled
                each.cancel()
            self.reserved -= room
            self._reserved_by_tenant[name.tenant] -= room
            state.worked_at = self._clock.monotonic()

    async def _deliver(
        self, state: EndpointState, due: DueDeliveries, slots: asyncio.Semaphore, nearly_done: asyncio.Event
    ) -> None:
        """Sets `nearly_done` when most of the deliveries are done, or when it ends."""
        endpoint, left = due.endpoint, len(due.taken)
        probe = state.failing

        async def deliver(each: ClaimedDelivery) -> CallbackDelivery:
            nonlocal left
            async with slots:
                if self.stopping or (state.failing and not probe):
                    result = msgspec.structs.replace(each.delivery, due=self._clock.now())
                else:
                    result = await self._attempt(state, client, endpoint, each.delivery, secrets=secrets)
            left -= 1
            if left <= MAX_PER_ENDPOINT // 2:
                nearly_done.set()
            return result

        try:
            secrets = await asyncio.to_thread(self._callbacks.signing_secrets, endpoint)
            state.client = client = state.client or self._connect()
            results = await asyncio.gather(*(deliver(each) for each in due.taken))
            await asyncio.to_thread(self._settle, endpoint, due.taken, results)
        finally:
            nearly_done.set()

    async def _attempt(
        self,
        state: EndpointState,
        client: EndpointClient,
        endpoint: CallbackEndpoint,
        delivery: CallbackDelivery,
        *,
        secrets: Sequence[bytes],
    ) -> CallbackDelivery:
        now, body = self._clock.now(), delivery.body.encode()
        headers = signed_headers(delivery.id, body, seconds=now // 1000, secrets=secrets)
        try:
            response = await client.post(endpoint.url, headers, body)
        except (Unavailable, Denied) as error:
            state.responded(ok=False, now=self._clock.monotonic())
            return delivery_after_failure(delivery, now, text=str(error))
        except Exception as error:  # noqa: BLE001 - one endpoint's surprise must not end the process that works for all
            _log.error("callback.attempt_failed", exc_info=error, callback=endpoint.id, tenant=endpoint.tenant)
            state.responded(ok=False, now=self._clock.monotonic())
            return delivery_after_failure(delivery, now, text=f"{type(error).__name__}: {error}")
        state.responded(ok=is_success(response), now=self._clock.monotonic(), rest_s=requested_rest_s(response))
        return delivery_after_response(delivery, response, now)

    def _settle(self, endpoint: CallbackEndpoint, taken: Sequence[ClaimedDelivery], results: Sequence[CallbackDelivery]) -> None:
        """Store the results, and what they mean for the endpoint."""
        self._deliveries.settle(taken, results)
        tried = [after for before, after in zip(taken, results, strict=True) if after.attempts > before.delivery.attempts]
        with suppress(NotFound):  # the endpoint was removed meanwhile
            if any(each.last_status == GONE for each in tried):
                self._disable(endpoint, "it answered 410: the endpoint no longer exists")
            elif any(each.status is DeliveryStatus.DELIVERED for each in tried):
                self._callbacks.worked(endpoint)
            elif tried:
                self._note_failing(endpoint)

    def _note_failing(self, endpoint: CallbackEndpoint) -> None:
        self._callbacks.failed(endpoint)
        since = endpoint.failing_since
        if since is not None and self._clock.now() - since >= _DISABLE_AFTER_MS:
            self._disable(endpoint, "no request succeeded for three days")

    def _disable(self, endpoint: CallbackEndpoint, reason: str) -> None:
        if endpoint.campaign is None and endpoint.enabled:
            _log.warning("callback.disabled", callback=endpoint.id, tenant=endpoint.tenant, reason=reason)
            self._on_disabled(self._callbacks.disable(endpoint, reason))

    def _endpoint(self, name: EndpointRef) -> CallbackEndpoint | None:
        """The endpoint as it is now; None if it or its campaign was removed."""
        if name.endpoint.startswith(CAMPAIGN_PREFIX):
            campaign = self._campaigns.find(CampaignRef(name.tenant, name.endpoint.removeprefix(CAMPAIGN_PREFIX)))
            return None if campaign is None else self._callbacks.of_campaign(campaign)
        try:
            return self._callbacks.get(name.tenant, name.endpoint)
        except NotFound:
            return None


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and task.exception() is not None
