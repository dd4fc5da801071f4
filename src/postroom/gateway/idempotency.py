"""POSTs that may be repeated: same `Idempotency-Key` and content, same answer, whatever happened to the first try.

One record a key, kept for 24 hours, changed only by conditional writes on its version:

    absent ──begin──→ leased, points {} ──note──→ leased, points {id: …} ──finish──→ answered
                        ↑  │ (lease ran out: the process died)                ↑
                        └──┴─────────────── begin again, with the points ─────┘

A record belongs to a digest of the caller, the address and the content: another one under the same key is `IdempotencyKeyReused`.
What a `kill -9` leaves: after `begin` a lease, which runs out after 60 s; after `note` also the value, so that who repeats the
call makes the same record under the same id, and finds what is there; after the handler's own writes the same; after `finish` the
answer. While one call holds the lease, others wait up to 10 s for its answer, then end with `IdempotencyInProgress`.
A call that lost its lease cannot note or finish.

**Kept** are answers that would come out the same: 2xx, 3xx, and 410, 412. After anything else (422: nothing was done; 401, 403,
404, 409, 429, 5xx: it may pass, as when a campaign is still importing) the record is released: it vanishes, unless somebody asked
for a point, which then waits for the repetition. The same where an answer is larger than a seal may be (64 KB). Answers are
sealed: one may hold a new API key.

The recovery points of one call with an `Idempotency-Key`: what must come out the same when the call is made again.

`steps.once("id", new_id)` answers what `new_id()` made the first time the key was used, durably noted before it is returned. So a
call that died midway and comes again makes the same record under the same id, and finds what is there already. Without
a key there is nothing to recover: it simply makes one. Names are short words; values up to 1,000 characters.

A handler that is called often may name its first point beforehand (`@starts_with("id", service.new_id)`): it is then noted in the
same write in which the call begins, one synced write less.
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
"""Twice the time that a call may take."""
MOST_POINT = 1_000
MOST_CANONICAL = 262_144
"""Bytes; a millisecond or two."""
_KEPT_REFUSALS = frozenset({410, 412})
_TRIES = 20


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """One call with a key."""

    tenant: str
    key: str
    address: str
    """Method and path."""
    digest: str
    """Of caller, address, `If-Match`, query and content."""


@dataclass(frozen=True, slots=True)
class CachedResponse:
    """An answer."""

    status: int
    fields: Mapping[str, str]
    body: bytes = field(repr=False)


class IdempotencyStore:
    """The records of all tenants. Blocks: call it in threads."""

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
            except Conflict:  # somebody else took it in between
                continue
        raise IdempotencyInProgress("this Idempotency-Key is being used by too many calls at once")

    def _lease(self, place: ItemKey, digest: str, item: Item | None, first: Mapping[str, Callable[[], str]]) -> IdempotencyLease:
        if item is None:
            return IdempotencyLease(self, place, digest, {name: make() for name, make in first.items()}, expect=Expect.ABSENT)
        return IdempotencyLease(self, place, digest, dict(item.data["points"]), expect=item.version)

    def sealed(self, place: ItemKey, answer: CachedResponse) -> str | None:
        """For the record; None: it does not fit."""
        head = orjson.dumps({"status": answer.status, "fields": dict(answer.fields)})
        plain = head + b"\n" + answer.body
        return None if len(plain) > MAX_PLAIN_BYTES else self._secrets.seal(_purpose(place), plain)

    def _opened(self, place: ItemKey, item: Item) -> CachedResponse:
        head, _, body = self._secrets.open(_purpose(place), item.data["answer"]).partition(b"\n")
        said = orjson.loads(head)
        return CachedResponse(said["status"], said["fields"], body)


class IdempotencyLease:
    """The right to make the call, and its recovery points (gateway.steps)."""

    def __init__(
        self, home: IdempotencyStore, place: ItemKey, digest: str, points: dict[str, str], *, expect: Expect | int
    ) -> None:
        self._home = home
        self._place = place
        self._digest = digest
        self._points = points
        self._bound = bool(points) and expect is not Expect.ABSENT
        """Whether somebody went on from a point, so that the content may not change any more."""
        self._lock = Lock()
        self._expires_at = Instant(home.clock.now() + KEPT_MS)
        self._until = home.clock.now() + LEASE_MS
        self._version = self._write(expect, None)

    def once(self, name: str, make: Callable[[], str]) -> str:
        """See gateway.steps. `LeaseLost`."""
        with self._lock:
            self._bound = True
            if name not in self._points:
                value = make()
                if len(value) > MOST_POINT:
                    raise Invalid(f"a recovery point has at most {MOST_POINT:,} characters")
                self._note(name, value)
            return self._points[name]

    def finish(self, answer: CachedResponse | None) -> None:
        """Keep the answer, or (None: it cannot be kept) release the key. That somebody else has it by now changes nothing."""
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
    """Of a call. JSON counts by what it says: neither spaces nor the order of members make another content. Of a large body the
    bytes count: taking it apart and together again would hold up everybody else."""
    if len(body) <= MOST_CANONICAL:
        with suppress(orjson.JSONDecodeError, orjson.JSONEncodeError):  # of any other content the bytes count, and if too deep
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
    """See the module's text."""

    def once(self, name: str, make: Callable[[], str]) -> str:
        """What `make` made the first time. Blocks: call it in a handler that is no coroutine."""
        ...


class NoRecoveryPoints:
    """A call without a key."""

    def once(self, name: str, make: Callable[[], str]) -> str:
        return make()


async def _recovery_points(request: Request) -> RecoveryPoints:
    steps: RecoveryPoints = getattr(request.state, "recovery_points", None) or NoRecoveryPoints()
    return steps


Points = Annotated[RecoveryPoints, Depends(_recovery_points)]


def first_recovery_point(name: str, make: Callable[[], str]) -> Callable[[Handler], Handler]:
    """Marks a handler that begins with `steps.once(name, make)`."""

    def mark(handler: Handler) -> Handler:
        setattr(handler, _FIRST, {name: make})
        return handler

    return mark


def first_points(handler: Callable[..., Any]) -> FirstPoints:
    """What it is marked with."""
    points: FirstPoints = getattr(handler, _FIRST, {})
    return points
