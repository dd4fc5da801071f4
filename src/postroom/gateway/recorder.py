"""Keeps the door's audit records in the ledger's trail.

Denials are counted, not listed: one entry a minute, caller, address (of IPv6: the /64, in which one caller has 2**64) and
reason. It is written with the first, and again when the count has doubled or five seconds have passed: somebody who knocks a
thousand times a second costs a dozen writes a minute. What is counted and not yet written when the process is killed is lost:
the entry then says "at least".
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

import msgspec

from postroom.clock import Clock
from postroom.errors import Conflict
from postroom.gateway.audit import AuditCall, AuditEnd
from postroom.gateway.proxies import origin
from postroom.ledger.audit import INSTALLATION, AuditLog
from postroom.model.access import Principal
from postroom.model.audit import AuditRecord

_WRITE_EVERY_S = 5.0
_MINUTE = 16
_KEPT = 10_000


@dataclass(slots=True)
class _Counted:
    """A minute's denials of one kind."""

    entry: AuditRecord
    written: int = 0
    written_at: float = 0.0


class LedgerRecorder:
    """`gateway.audit.Recorder`."""

    def __init__(self, log: AuditLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._denials: OrderedDict[tuple[str, ...], _Counted] = OrderedDict()

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
        tenant, address = INSTALLATION if principal is None else principal.tenant, origin(address)
        counted = self._count(tenant, "" if principal is None else f"{principal.kind}:{principal.id}", address, reason=reason)
        if counted is not None:
            self._write(tenant, counted, name="" if principal is None else principal.name)

    def _count(self, tenant: str, actor: str, address: str, *, reason: str) -> _Counted | None:
        """One more; the entry, if it is to be written now."""
        fresh = self._log.new_id()
        kind = (fresh[:_MINUTE], tenant, actor, address, reason)
        with self._lock:
            counted = self._denials.get(kind)
            if counted is None:
                entry = AuditRecord(id=fresh, actor=actor, address=address, action="denied", count=0, reason=reason)
                counted = self._denials[kind] = _Counted(entry)
                if len(self._denials) > _KEPT:
                    self._denials.popitem(last=False)
            counted.entry = replace(counted.entry, count=counted.entry.count + 1)
            now = self._clock.monotonic()
            if counted.entry.count < 2 * counted.written and now - counted.written_at < _WRITE_EVERY_S:
                return None
            counted.written, counted.written_at = counted.entry.count, now
            return counted

    def _write(self, tenant: str, counted: _Counted, *, name: str) -> None:
        try:
            self._log.write(tenant, replace(counted.entry, name=name))
        except Conflict:  # the minute's end, and a slow thread: it stays as it was written before
            return
