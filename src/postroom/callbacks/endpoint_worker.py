"""One lane as its process knows it: whether it is at work, how often it failed in a row, and when to look at it again.

One lane's work: what is due is taken, the requests are made, and what became of each is stored.

Whoever works keeps count of the requests that are under way in this process, so that each lane finds a place. What was taken and
not settled when the process is killed is due again once its lease has run out.
"""

from __future__ import annotations

import asyncio
import logging
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

LOOK_S: Final = 0.1


"""Between two looks at a lane that has something to do."""


FAILURES: Final = 3


"""So many in a row, and requests are made one at a time, with rests between."""


_LONGEST_LOOK_S: Final = 1.0


_REST_S: Final = 0.5


_LONGEST_REST_S: Final = 30.0


class EndpointState:
    """What is known of one lane in this process."""

    def __init__(self) -> None:
        self.caller: EndpointClient | None = None
        self.failures = 0
        """In a row."""
        self.task: asyncio.Task[None] | None = None
        self.next_look = 0.0
        self.worked_at = 0.0
        self._pause = LOOK_S

    @property
    def busy(self) -> bool:
        """Requests are under way."""
        return self.task is not None and not self.task.done()

    @property
    def fails(self) -> bool:
        """One at a time, and with rests."""
        return self.failures >= FAILURES

    def answered(self, *, well: bool, now: float, rest_s: float = 0.0) -> None:
        """Where it fails again and again, it rests between tries: up to half a minute. `rest_s`: it asks for that itself."""
        self.failures = 0 if well else max(self.failures + 1, FAILURES if rest_s else 0)
        if self.fails:
            rests = min(_LONGEST_REST_S, _REST_S * 2.0 ** min(10, self.failures - FAILURES))
            self.next_look = max(self.next_look, now + max(rests, rest_s))

    def looked(self, *, found: bool, now: float, pause: float = 0.0) -> None:
        """Where nothing is due, the next look is later each time, so that many quiet endpoints cost little."""
        self._pause = LOOK_S if found else min(_LONGEST_LOOK_S, 2 * self._pause)
        if not found:
            self.next_look = max(self.next_look, now + max(pause, self._pause))


MAX_PER_ENDPOINT: Final = 16


"""Requests to one endpoint at a time."""


MAX_REQUESTS: Final = 400


"""Requests at a time. Each holds an open file, of which a process commonly may have 1,024."""


_CROWDED: Final = 300


"""With so many under way a lane that begins gets one place."""


_CROWDED_TENANT: Final = 150


"""The same, of one tenant's requests. So no tenant ever has more than 350 places, and the others have the rest."""


_TAKE: Final = 33


_TAKE_CROWDED: Final = 4


_LEASE_MS: Final = 60_000


_DISABLE_AFTER_MS: Final = 3 * 86_400_000


_OVERDUE_AT_ONCE: Final = 1_000


_log = logging.getLogger(__name__)


class DueDeliveries(NamedTuple):
    """What an endpoint is to be told now."""

    endpoint: CallbackEndpoint
    taken: list[ClaimedDelivery]


