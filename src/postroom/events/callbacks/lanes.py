"""Makes the requests: a lane for each endpoint, so that one that is slow or dead delays no other.

    due in the store → taken under a lease → a request → what became of it, in the store

A lane makes up to sixteen requests at a time; one that failed three times in a row, one alone and with a rest between, until it
is answered well. What was taken and not settled when a process is killed is due again once its lease has run out, under the same
id.

    2xx          delivered
    410          the endpoint is switched off: it says itself that nobody is there
    anything else, and no answer    tried again: after 5 s, 30 s, 2 min, 10 min … 8 h, or when the answer asks (`Retry-After`)
    a day after it was made         given up; it can be ordered again
    three days without success      the endpoint is switched off
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

import msgspec

from postroom.clock import Clock, Instant
from postroom.errors import Denied, NotFound, PostroomError, Unavailable
from postroom.events.callbacks.signing import headers
from postroom.ledger.callbacks import OF_CAMPAIGN, Callbacks
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.deliveries import Deliveries, Lane, Taken
from postroom.model.callback import MAX_AGE_MS, Delivery, DeliveryState, Endpoint, wait_s
from postroom.model.campaign import Home

AT_ONCE: Final = 16
"""Requests to one endpoint at a time."""
_TAKE: Final = 33
_LEASE_MS: Final = 60_000
_FAILURES: Final = 3
_LONGEST_ASKED_S: Final = 3_600.0
_DISABLE_AFTER_MS: Final = 3 * 86_400_000
_SHOWN: Final = 500
_WELL: Final = 2
_GONE: Final = 410
_HELD_MS: Final = 600_000
_LOOK_S: Final = 0.1
_REST_S: Final = 0.5
_LONGEST_REST_S: Final = 30.0
_log = logging.getLogger(__name__)


class Said(Protocol):
    """What a server answered."""

    @property
    def status(self) -> int: ...

    @property
    def text(self) -> str: ...

    @property
    def retry_after_s(self) -> float | None: ...

    @property
    def took_ms(self) -> int: ...


class Caller(Protocol):
    """The connections to one server."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Said:
        """`Unavailable`: no answer; `Denied`: it must not be called."""
        ...

    async def close(self) -> None: ...


