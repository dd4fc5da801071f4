"""Idempotent POSTs: the same `Idempotency-Key` and content give the same response, even if the first attempt crashed.

One record per key, kept for 24 hours, changed only by conditional writes on its version:

    absent ──begin──→ leased, points {} ──note──→ leased, points {id: …} ──finish──→ answered
                        ↑  │ (lease ran out: the process died)                ↑
                        └──┴─────────────── begin again, with the points ─────┘

A record belongs to a digest of caller, address and content; other content under the same key raises `IdempotencyKeyReused`.
While one call holds the lease, others wait up to 10 s for its response, then raise `IdempotencyInProgress`. A call that lost its
lease cannot note or finish. After a `kill -9`:

| killed after | left | a repeated call |
|---|---|---|
| `begin` | a lease, which expires after 60 s | starts again |
| `note` | the lease and the recovery points | makes the same record under the same id, or finds it |
| the handler's writes | the same | finds the record |
| `finish` | the response | gets that response |

**Kept** are responses that would be the same again: 2xx, 3xx, 410 and 412. After others (422: nothing was done; 401, 403, 404,
409, 429, 5xx: may pass, for example when an import ends) the record is released: it is deleted, unless it has recovery points,
which then wait for the repetition. The same applies to a response larger than can be sealed (64 KB). Responses are sealed: one
may hold a new API key.

**Recovery points** are values that must be the same when the call is repeated. `points.once("id", new_id)` is what `new_id()`
returned the first time this key was used, stored durably before it is returned. So a repeated call makes the same record under
the same id, and finds it if it exists. Without a key nothing is stored. Names are short words; values have up to 1,000
characters.

`@first_recovery_point("id", service.new_id)` declares a handler's first point: it is stored in the write that begins the call,
which saves one synced write.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from types import MappingProxyType
from typing import Annotated, Any, Protocol, TypeVar

import orjson
from fastapi import Depends, Request

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Invalid, LeaseLost
from postroom.gateway.errors import IdempotencyInProgress, IdempotencyKeyReused
from postroom.platform.ports.secrets import MAX_PLAIN_BYTES, Secrets
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables

KEPT_MS = 24 * 3_600_000
LEASE_MS = 60_000
"""Twice the time limit of a request."""
MOST_POINT = 1_000
MOST_CANONICAL = 262_144
"""Bytes; takes a millisecond or two."""
_KEPT_REFUSALS = frozenset({410, 412})
_TRIES = 20


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """A call with a key."""

    tenant: str
    key: str
    address: str
    """Method and path."""
    digest: str
    """Of caller, address, `If-Match`, query and content."""


@dataclass(frozen=True, slots=True)
class CachedResponse:
    """A stored response."""

    status: int
    fields: Mapping[str, str]
    body: bytes = field(repr=False)


class IdempotencyStore:
    """The records of all tenants. Blocking: call it in threads."""

    def __init__(self, tables: Tables, secrets: Secrets, clock: Clock) -> None:
        self.tables = tables
        self.clock = clock
        self._secrets = secrets

    def begin(
        self, ask: IdempotentRequest, first: Mapping[str, Callable[[], str]] = MappingProxyType({})
    ) -> IdempotencyLease | CachedResponse:
        """Take the lease, or return the cached answer. `first`: recovery points to note in the same write.

        Raises `IdempotencyKeyReused`, and `IdempotencyInProgress` while another call holds the lease."""
        place = _place(ask)
        for _ in range(_TRIES):
            item = self.tables.get(place)
            if item is not None and item.data["digest"] != ask.digest:
                raise IdempotencyKeyReused("this Idempotency-Key was used for a call with another content: use a new one")
            if item is not None and item.data["answer"] is not None:
                return self._opened(place, item)
            if item is not None and item.data["until"] > self.clock.now():
                raise IdempotencyInProgress("the first call with this Idempotency-Key has not ended: repeat it with the same key")
            try:
                return self._lease(place, ask.digest, item, first)
            except Conflict:  # another call took it
                continue
        raise IdempotencyInProgress("this Idempotency-Key is being used by too many calls at once")

    def _lease(self, place: ItemKey, digest: str, item: Item | None, first: Mapping[str, Callable[[], str]]) -> IdempotencyLease:
        if item is None:
            return IdempotencyLease(self, place, digest, {name: make() for name, make in first.items()}, expect=Expect.ABSENT)
        return IdempotencyLease(self, place, digest, dict(item.data["points"]), expect=item.version)

    def sealed(self, place: ItemKey, answer: CachedResponse) -> str | None:
        """The sealed response; None if it is too large."""
        head = orjson.dumps({"status": answer.status, "fields": dict(answer.fields)})
        plain = head + b"\n" + answer.body
        return None if len(plain) > MAX_PLAIN_BYTES else self._secrets.seal(_purpose(place), plain)

    def _opened(self, place: ItemKey, item: Item) -> CachedResponse:
        head, _, body = self._secrets.open(_purpose(place), item.data["answer"]).partition(b"\n")
        said = orjson.loads(head)
        return CachedResponse(said["status"], said["fields"], body)


class IdempotencyLease:
    """The right to make the call, and its recovery points."""

    def __init__(
        self, home: IdempotencyStore, place: ItemKey, digest: str, points: dict[str, str], *, expect: Expect | int
    ) -> None:
        self._home = home
        self._place = place
        self._digest = digest
        self._points = points
        self._bound = bool(points) and expect is not Expect.ABSENT
        """Whether an earlier attempt may have used a point: then the content must not change."""
        self._lock = Lock()
        self._expires_at = Instant(home.clock.now() + KEPT_MS)
        self._until = home.clock.now() + LEASE_MS
        self._version = self._write(expect, None)

    def once(self, name: str, make: Callable[[], str]) -> str:
        """The recovery point, made by `make` on first use. Raises `LeaseLost`."""
        with self._lock:
            self._bound = True
            if name not in self._points:
                value = make()
                if len(value) > MOST_POINT:
                    raise Invalid(f"a recovery point has at most {MOST_POINT:,} characters")
                self._note(name, value)
            return self._points[name]

    def finish(self, answer: CachedResponse | None) -> None:
        """Store the response; None: release the key. No effect if another call holds the lease by now."""
        sealed = None
        if answer is not None and (answer.status < 400 or answer.status in _KEPT_REFUSALS):
            sealed = self._home.sealed(self._place, answer)
        self._until = 0
        try:
            with self._lock:
                if sealed is None and not self._bound:
                    self._home.tables.write([Delete(self._place, self._version)])
                else:
                    self._version = self._write(self._version, sealed)
        except Conflict:
            return

    def _note(self, name: str, value: str) -> None:
        before = dict(self._points)
        self._points[name] = value
        try:
            self._version = self._write(self._version, None)
        except Conflict as error:
            self._points = before
            raise LeaseLost("this call took too long, and its repetition goes on with it") from error

    def _write(self, expect: Expect | int, answer: str | None) -> int:
        data: dict[str, Any] = {"digest": self._digest, "until": self._until, "points": self._points, "answer": answer}
        return self._home.tables.write([Put(self._place, data, expect, self._expires_at)])[0]


def request_digest(caller: str, address: str, query: bytes, body: bytes) -> str:
    """The digest of a call. JSON counts by its canonical form; a large body by its bytes, because parsing would block other
    calls."""
    if len(body) <= MOST_CANONICAL:
        with suppress(orjson.JSONDecodeError, orjson.JSONEncodeError):  # else the bytes count
            body = orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)
    parts = (caller.encode(), address.encode(), query, body)
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()


def _place(ask: IdempotentRequest) -> ItemKey:
    name = hashlib.sha256(f"{ask.address}\n{ask.key}".encode()).hexdigest()
    return ItemKey(f"{ask.tenant}#idempotency", name)


def _purpose(place: ItemKey) -> str:
    return f"{place.partition}/{place.sort}"


Handler = TypeVar("Handler", bound=Callable[..., Any])
FirstPoints = dict[str, Callable[[], str]]
_FIRST = "_postroom_first_point"


class RecoveryPoints(Protocol):
    """Recovery points of a call."""

    def once(self, name: str, make: Callable[[], str]) -> str:
        """The value that `make` returned the first time. Blocking: do not call it in a coroutine."""
        ...


class NoRecoveryPoints:
    """For a call without a key: stores nothing."""

    def once(self, name: str, make: Callable[[], str]) -> str:
        return make()


async def _recovery_points(request: Request) -> RecoveryPoints:
    points: RecoveryPoints = getattr(request.state, "recovery_points", None) or NoRecoveryPoints()
    return points


Points = Annotated[RecoveryPoints, Depends(_recovery_points)]


def first_recovery_point(name: str, make: Callable[[], str]) -> Callable[[Handler], Handler]:
    """Declares that a handler begins with `points.once(name, make)`."""

    def mark(handler: Handler) -> Handler:
        setattr(handler, _FIRST, {name: make})
        return handler

    return mark


def first_points(handler: Callable[..., Any]) -> FirstPoints:
    """The declared first point of a handler."""
    points: FirstPoints = getattr(handler, _FIRST, {})
    return points
