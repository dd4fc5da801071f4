"""The audit trail: written before and after each change, and sealed every minute in a hash chain per tenant.

    {tenant}#audit          id → entry                    appended, and completed once, within a minute
    {tenant}#audit-seals    minute → seal                 each holds the hash of the one before; `head` names the last
    #audit-open             minute/tenant → nothing       minutes with entries and no seal yet

An entry and its open minute are one atomic write, and so are a seal, the new head and the removal of the open minute: any number
of processes may seal, and a crash leaves a minute that the next one seals. Minutes are sealed two minutes after their end, and
entries may be completed for one minute only, so no seal misses a completion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import groupby

import msgspec

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Corrupt, NotFound
from postroom.ledger.collection import TRIES, Collection, ListPage, expect_of, iterate_items
from postroom.model import ids
from postroom.model.audit import FIRST_HASH, AuditRecord, AuditSeal, AuditVerification, digest_entries, seal_hash
from postroom.platform.ports.secrets import Secrets
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables

INSTALLATION = ""
"""The trail of what belongs to no tenant: denied unauthenticated calls, changes of tenants."""
SEALED_AFTER_MS = 120_000
COMPLETED_WITHIN_MS = 60_000
_OPEN = "#audit-open"
_KEY = ItemKey("#audit-key", "1")
_HEAD = "head"
_MINUTE = 16
_PURPOSE = "audit"


class AuditLog:
    """The audit trails of all tenants."""

    def __init__(self, tables: Tables, secrets: Secrets, clock: Clock) -> None:
        self._tables = tables
        self._secrets = secrets
        self._clock = clock
        self._key: bytes | None = None
        self._records = Collection(tables, AuditRecord, "audit entry", derived={"id": lambda item: item.key.sort})

    def new_id(self) -> str:
        """A new entry id: the time and some random characters."""
        chance = int.from_bytes(self._clock.random(5), "big")
        return f"{_time(self._clock.now())}-{ids.encode(chance, 8)}"

    def write(self, tenant: str, entry: AuditRecord) -> None:
        """Append an entry, or complete it. Durable when this returns; safe to repeat. Raises `Conflict` if it may be sealed by
        now."""
        if self._clock.now() - _instant(entry.at) > COMPLETED_WITHIN_MS:
            raise Conflict(f"audit entry {entry.id} stays as it was begun: it may be sealed by now")
        minute = entry.id[:_MINUTE]
        put = self._records.put_of(ItemKey(_trail(tenant), entry.id), entry)
        self._tables.write([put, Put(ItemKey(_OPEN, f"{minute}/{tenant}"), {})])

    def list(self, tenant: str, *, prefix: str = "", cursor: str | None = None, limit: int = 100) -> ListPage[AuditRecord]:
        """A tenant's entries, newest first. `prefix`: the beginning of their time, such as `2026-12-01T09` for an hour."""
        return self._records.page(_trail(tenant), prefix=prefix, cursor=cursor, limit=limit, reverse=True)

    def seal(self) -> int:
        """Seal every minute that is over; how many. Raises the stores' errors; calling again continues."""
        last = _time(Instant(self._clock.now() - SEALED_AFTER_MS - 60_000))[:_MINUTE]
        sealed = 0
        for place in list(self._places()):
            minute, _, tenant = place.partition("/")
            if minute > last:
                break  # they sort by time
            with suppress(Conflict):  # another process sealed it
                self._seal(tenant, minute)
                sealed += 1
        return sealed

    def verify(self, tenant: str) -> AuditVerification:
        """Check every seal against its entries and its predecessor. An unchanged trail has no problems."""
        found = AuditVerification()
        seals = {seal.minute: seal for seal in self._seals(tenant)}
        waiting = {place.partition("/")[0] for place in self._places() if place.partition("/")[2] == tenant}
        for minute, entries in self._minutes(tenant):
            seal = seals.pop(minute, None)
            if seal is not None:
                self._check(tenant, seal, entries, found)
            elif minute in waiting:
                found.unsealed += len(entries)
            else:
                found.problems.append(f"{minute}: {len(entries)} entries and no seal: they were added later, or the seal is gone")
        found.problems += [f"seal {minute}: its {seal.entries} entries are gone" for minute, seal in sorted(seals.items())]
        self._check_chain(tenant, found)
        return found

    def _seal(self, tenant: str, minute: str) -> None:
        head = self._tables.get(ItemKey(_seals(tenant), _HEAD))
        before = FIRST_HASH if head is None else head.data["hash"]
        count, digest = digest_entries(
            (item.key.sort, item.data) for item in iterate_items(self._tables, _trail(tenant), prefix=minute)
        )
        hashed = seal_hash(self._audit_key(), tenant, minute, entries=count, digest=digest, before=before)
        seal = {"minute": minute, "entries": count, "digest": digest, "hash": hashed}
        self._tables.write(
            [
                Put(ItemKey(_seals(tenant), minute), seal, Expect.ABSENT),
                Put(ItemKey(_seals(tenant), _HEAD), {"minute": minute, "hash": hashed}, expect_of(head)),
                Delete(ItemKey(_OPEN, f"{minute}/{tenant}")),
            ]
        )

    def _check(self, tenant: str, seal: AuditSeal, entries: Sequence[Item], found: AuditVerification) -> None:
        count, digest = digest_entries((item.key.sort, item.data) for item in entries)
        found.entries += count
        if count != seal.entries:
            found.problems.append(f"{seal.minute}: {seal.entries} entries were sealed, and there are {count}")
        elif digest != seal.digest:
            found.problems.append(f"{seal.minute}: an entry was changed after it was sealed")

    def _check_chain(self, tenant: str, found: AuditVerification) -> None:
        key, before = self._audit_key(), FIRST_HASH
        for seal in self._seals(tenant):
            hashed = seal_hash(key, tenant, seal.minute, entries=seal.entries, digest=seal.digest, before=before)
            if hashed != seal.hash:
                found.problems.append(f"seal {seal.minute}: it does not follow the seal before it")
            before, found.head = seal.hash, seal.hash
            found.seals += 1
        head = self._tables.get(ItemKey(_seals(tenant), _HEAD))
        if (FIRST_HASH if head is None else head.data["hash"]) != before:
            found.problems.append("the last seals are gone: the chain ends before its head")

    def _minutes(self, tenant: str) -> Iterator[tuple[str, Sequence[Item]]]:
        """The trail's items by minute, in order."""
        for minute, items in groupby(iterate_items(self._tables, _trail(tenant)), key=lambda item: item.key.sort[:_MINUTE]):
            yield minute, tuple(items)

    def _seals(self, tenant: str) -> Iterator[AuditSeal]:
        for item in iterate_items(self._tables, _seals(tenant)):
            if item.key.sort != _HEAD:
                yield msgspec.convert(item.data, AuditSeal)

    def _places(self) -> Iterator[str]:
        for item in iterate_items(self._tables, _OPEN):
            yield item.key.sort

    def reseal(self) -> tuple[int, int]:
        """Wrap the audit key under the newest master key: how many were wrapped, and how many cannot be opened."""
        item = self._tables.get(_KEY)
        if item is None or self._secrets.is_current(item.data["wrapped"]):
            return 0, 0
        try:
            wrapped = self._secrets.rewrap(_PURPOSE, item.data["wrapped"])
        except Corrupt:
            return 0, 1
        self._tables.write([Put(_KEY, {"wrapped": wrapped}, item.version)])
        return 1, 0

    def _audit_key(self) -> bytes:
        """The installation's audit key, created when it is first needed."""
        for _ in range(TRIES):
            if self._key is not None:
                return self._key
            item = self._tables.get(_KEY)
            if item is not None:
                self._key = self._secrets.unwrap(_PURPOSE, item.data["wrapped"])
                continue
            with suppress(Conflict):  # another process created it: its key counts
                self._tables.write([Put(_KEY, {"wrapped": self._secrets.new_key(_PURPOSE).wrapped}, Expect.ABSENT)])
        raise NotFound("the audit key cannot be stored")


def _trail(tenant: str) -> str:
    return f"{tenant}#audit"


def _seals(tenant: str) -> str:
    return f"{tenant}#audit-seals"


def _time(at: Instant) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _instant(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