class _Lane:
    """What is known of one lane in this process."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.failures = 0
        """In a row."""
        self.rests_until = 0.0
        self.task: asyncio.Task[None] | None = None

    def is_free(self, now: float) -> bool:
        """Whether the next requests may begin."""
        return (self.task is None or self.task.done()) and now >= self.rests_until

    def answered(self, *, well: bool, now: float) -> None:
        """Where it fails again and again, it rests between tries: up to half a minute."""
        self.failures = 0 if well else self.failures + 1
        if self.failures >= _FAILURES:
            self.rests_until = now + min(_LONGEST_REST_S, _REST_S * 2.0 ** min(10, self.failures - _FAILURES))


class Lanes:
    """All of them."""

    def __init__(
        self,
        callbacks: Callbacks,
        deliveries: Deliveries,
        campaigns: Campaigns,
        *,
        caller: Callable[[], Caller],
        disabled: Callable[[Endpoint], None],
        clock: Clock,
    ) -> None:
        """`disabled` is told of each endpoint that is switched off here, after it is."""
        self._callbacks = callbacks
        self._deliveries = deliveries
        self._campaigns = campaigns
        self._caller = caller
        self._disabled = disabled
        self._clock = clock
        self._lanes: dict[Lane, _Lane] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Until stopped; then what is under way is answered first. Errors of the stores that do not pass are raised."""
        try:
            while not stop.is_set():
                await self._start_due()
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _LOOK_S)
                self._raise_errors()
        finally:
            await asyncio.gather(*(lane.task for lane in self._lanes.values() if lane.task), return_exceptions=True)
            await asyncio.gather(*(lane.caller.close() for lane in self._lanes.values()))

    async def drain(self) -> None:
        """Make every request that is due now, and return: for tests and benches."""
        while await self._start_due():
            await asyncio.gather(*(lane.task for lane in self._lanes.values() if lane.task))

    async def _start_due(self) -> bool:
        """Whether there was anything to do."""
        now = self._clock.monotonic()
        busy = {name for name, lane in self._lanes.items() if not lane.is_free(now)}
        found = await asyncio.to_thread(self._take_due, busy)
        for name, taken in found.items():
            lane = self._lanes.setdefault(name, _Lane(self._caller()))
            lane.task = asyncio.create_task(self._work(name, lane, taken))
        return bool(found)

    def _take_due(self, busy: set[Lane]) -> dict[Lane, list[Taken]]:
        found = {name: self._take(name) for name in self._deliveries.lanes() if name not in busy}
        return {name: taken for name, taken in found.items() if taken}

    def _take(self, name: Lane) -> list[Taken]:
        lane = self._lanes.get(name)
        most = 1 if lane is not None and lane.failures >= _FAILURES else _TAKE
        return self._deliveries.take(name, limit=most, lease_ms=_LEASE_MS)

    def _raise_errors(self) -> None:
        for lane in self._lanes.values():
            if lane.task is not None and lane.task.done() and not lane.task.cancelled():
                lane.task.result()

    async def _work(self, name: Lane, lane: _Lane, taken: list[Taken]) -> None:
        """Until nothing more is due. Where the lane fails, one at a time, and with a pause between."""
        while taken:
            try:
                await self._tell(name, lane, taken)
            except PostroomError as error:  # its secret cannot be opened, say: the leases run out, and all comes again
                _log.warning("callback %s waits: %s", name.endpoint, error)
                lane.answered(well=False, now=self._clock.monotonic())
                return
            if lane.failures >= _FAILURES:
                return
            taken = await asyncio.to_thread(self._take, name)

    async def _tell(self, name: Lane, lane: _Lane, taken: list[Taken]) -> None:
        endpoint = await asyncio.to_thread(self._endpoint, name)
        if endpoint is None:
            await asyncio.to_thread(self._deliveries.drop, *name)
            return
        if not endpoint.enabled:
            became = [self._held(each.delivery, endpoint) for each in taken]
        else:
            secrets = await asyncio.to_thread(self._callbacks.signing_secrets, endpoint)
            places = asyncio.Semaphore(AT_ONCE)

            async def told(each: Taken) -> Delivery:
                async with places:
                    return await self._try(lane, endpoint, each.delivery, secrets=secrets)

            became = await asyncio.gather(*(told(each) for each in taken))
        await asyncio.to_thread(self._settle, endpoint, taken, became)

    async def _try(self, lane: _Lane, endpoint: Endpoint, delivery: Delivery, *, secrets: Sequence[bytes]) -> Delivery:
        """One request, and what it makes of the delivery."""
        now, body = self._clock.now(), delivery.body.encode()
        signed = headers(delivery.id, body, seconds=now // 1000, secrets=secrets)
        try:
            said = await lane.caller.post(endpoint.url, signed, body)
        except (Unavailable, Denied) as error:
            lane.answered(well=False, now=self._clock.monotonic())
            return self._failed(delivery, now, 0, str(error), None)
        well = said.status // 100 == _WELL
        lane.answered(well=well, now=self._clock.monotonic())
        if not well:
            return self._failed(delivery, now, said.status, said.text, said.retry_after_s, took_ms=said.took_ms)
        return msgspec.structs.replace(
            delivery,
            state=DeliveryState.DELIVERED,
            attempts=delivery.attempts + 1,
            due=None,
            last_at=now,
            last_status=said.status,
            last_text=said.text[:_SHOWN],
            took_ms=said.took_ms,
        )

    def _failed(
        self, delivery: Delivery, now: Instant, status: int, text: str, asked_s: float | None, *, took_ms: int = 0
    ) -> Delivery:
        attempts = delivery.attempts + 1
        waits_s = max(wait_s(attempts, random.random()), min(asked_s or 0.0, _LONGEST_ASKED_S))  # noqa: S311 - jitter
        due = Instant(now + round(1000 * waits_s))
        ended = due > delivery.since + MAX_AGE_MS or status == _GONE
        return msgspec.structs.replace(
            delivery,
            state=DeliveryState.DEAD if ended else DeliveryState.PENDING,
            attempts=attempts,
            due=None if ended else due,
            last_at=now,
            last_status=status,
            last_text=text[:_SHOWN],
            took_ms=took_ms,
        )

    def _held(self, delivery: Delivery, endpoint: Endpoint) -> Delivery:
        """While the endpoint is switched off: it waits as long as it would be tried."""
        now, ends = self._clock.now(), Instant(delivery.since + MAX_AGE_MS)
        if now < ends:
            return msgspec.structs.replace(delivery, due=min(ends, Instant(now + _HELD_MS)))
        text = f"the callback was switched off: {endpoint.disabled_reason}".rstrip(": ")
        return msgspec.structs.replace(delivery, state=DeliveryState.DEAD, due=None, last_at=now, last_text=text[:_SHOWN])

    def _settle(self, endpoint: Endpoint, taken: Sequence[Taken], became: Sequence[Delivery]) -> None:
        """Durably, and what it says of the endpoint."""
        self._deliveries.settle(taken, became)
        tried = [after for before, after in zip(taken, became, strict=True) if after.attempts > before.delivery.attempts]
        with suppress(NotFound):  # it was removed meanwhile
            if any(each.last_status == _GONE for each in tried):
                self._switch_off(endpoint, "it answered 410: nobody is there any more")
            elif any(each.state is DeliveryState.DELIVERED for each in tried):
                self._callbacks.worked(endpoint)
            elif tried:
                self._note_failing(endpoint)

    def _note_failing(self, endpoint: Endpoint) -> None:
        self._callbacks.failed(endpoint)
        since = endpoint.failing_since
        if since is not None and self._clock.now() - since >= _DISABLE_AFTER_MS:
            self._switch_off(endpoint, "no request was answered well for three days")

    def _switch_off(self, endpoint: Endpoint, reason: str) -> None:
        if endpoint.campaign is None and endpoint.enabled:
            _log.warning("callback %s of %s is switched off: %s", endpoint.id, endpoint.tenant, reason)
            self._disabled(self._callbacks.disable(endpoint, reason))

    def _endpoint(self, name: Lane) -> Endpoint | None:
        """As it is now; None: it was removed, or its campaign was."""
        if name.endpoint.startswith(OF_CAMPAIGN):
            campaign = self._campaigns.find(Home(name.tenant, name.endpoint.removeprefix(OF_CAMPAIGN)))
            return None if campaign is None else self._callbacks.of_campaign(campaign)
        try:
            return self._callbacks.get(name.tenant, name.endpoint)
        except NotFound:
            return None
