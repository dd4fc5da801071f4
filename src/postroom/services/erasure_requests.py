"""Erasures requested over HTTP and carried out by the workers.

    request ──→ record: the person's key ──→ workflow `erase` ──→ record: findings ──→ again while something is waiting

If a crash leaves a record without a workflow, the next request or status call starts it. The record holds only the person's key,
which is meaningless without the tenant's secret. It is kept as proof that the request was met.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import msgspec

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, NotFound
from postroom.ledger.bulk_update import ShouldContinue, never_stopped
from postroom.ledger.collection import Collection
from postroom.model import ids
from postroom.model.ids import Key
from postroom.platform.ports.tables import Expect, ItemKey, Tables
from postroom.platform.ports.workflows import Again, Done, ExecutionStatus, HandlerCall, Workflows
from postroom.services.erasure import ErasureFindings, ErasureService

ERASE = "erase"
"""The workflow. Its execution is named by the request's id."""
ID_PATTERN = "^[2-7a-z]{16}$"
_AGAIN_MS = 30_000


class ErasureStatus(StrEnum):
    """The status of an erasure."""

    RUNNING = "running"
    """Under way, or about to begin."""
    WAITING = "waiting"
    """Retried every half minute until nothing blocks it."""
    DONE = "done"
    FAILED = "failed"
    """It cannot continue; a new request tries again."""


@dataclass(frozen=True, slots=True)
class Erasure:
    tenant: str
    id: str
    key: str
    """The person's key, hex."""
    forget_suppression: bool
    actor: str
    """The requesting caller."""
    asked_at: Instant
    ended_at: Instant | None = None
    found: ErasureFindings | None = None
    """Findings of the last attempt."""


class ErasureRequests:
    def __init__(self, service: ErasureService, tables: Tables, workflows: Workflows, clock: Clock) -> None:
        self._service = service
        self._records = Collection(tables, Erasure, "erasure")
        self._workflows = workflows
        self._clock = clock

    def new_id(self) -> str:
        return ids.campaign_id(self._clock.now(), self._clock.random(5))

    def ask(self, tenant: str, request_id: str, address: str, *, forget_suppression: bool, actor: str) -> Erasure:
        """Request an erasure. Idempotent under the same id.

        Raises `Invalid` for no address, `Conflict` if the id belongs to another request."""
        key = self._service.key_of(tenant, address).hex()
        erasure = Erasure(tenant, request_id, key, forget_suppression, actor, self._clock.now())
        try:
            self._put(erasure, Expect.ABSENT)
        except Conflict:
            erasure = self._same(erasure)
        self._begin(erasure)
        return erasure

    def get(self, tenant: str, request_id: str) -> tuple[Erasure, ErasureStatus]:
        """Raises `NotFound`."""
        erasure = self._find(tenant, request_id)
        if erasure.ended_at is not None:
            return erasure, ErasureStatus.DONE
        self._begin(erasure)
        execution = self._workflows.get(ERASE, request_id)
        if execution is not None and execution.status is ExecutionStatus.FAILED:
            return erasure, ErasureStatus.FAILED
        waiting = erasure.found is not None and erasure.found.waiting
        return erasure, ErasureStatus.WAITING if waiting else ErasureStatus.RUNNING

    def handle(self, call: HandlerCall, *, working: ShouldContinue = never_stopped) -> Done | Again:
        """Handle the workflow. `working` returns False when the worker must stop.

        Temporary errors and `Conflict` (another erasure of the tenant runs) mean: call again."""
        tenant, request_id = msgspec.json.decode(call.execution.input, type=tuple[str, str])

        def alive() -> bool:
            return call.alive() and working()

        try:
            erasure = self._find(tenant, request_id)
        except NotFound:
            return Done()
        if erasure.ended_at is not None:
            return Done()
        found = self._service.erase(
            tenant,
            Key(bytes.fromhex(erasure.key)),
            forget_suppression=erasure.forget_suppression,
            actor=erasure.actor,
            alive=alive,
        )
        now = self._clock.now()
        self._put(replace(erasure, found=found, ended_at=now if found.complete else None))
        if found.complete:
            return Done()
        return Again(Instant(now + _AGAIN_MS) if found.waiting and alive() else now)

    def _begin(self, erasure: Erasure) -> None:
        self._workflows.start(ERASE, erasure.id, msgspec.json.encode([erasure.tenant, erasure.id]).decode())

    def _same(self, erasure: Erasure) -> Erasure:
        found = self._find(erasure.tenant, erasure.id)
        if (found.key, found.forget_suppression) != (erasure.key, erasure.forget_suppression):
            raise Conflict(f"the id {erasure.id} belongs to another erasure")
        return found

    def _find(self, tenant: str, request_id: str) -> Erasure:
        return self._records.get(_key(tenant, request_id))

    def _put(self, erasure: Erasure, expect: Expect = Expect.ANYTHING) -> None:
        self._records.put(_key(erasure.tenant, erasure.id), erasure, expect)


def _key(tenant: str, request_id: str) -> ItemKey:
    return ItemKey(f"{tenant}#erasures", request_id)
