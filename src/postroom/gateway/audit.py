"""The audit record of a request that changes something: begun durably before the handler runs, completed after it.

Every request under /v1 is recorded unless it is a GET, is marked `@reads` or is tagged `messages` (transactional messages have
records of their own). The record begins once role and content are valid:
authenticate → rate limit → idempotency → role and content → **begin** → handler → **finish** → idempotency.

A handler adds which record it changed: `audit.changed("template", id, before=…, after=…)`. The values are stored as SHA-256
digests of their canonical JSON.

After a crash: a record without an end means that the change may or may not have been made; look at the record it names. Without a
record nothing was changed. If a record cannot be begun, the request is refused (503) and changes nothing. If it cannot be
completed, the response is unaffected and `audit.record_not_completed` is logged.

Denials (401, 403) are counted, not listed: one entry a minute, caller, address (IPv6: the /64) and reason. The entry is written
with the first denial, and again when the count has doubled or five seconds have passed, so a thousand denials a second cost a
dozen writes a minute. A crash loses what was counted since the last write: the entry says "at least".
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Protocol, TypeVar

import msgspec
import orjson
from anyio import to_thread
from fastapi import Depends, Request, Response

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, PostroomError
from postroom.gateway.errors import problem_type_of
from postroom.gateway.middleware import client_network
from postroom.ledger.audit import INSTALLATION, AuditLog
from postroom.model.access import Principal
from postroom.model.audit import AuditRecord
from postroom.telemetry.logs import event_logger

Handler = TypeVar("Handler", bound=Callable[..., Any])
_READS = "_postroom_reads"


@dataclass(slots=True)
class AuditChange:
    """The changed record, as the handler reports it."""

    target: str = ""
    """For example `template/2abc…`."""
    before: object = field(default=None, repr=False)
    after: object = field(default=None, repr=False)

    def changed(self, kind: str, id: str, *, before: object = None, after: object = None) -> None:  # noqa: A002
        """Report the changed record. `before` and `after` are JSON values; None: it did not exist, or no longer exists."""
        self.target, self.before, self.after = f"{kind}/{id}", before, after


async def _audit_change(request: Request) -> AuditChange:
    change: AuditChange = request.state.audit_change
    return change


Audit = Annotated[AuditChange, Depends(_audit_change)]


def reads(handler: Handler) -> Handler:
    """Marks a POST that changes nothing (a preview, a query): no audit record, no idempotency key."""
    setattr(handler, _READS, True)
    return handler


def only_reads(handler: Callable[..., Any]) -> bool:
    """Whether the handler is marked with `reads`."""
    return getattr(handler, _READS, False)


Endpoint = Callable[..., Any]
_log = event_logger(__name__)


@dataclass(frozen=True, slots=True)
class AuditCall:
    """Caller, time, address and route."""

    principal: Principal
    address: str
    method: str
    route: str
    """The path's template, such as `/v1/templates/{id}`. Ids are in `AuditEnd.target`."""
    request_id: str
    at: Instant


@dataclass(frozen=True, slots=True)
class AuditEnd:
    """The result. Digests are SHA-256 in hex, of canonical JSON; empty if there was or is nothing."""

    status: int
    target: str
    before: str
    after: str


class AuditRecorder(Protocol):
    """Stores the records. Called from threads; may block."""

    def begin(self, call: AuditCall) -> str:
        """Begin a record, durable on return. Returns a token for `finish`."""
        ...

    def finish(self, token: str, end: AuditEnd) -> None:
        """Complete the record. Idempotent."""
        ...

    def denied(self, principal: Principal | None, address: str, reason: str) -> None:
        """Count one denial. `reason` must not contain anything that the caller sent."""
        ...


@dataclass(frozen=True, slots=True)
class AuditContext:
    """The audit state of the current request."""

    recorder: AuditRecorder
    call: AuditCall
    trail: AuditChange


AUDIT_CONTEXT: ContextVar[AuditContext | None] = ContextVar("postroom_audited", default=None)
"""Set by gateway.pipeline; handler threads inherit it."""


def audited(endpoint: Endpoint, status: int) -> Endpoint:
    """Wrap an endpoint in its audit record, in the same thread. `status`: that of a response that sets none."""
    wrapped = _coroutine(endpoint, status) if inspect.iscoroutinefunction(endpoint) else _function(endpoint, status)
    # FastAPI reads the parameters' types from here; older versions do not look through `wraps` for names in annotations.
    wrapped.__signature__ = inspect.signature(endpoint, eval_str=True)  # type: ignore[attr-defined]
    return wrapped