class EndpointWorker:
    """Of one process."""

    def __init__(
        self,
        callbacks: CallbackEndpoints,
        deliveries: CallbackDeliveries,
        campaigns: Campaigns,
        *,
        caller: Callable[[], EndpointClient],
        disabled: Callable[[CallbackEndpoint], None],
        clock: Clock,
    ) -> None:
        """`disabled` is told of each endpoint that is switched off here, after it is."""
        self._callbacks = callbacks
        self._deliveries = deliveries
        self._campaigns = campaigns
        self._caller = caller
        self._disabled = disabled
        self._clock = clock
        self.reserved = 0
        """Places, of all lanes."""
        self._held: Counter[str] = Counter()
        """The same by tenant."""
        self.stopping = False
        """What is taken and not tried yet is given back."""

    def take(self, name: EndpointRef, *, alone: bool) -> DueDeliveries | None:
        """None: nothing is due, or nobody is told any more. Nothing in it: the endpoint is switched off."""
        if not self._deliveries.is_due(name):
            return None
        endpoint = self._endpoint(name)
        if endpoint is None:
            self._deliveries.drop(*name)
            return None
        if alone or not endpoint.enabled:
            self._give_up(name, endpoint)
        if not endpoint.enabled:
            return DueDeliveries(endpoint, [])
        most = 1 if alone else _TAKE_CROWDED if self.reserved >= _CROWDED else _TAKE
        return DueDeliveries(endpoint, self._deliveries.take(name, limit=most, lease_ms=_LEASE_MS))

    def _give_up(self, name: EndpointRef, endpoint: CallbackEndpoint) -> None:
        """Of what waits longer than its day nothing is tried any more. Where there is very much of it, some at each look."""
        off = f"the callback is switched off: {endpoint.disabled_reason}".rstrip(": ")
        reason = "not tried: requests before it failed" if endpoint.enabled else off
        before, ended = Instant(self._clock.now() - MAX_AGE_MS), 0
        while ended < _OVERDUE_AT_ONCE and (more := self._deliveries.give_up(name, before, reason)):
            ended += more

    async def work(self, name: EndpointRef, lane: EndpointState, due: DueDeliveries | None) -> None:
        """Until nothing more is due, or the lane fails. The next are taken when most of those before are answered, so that a slow
        answer holds up only itself. A lane with few places leaves off after its first few, and may find more the next time."""
        crowded = self.reserved >= _CROWDED or self._held[name.tenant] >= _CROWDED_TENANT
        room = min(len(due.taken) if due else 0, 1 if crowded else MAX_PER_ENDPOINT)
        places, rounds = asyncio.Semaphore(room), list[asyncio.Task[None]]()
        self.reserved += room
        self._held[name.tenant] += room
        try:
            while due is not None and due.taken:
                nearly = asyncio.Event()
                rounds = [each for each in rounds if not each.done() or _failed(each)]
                rounds.append(asyncio.create_task(self._tell(lane, due, places, nearly)))
                await nearly.wait()
                if room < MAX_PER_ENDPOINT or lane.fails or self.stopping or any(_failed(each) for each in rounds):
                    break
                due = await asyncio.to_thread(self.take, name, alone=False)
            await asyncio.wait(rounds)
            for each in rounds:
                each.result()
        except PostroomError as error:  # its secret cannot be opened, say: the leases run out, and all comes again
            _log.warning("callback %s waits: %s", name.endpoint, error)
            lane.answered(well=False, now=self._clock.monotonic())
        finally:
            for each in rounds:  # none is left but where this was cancelled
                each.cancel()
            self.reserved -= room
            self._held[name.tenant] -= room
            lane.worked_at = self._clock.monotonic()

    async def _tell(self, lane: EndpointState, due: DueDeliveries, places: asyncio.Semaphore, nearly: asyncio.Event) -> None:
        """`nearly` is set when most of them are answered, or when it ends."""
        endpoint, left = due.endpoint, len(due.taken)
        probe = lane.fails

        async def told(each: ClaimedDelivery) -> CallbackDelivery:
            nonlocal left
            async with places:
                if self.stopping or (lane.fails and not probe):
                    became = msgspec.structs.replace(each.delivery, due=self._clock.now())
                else:
                    became = await self._try(lane, caller, endpoint, each.delivery, secrets=secrets)
            left -= 1
            if left <= MAX_PER_ENDPOINT // 2:
                nearly.set()
            return became

        try:
            secrets = await asyncio.to_thread(self._callbacks.signing_secrets, endpoint)
            lane.caller = caller = lane.caller or self._caller()
            became = await asyncio.gather(*(told(each) for each in due.taken))
            await asyncio.to_thread(self._settle, endpoint, due.taken, became)
        finally:
            nearly.set()

    async def _try(
        self,
        lane: EndpointState,
        caller: EndpointClient,
        endpoint: CallbackEndpoint,
        delivery: CallbackDelivery,
        *,
        secrets: Sequence[bytes],
    ) -> CallbackDelivery:
        """One request, and what it makes of the delivery."""
        now, body = self._clock.now(), delivery.body.encode()
        signed = signed_headers(delivery.id, body, seconds=now // 1000, secrets=secrets)
        try:
            said = await caller.post(endpoint.url, signed, body)
        except (Unavailable, Denied) as error:
            lane.answered(well=False, now=self._clock.monotonic())
            return delivery_after_failure(delivery, now, text=str(error))
        except Exception as error:  # noqa: BLE001 - one endpoint's surprise must not end the process that works for all
            _log.exception("callback %s of %s cannot be called", endpoint.id, endpoint.tenant)
            lane.answered(well=False, now=self._clock.monotonic())
            return delivery_after_failure(delivery, now, text=f"{type(error).__name__}: {error}")
        lane.answered(well=is_success(said), now=self._clock.monotonic(), rest_s=requested_rest_s(said))
        return delivery_after_response(delivery, said, now)

    def _settle(self, endpoint: CallbackEndpoint, taken: Sequence[ClaimedDelivery], became: Sequence[CallbackDelivery]) -> None:
        """Durably, and what it says of the endpoint."""
        self._deliveries.settle(taken, became)
        tried = [after for before, after in zip(taken, became, strict=True) if after.attempts > before.delivery.attempts]
        with suppress(NotFound):  # it was removed meanwhile
            if any(each.last_status == GONE for each in tried):
                self._switch_off(endpoint, "it answered 410: nobody is there any more")
            elif any(each.status is DeliveryStatus.DELIVERED for each in tried):
                self._callbacks.worked(endpoint)
            elif tried:
                self._note_failing(endpoint)

    def _note_failing(self, endpoint: CallbackEndpoint) -> None:
        self._callbacks.failed(endpoint)
        since = endpoint.failing_since
        if since is not None and self._clock.now() - since >= _DISABLE_AFTER_MS:
            self._switch_off(endpoint, "no request was answered well for three days")

    def _switch_off(self, endpoint: CallbackEndpoint, reason: str) -> None:
        if endpoint.campaign is None and endpoint.enabled:
            _log.warning("callback %s of %s is switched off: %s", endpoint.id, endpoint.tenant, reason)
            self._disabled(self._callbacks.disable(endpoint, reason))

    def _endpoint(self, name: EndpointRef) -> CallbackEndpoint | None:
        """As it is now; None: it was removed, or its campaign was."""
        if name.endpoint.startswith(CAMPAIGN_PREFIX):
            campaign = self._campaigns.find(CampaignRef(name.tenant, name.endpoint.removeprefix(CAMPAIGN_PREFIX)))
            return None if campaign is None else self._callbacks.of_campaign(campaign)
        try:
            return self._callbacks.get(name.tenant, name.endpoint)
        except NotFound:
            return None


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and task.exception() is not None
