"""Makes the requests: a lane for each endpoint, so that one that is slow or dead delays no other.

    due in the store → taken under a lease → a request → what became of it, in the store

A lane makes up to sixteen requests at a time; one that failed three times in a row, one alone and with a rest between, until it
is answered well: what it had in its hands it gives back. Where many are slow at the same time and few places are left, a lane has
one, so that each finds one. What was taken and not settled when a process is killed is due again once its lease has run out,
under the same id. What an endpoint that is switched off is owed stays due, for its day: it is told when it is switched on again.

    2xx          delivered
    410          the endpoint is switched off: it says itself that nobody is there
    anything else, and no answer    tried again: after 5 s, 30 s, 2 min, 10 min … 8 h, or when the answer asks (`Retry-After`)
    429, 503 with `Retry-After`     the whole lane rests as long as it asks, up to an hour
    a day after it was made         given up, tried or not; it can be ordered again
    three days without success      the endpoint is switched off
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from postroom.clock import Clock, Instant
from postroom.errors import Denied, NotFound, PostroomError, Unavailable
from postroom.events.callbacks.caller import Caller
from postroom.events.callbacks.lane_state import LOOK_S, LaneState
from postroom.events.callbacks.outcomes import GONE, answered, is_well, refused, rest_s
from postroom.events.callbacks.signing import headers
from postroom.ledger.callbacks import OF_CAMPAIGN, Callbacks
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.deliveries import Deliveries, Lane, Taken
from postroom.model.callback import MAX_AGE_MS, Delivery, DeliveryState, Endpoint
from postroom.model.campaign import Home

AT_ONCE: Final = 16
"""Requests to one endpoint at a time."""
IN_ALL: Final = 400
"""Requests at a time. Each holds an open file, of which a process commonly may have 1,024."""
_CROWDED: Final = 300
"""With so many under way a lane that begins gets one place."""
A_TENANT: Final = 200
"""Lanes of one tenant that are at work at a time: each campaign may have its own, and all may be slow."""
_CROWDED_TENANT: Final = 150
"""The same as `_CROWDED`, of one tenant's requests. So no tenant ever has more than 350 places, and the others have the rest."""
_TAKE: Final = 33
_TAKE_CROWDED: Final = 4
_LEASE_MS: Final = 60_000
_DISABLE_AFTER_MS: Final = 3 * 86_400_000
_LANES_EVERY_S: Final = 0.5
_IDLE_S: Final = 60.0
"""So long a lane that does nothing keeps its connections."""
_OFF_S: Final = 2.0
"""Between two looks at an endpoint that is switched off."""
_OVERDUE_AT_ONCE: Final = 1_000
_FINISH_S: Final = 5.0
_log = logging.getLogger(__name__)


