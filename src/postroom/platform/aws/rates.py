"""Rates (ports.rates) in DynamoDB: a bucket is an item, JSON text beside a version, under pk `R#<bucket>` and sk `rates`.

Each change reads the bucket, decides (ports.buckets), and stores it on the version it was decided on: one read unit and one write
unit. Somebody else in between: the refusal brings the bucket as it is now, and it is decided anew, at once, then with growing
pauses that no two writers share. Twenty functions that take a grant of some dozen sends each meet seldom; a bucket that stays
contended for seconds is `Unavailable`. One item takes about 1,000 changes a second.

A lost answer. botocore repeats the call, the repeat is refused, and our mark on the item says that it was us. Where somebody
changed the bucket after us, nobody can tell, and whoever changed it decided on a bucket that may hold our change:

    reserve   again: at worst a grant that nobody uses, as a killed worker leaves one
    refund    not again: at worst sends are counted that were not made, never the reverse
    limit, slow   again: a second time changes nothing
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import NamedTuple

from postroom.clock import Clock, Instant
from postroom.errors import Corrupt, Unavailable
from postroom.platform.aws._dynamo import Expression, PrimaryKey, Record, Table
from postroom.platform.ports.rates import (
    Bucket,
    RateLimit,
    Reservation,
    UsedUp,
    check_bucket,
    check_limit,
    check_refund,
    check_seen,
    check_want,
)

_TRIES = 24  # the first two at once, then up to 20 ms doubling to 200 ms: about 2 s in all
_PAUSE_S, _PAUSE_MAX_S = 0.01, 0.2


class _Known(NamedTuple):
    """A bucket and its version; 0: nobody stored it yet."""

    bucket: Bucket
    version: int


class DynamoRates:
    """See ports.rates and the module's text."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    def limit(self, bucket: str, limit: RateLimit) -> None:
        check_bucket(bucket)
        check_limit(limit)
        self._change(bucket, lambda known: known.limited(limit))

    def reserve(self, bucket: str, want: int, now: Instant) -> Reservation:
        check_bucket(bucket)
        check_want(want)
        grant = Reservation(0, now, 0.0)

        def take(known: Bucket) -> Bucket:
            nonlocal grant
            grant, after = known.reserved(want, now)
            return after

        self._change(bucket, take)
        return grant

    def refund(self, bucket: str, count: int, now: Instant) -> None:
        check_bucket(bucket)
        check_refund(count)
        self._change(bucket, lambda known: known.refunded(count, now), once=True)

    def slow(self, bucket: str, seen_per_second: float, now: Instant) -> None:
        check_bucket(bucket)
        check_seen(seen_per_second)
        self._change(bucket, lambda known: known.slowed(seen_per_second, now))

    def current(self, bucket: str, now: Instant) -> float | None:
        check_bucket(bucket)
        return self._read(bucket).bucket.rate(now)

    def used_up(self, bucket: str, now: Instant) -> UsedUp | None:
        check_bucket(bucket)
        return self._read(bucket).bucket.used_up(now)

    def _change(self, name: str, change: Callable[[Bucket], Bucket], *, once: bool = False) -> None:
        """Store what `change` makes of the bucket, if it makes another. `once`: rather not at all than perhaps twice."""
        known: _Known | None = None
        for attempt in range(_TRIES):
            if known is None:
                known = self._read(name)
            after = change(known.bucket)
            if after == known.bucket:
                return
            mark = self._table.mark()
            terms = Expression()
            demand = terms.equals("version", known.version or None)
            written = self._table.put(_record(name, after, known.version + 1, mark), demand, terms)
            if written.applied or (written.item is not None and written.item.get("mark") == mark):
                return
            if once and written.repeated:
                return
            known = self._pause(attempt, written.item)
        raise Unavailable(f"others kept changing the rate of {name}: nothing was taken or given back")

    def _pause(self, attempt: int, found: Record | None) -> _Known | None:
        """What to decide on next: what the refusal told, if no time passes before."""
        if attempt < 1:
            return _known(found)
        self._clock.sleep(min(_PAUSE_MAX_S, _PAUSE_S * 2**attempt) * random.random())  # noqa: S311 - jitter
        return None

    def _read(self, name: str) -> _Known:
        return _known(self._table.get(_address(name)))


def _address(name: str) -> PrimaryKey:
    return PrimaryKey(f"R#{name}", "rates")


def _record(name: str, bucket: Bucket, version: int, mark: str) -> Record:
    at = _address(name)
    return {"pk": at.pk, "sk": at.sk, "data": json.dumps(bucket._asdict()), "version": version, "mark": mark}


def _known(record: Record | None) -> _Known:
    if record is None:
        return _Known(Bucket(), 0)
    try:
        return _Known(Bucket(**json.loads(str(record["data"]))), int(record["version"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"the bucket {record['pk']!r} cannot be read: {error}") from error
