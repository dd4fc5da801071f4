"""Signing keys: made when first needed, published before use, kept in the JWKS until what they signed has run out.

One item holds them all, and every turn (the first key, a successor, a departure) is one conditional write on it: of two
processes that turn at the same moment one wins and the other reads. Nothing rotates by itself; code that needs a key or
publishes them looks whether it is time. So a crash leaves the keys as they were or as they will be. Private parts are
stored sealed and forgotten once their successor signs.

          published ──(publish_before)──→ signs ──(rotate_after)──→ successor signs ──(keep_after)──→ gone
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from joserfc.jwk import ECKey, KeySet

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Corrupt
from postroom.platform.ports.secrets import Secrets
from postroom.platform.ports.tables import Expect, ItemKey, Put, Tables

ALGORITHM = "ES256"
_CURVE = "P-256"
_KEY = ItemKey("#issuer", "keys")
_RETRIES = 10


@dataclass(frozen=True, slots=True)
class KeyRotation:
    """When keys turn, in seconds."""

    rotate_after: int = 30 * 86_400
    publish_before: int = 86_400
    """Longer than clients cache a JWKS."""
    keep_after: int = 3_600
    """Longer than any signed token is good for."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One of the ring."""

    id: str
    public: dict[str, str]
    """A JWK."""
    sealed: str | None = field(repr=False)
    """The private JWK; None: it signs no more."""
    signs_from: Instant


class SigningKeys:
    """The ring."""

    def __init__(self, tables: Tables, secrets: Secrets, clock: Clock, *, rotation: KeyRotation | None = None) -> None:
        self._tables = tables
        self._secrets = secrets
        self._clock = clock
        self._rotation = rotation or KeyRotation()
        self._opened: dict[str, ECKey] = {}
        self._lock = threading.Lock()

    def signing(self) -> tuple[str, ECKey]:
        """The key that signs now, and its id."""
        stored = _signing(self._ring(), self._clock.now())
        with self._lock:
            if stored.id not in self._opened:
                self._opened = {stored.id: self._private(stored)}
            return stored.id, self._opened[stored.id]

    def published(self) -> dict[str, Any]:
        """The JWKS (RFC 7517 §5): public parts only."""
        marks = {"use": "sig", "alg": ALGORITHM}
        return {"keys": [{**stored.public, "kid": stored.id, **marks} for stored in self._ring()]}

    def verifying(self) -> KeySet:
        """All whose signatures still count."""
        return KeySet.import_key_set(self.published())  # type: ignore[arg-type]  # a TypedDict there, the same here

    def reseal(self) -> tuple[int, int]:
        """Seal private parts under the newest master key: how many, and how many could not be opened."""
        item = self._tables.get(_KEY)
        ring = [] if item is None else _stored(item.data)
        fresh = [self._resealed(stored) for stored in ring]
        left = fresh.count(None)
        changed = [new or old for new, old in zip(fresh, ring, strict=True)]
        if item is not None and changed != ring:
            self._tables.write([Put(_KEY, {"keys": msgspec.to_builtins(changed)}, item.version)])
        return sum(new != old for new, old in zip(changed, ring, strict=True)), left

    def _resealed(self, stored: StoredKey) -> StoredKey | None:
        if stored.sealed is None or self._secrets.is_current(stored.sealed):
            return stored
        try:
            return replace(
                stored, sealed=self._secrets.seal(_purpose(stored.id), self._secrets.open(_purpose(stored.id), stored.sealed))
            )
        except Corrupt:
            return None

    def _ring(self) -> Sequence[StoredKey]:
        for _ in range(_RETRIES):
            item = self._tables.get(_KEY)
            ring = [] if item is None else _stored(item.data)
            turned = self._turned(ring)
            if turned == ring:
                return ring
            data = {"keys": msgspec.to_builtins(turned)}
            try:
                self._tables.write([Put(_KEY, data, Expect.ABSENT if item is None else item.version)])
            except Conflict:  # another process turned them: its keys are the ones
                continue
            return turned
        raise Conflict("the signing keys are being turned by others all the time; try again")

    def _turned(self, ring: Sequence[StoredKey]) -> list[StoredKey]:
        """As it should be now."""
        now, rotation = self._clock.now(), self._rotation
        if not ring:
            return [self._new(now)]
        kept = [
            one
            for one, after in zip(ring, [*ring[1:], None], strict=True)
            if not _next_phase(after, now - rotation.keep_after * 1_000)
        ]
        spent = [
            replace(one, sealed=None) if _next_phase(after, now) else one
            for one, after in zip(kept, [*kept[1:], None], strict=True)
        ]
        newest = spent[-1]
        if newest.signs_from + (rotation.rotate_after - rotation.publish_before) * 1_000 <= now:
            spent.append(self._new(Instant(now + rotation.publish_before * 1_000)))
        return spent

    def _new(self, signs_from: Instant) -> StoredKey:
        key = ECKey.generate_key(_CURVE, private=True)
        name = key.thumbprint()
        sealed = self._secrets.seal(_purpose(name), msgspec.json.encode(key.as_dict(private=True)))
        public = {name: str(value) for name, value in key.as_dict(private=False).items()}
        return StoredKey(name, public, sealed, signs_from)

    def _private(self, stored: StoredKey) -> ECKey:
        if stored.sealed is None:
            raise Corrupt(f"the signing key {stored.id} has no private part")
        return ECKey.import_key(msgspec.json.decode(self._secrets.open(_purpose(stored.id), stored.sealed)))


def _next_phase(after: StoredKey | None, at: int) -> bool:
    """Whether the key after it signed at that time already."""
    return after is not None and after.signs_from <= at


def _signing(ring: Sequence[StoredKey], now: Instant) -> StoredKey:
    return next((stored for stored in reversed(ring) if stored.signs_from <= now), ring[0])


def _stored(data: Any) -> list[StoredKey]:
    try:
        return msgspec.convert(data["keys"], list[StoredKey])
    except (KeyError, msgspec.ValidationError) as error:
        raise Corrupt(f"the signing keys cannot be read: {error}") from error


def _purpose(name: str) -> str:
    return f"issuer/key/{name}"