class _Due(NamedTuple):
    """What an endpoint is to be told now."""

    endpoint: Endpoint
    taken: list[Taken]


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
        self._lanes: dict[Lane, LaneState] = {}
        self._names: list[Lane] = []
        self._listed_until = 0.0
        self._reserved = 0
        """Places, of all lanes."""
        self._held: Counter[str] = Counter()
        """The same by tenant."""
        self._stopping = False

    async def run(self, stop: asyncio.Event) -> None:
        """Until stopped; what is under way then has a moment to be answered. Errors of the stores that do not pass are raised."""
        try:
            while not stop.is_set():
                await self._start_due(everywhere=False)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), LOOK_S)
                self._raise_errors()
        finally:
            self._stopping = True
            await self._finish()
            await self._let_go(list(self._lanes.values()))

    async def drain(self) -> None:
        """Make every request that is due now, and return: for tests and benches."""
        while await self._start_due(everywhere=True):
            await asyncio.gather(*(lane.task for lane in self._lanes.values() if lane.task))

    async def _finish(self) -> None:
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_FINISH_S)
            for task in late:  # another process makes these requests again
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _start_due(self, *, everywhere: bool) -> bool:
        """Whether there was anything to do. `everywhere`: in lanes too that were found quiet a moment ago."""
        now = self._clock.monotonic()
        if everywhere or now >= self._listed_until:
            self._names = await asyncio.to_thread(lambda: list(self._deliveries.lanes()))
            self._listed_until = now + _LANES_EVERY_S
            await self._forget(now)
        names = [name for name in self._names if self._may_begin(name, now, everywhere=everywhere)]
        found = await asyncio.to_thread(self._take_due, self._fairly(names))
        for name, due in found.items():
            lane = self._lanes[name]
            lane.task = asyncio.create_task(self._work(name, lane, due))
        return bool(found)

    def _fairly(self, names: Sequence[Lane]) -> list[Lane]:
        """As many as there are places for, and of no tenant more than its part."""
        chosen, working = list[Lane](), Counter(name.tenant for name, lane in self._lanes.items() if lane.busy)
        for name in names:
            if len(chosen) >= IN_ALL - self._reserved:
                break
            if working[name.tenant] < A_TENANT:
                working[name.tenant] += 1
                chosen.append(name)
        return chosen

    def _may_begin(self, name: Lane, now: float, *, everywhere: bool) -> bool:
        lane = self._lanes.get(name)
        if lane is None:
            return True
        return not lane.busy and (now >= lane.next_look or (everywhere and not lane.fails))

    async def _forget(self, now: float) -> None:
        """Lanes that are no more; and of those that are quiet, their connections."""
        for name in self._lanes.keys() - set(self._names):
            if not self._lanes[name].busy:
                await self._let_go([self._lanes.pop(name)])
        await self._let_go([lane for lane in self._lanes.values() if not lane.busy and now - lane.worked_at > _IDLE_S])

    async def _let_go(self, lanes: Sequence[LaneState]) -> None:
        for lane in lanes:
            if lane.caller is not None:
                await lane.caller.close()
                lane.caller = None

    def _take_due(self, names: Sequence[Lane]) -> dict[Lane, _Due]:
        found = {}
        for name in names:
            lane = self._lanes.setdefault(name, LaneState())
            due = self._take(name, alone=lane.fails)
            lane.looked(found=bool(due and due.taken), now=self._clock.monotonic(), pause=_OFF_S if due else 0.0)
            if due and due.taken:
                found[name] = due
        return found

    def _take(self, name: Lane, *, alone: bool) -> _Due | None:
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
            return _Due(endpoint, [])
        most = 1 if alone else _TAKE_CROWDED if self._reserved >= _CROWDED else _TAKE
        return _Due(endpoint, self._deliveries.take(name, limit=most, lease_ms=_LEASE_MS))

    def _give_up(self, name: Lane, endpoint: Endpoint) -> None:
        """Of what waits longer than its day nothing is tried any more. Where there is very much of it, some at each look."""
        off = f"the callback is switched off: {endpoint.disabled_reason}".rstrip(": ")
        reason = "not tried: requests before it failed" if endpoint.enabled else off
        before, ended = Instant(self._clock.now() - MAX_AGE_MS), 0
        while ended < _OVERDUE_AT_ONCE and (more := self._deliveries.give_up(name, before, reason)):
            ended += more

    def _raise_errors(self) -> None:
        for lane in self._lanes.values():
            if lane.task is not None and lane.task.done() and not lane.task.cancelled():
                lane.task.result()

    async def _work(self, name: Lane, lane: LaneState, due: _Due | None) -> None:
        """Until nothing more is due, or the lane fails. The next are taken when most of those before are answered, so that a slow
        answer holds up only itself. A lane with few places leaves off after its first few, and may find more the next time."""
        crowded = self._reserved >= _CROWDED or self._held[name.tenant] >= _CROWDED_TENANT
        room = min(len(due.taken) if due else 0, 1 if crowded else AT_ONCE)
        places, rounds = asyncio.Semaphore(room), list[asyncio.Task[None]]()
        self._reserved += room
        self._held[name.tenant] += room
        try:
            while due is not None and due.taken:
                nearly = asyncio.Event()
                rounds = [each for each in rounds if not each.done() or _failed(each)]
                rounds.append(asyncio.create_task(self._tell(lane, due, places, nearly)))
                await nearly.wait()
                if room < AT_ONCE or lane.fails or self._stopping or any(_failed(each) for each in rounds):
                    break
                due = await asyncio.to_thread(self._take, name, alone=False)
            await asyncio.wait(rounds)
            for each in rounds:
                each.result()
        except PostroomError as error:  # its secret cannot be opened, say: the leases run out, and all comes again
            _log.warning("callback %s waits: %s", name.endpoint, error)
            lane.answered(well=False, now=self._clock.monotonic())
        finally:
            for each in rounds:  # none is left but where this was cancelled
                each.cancel()
            self._reserved -= room
            self._held[name.tenant] -= room
            lane.worked_at = self._clock.monotonic()

    async def _tell(self, lane: LaneState, due: _Due, places: asyncio.Semaphore, nearly: asyncio.Event) -> None:
        """`nearly` is set when most of them are answered, or when it ends."""
        endpoint, left = due.endpoint, len(due.taken)
        probe = lane.fails

        async def told(each: Taken) -> Delivery:
            nonlocal left
            async with places:
                if self._stopping or (lane.fails and not probe):
                    became = msgspec.structs.replace(each.delivery, due=self._clock.now())
                else:
                    became = await self._try(lane, caller, endpoint, each.delivery, secrets=secrets)
            left -= 1
            if left <= AT_ONCE // 2:
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
        self, lane: LaneState, caller: Caller, endpoint: Endpoint, delivery: Delivery, *, secrets: Sequence[bytes]
    ) -> Delivery:
        """One request, and what it makes of the delivery."""
        now, body = self._clock.now(), delivery.body.encode()
        signed = headers(delivery.id, body, seconds=now // 1000, secrets=secrets)
        try:
            said = await caller.post(endpoint.url, signed, body)
        except (Unavailable, Denied) as error:
            lane.answered(well=False, now=self._clock.monotonic())
            return refused(delivery, now, text=str(error))
        except Exception as error:  # noqa: BLE001 - one endpoint's surprise must not end the process that works for all
            _log.exception("callback %s of %s cannot be called", endpoint.id, endpoint.tenant)
            lane.answered(well=False, now=self._clock.monotonic())
            return refused(delivery, now, text=f"{type(error).__name__}: {error}")
        lane.answered(well=is_well(said), now=self._clock.monotonic(), rest_s=rest_s(said))
        return answered(delivery, said, now)

    def _settle(self, endpoint: Endpoint, taken: Sequence[Taken], became: Sequence[Delivery]) -> None:
        """Durably, and what it says of the endpoint."""
        self._deliveries.settle(taken, became)
        tried = [after for before, after in zip(taken, became, strict=True) if after.attempts > before.delivery.attempts]
        with suppress(NotFound):  # it was removed meanwhile
            if any(each.last_status == GONE for each in tried):
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


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and task.exception() is not None