def content_digest(value: object) -> str:
    """The digest of JSON values. The order of members does not matter."""
    if value is None:
        return ""
    options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    return hashlib.sha256(orjson.dumps(value, default=str, option=options)).hexdigest()


def _function(endpoint: Endpoint, status: int) -> Endpoint:
    @functools.wraps(endpoint)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        here = AUDIT_CONTEXT.get()
        if here is None:
            return endpoint(*args, **kwargs)
        token = here.recorder.begin(here.call)
        try:
            answer = endpoint(*args, **kwargs)
        except Exception as error:
            _finish(here, token, problem_type_of(error).status)
            raise
        _finish(here, token, answer.status_code if isinstance(answer, Response) else status)
        return answer

    return recorded


def _coroutine(endpoint: Endpoint, status: int) -> Endpoint:
    @functools.wraps(endpoint)
    async def recorded(*args: Any, **kwargs: Any) -> Any:
        here = AUDIT_CONTEXT.get()
        if here is None:
            return await endpoint(*args, **kwargs)
        token = await to_thread.run_sync(here.recorder.begin, here.call)
        try:
            answer = await endpoint(*args, **kwargs)
        except Exception as error:
            await to_thread.run_sync(_finish, here, token, problem_type_of(error).status)
            raise
        done = answer.status_code if isinstance(answer, Response) else status
        await to_thread.run_sync(_finish, here, token, done)
        return answer

    return recorded


def _finish(here: AuditContext, token: str, status: int) -> None:
    trail = here.trail
    try:
        here.recorder.finish(token, AuditEnd(status, trail.target, content_digest(trail.before), content_digest(trail.after)))
    except PostroomError as error:  # the change is made, and its record says that it was begun
        _log.error("audit.record_not_completed", token=token, reason=str(error))


_WRITE_EVERY_S = 5.0
_MINUTE = 16
_KEPT = 10_000


@dataclass(slots=True)
class _DenialCount:
    """Denials of one kind within a minute."""

    entry: AuditRecord
    written: int = 0
    written_at: float = 0.0


class LedgerAuditRecorder:
    """Stores audit records in the ledger."""

    def __init__(self, log: AuditLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._denials: OrderedDict[tuple[str, ...], _DenialCount] = OrderedDict()

    def begin(self, call: AuditCall) -> str:
        principal = call.principal
        entry = AuditRecord(
            id=self._log.new_id(),
            actor=f"{principal.kind}:{principal.id}",
            name=principal.name,
            address=call.address,
            action=f"{call.method} {call.route}",
            request_id=call.request_id,
        )
        self._log.write(principal.tenant, entry)
        return msgspec.json.encode([principal.tenant, entry]).decode()

    def finish(self, token: str, end: AuditEnd) -> None:
        tenant, entry = msgspec.json.decode(token, type=tuple[str, AuditRecord])
        ended = replace(entry, status=end.status, target=end.target, before=end.before, after=end.after)
        self._log.write(tenant, ended)

    def denied(self, principal: Principal | None, address: str, reason: str) -> None:
        tenant, address = INSTALLATION if principal is None else principal.tenant, client_network(address)
        counted = self._count(tenant, "" if principal is None else f"{principal.kind}:{principal.id}", address, reason=reason)
        if counted is not None:
            self._write(tenant, counted, name="" if principal is None else principal.name)

    def _count(self, tenant: str, actor: str, address: str, *, reason: str) -> _DenialCount | None:
        """Count one denial. Returns the entry if it must be written now."""
        fresh = self._log.new_id()
        kind = (fresh[:_MINUTE], tenant, actor, address, reason)
        with self._lock:
            counted = self._denials.get(kind)
            if counted is None:
                entry = AuditRecord(id=fresh, actor=actor, address=address, action="denied", count=0, reason=reason)
                counted = self._denials[kind] = _DenialCount(entry)
                if len(self._denials) > _KEPT:
                    self._denials.popitem(last=False)
            counted.entry = replace(counted.entry, count=counted.entry.count + 1)
            now = self._clock.monotonic()
            if counted.entry.count < 2 * counted.written and now - counted.written_at < _WRITE_EVERY_S:
                return None
            counted.written, counted.written_at = counted.entry.count, now
            return counted

    def _write(self, tenant: str, counted: _DenialCount, *, name: str) -> None:
        try:
            self._log.write(tenant, replace(counted.entry, name=name))
        except Conflict:  # the minute ended while a slow thread wrote: the earlier entry stays
            return
