"""Message items: stored if absent, settled under a fence, read in the order of their keys.

Each change is one conditional write of one item: one write unit, which keeps a message at two of them until it is
sent, and three once it is delivered (_news.py). `version` rises with every change and a change demands the one it was decided on,
so neither a delayed request nor two writers can undo each other. A refusal brings the item along: our own `mark` on it means
that the first try of a repeated call did it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from postroom.clock import Instant
from postroom.errors import LeaseLost, NotFound, Unavailable
from postroom.model.campaign import CampaignRef
from postroom.model.message import Message, MessageStatus, NewMessage, Settlement
from postroom.model.shard import Key
from postroom.platform.aws import _ledger
from postroom.platform.aws._dynamo import Record, Table, Terms, encode_item
from postroom.platform.aws._news import NewsItems
from postroom.platform.ports.limits import check_at_rest

_TRIES = 8
_GONE = "there are no messages of campaign {}"


class MessageItems:
    """The messages of every campaign in the table, and what says that a campaign has a home here."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._news = NewsItems(table)

    def batches(self, ref: CampaignRef) -> int:
        """How many batches the home has; `NotFound`."""
        record = self._table.get(_ledger.home_at(ref))
        if record is None or "gone" in record:
            raise NotFound(_GONE.format(ref.campaign))
        return int(record["batches"])

    def check(self, ref: CampaignRef, number: int) -> None:
        """`NotFound` unless the home has this batch."""
        if not 0 <= number < self.batches(ref):
            raise NotFound(f"campaign {ref.campaign} has no batch {number}")

    def store(self, ref: CampaignRef, row: NewMessage, now: Instant) -> int:
        """Insert it if its key is absent or held by a higher line that was never tried; the line that holds the key now."""
        terms = Terms()
        written = self._table.put(_ledger.stored(ref, row, now), f"attribute_not_exists({terms.name('pk')})", terms)
        if written.applied:
            return row.line
        held = written.item
        for attempt in range(_TRIES):
            if held is None:
                raise NotFound(_GONE.format(ref.campaign))
            if int(held["line"]) <= row.line or "mark" in held or "heard" in held or "told" in held:
                return int(held["line"])
            reasons = self._take_over(ref, row, held)
            if not reasons:
                return row.line
            if reasons[1] == "ConditionalCheckFailed":  # a group is open: somebody is sending what is stored
                return int(held["line"])
            self._table.pause(attempt)
            held = self._table.get(_ledger.message_at(ref, row.batch, row.key))
        raise Unavailable(f"others kept storing the recipient of line {row.line}")

    def _take_over(self, ref: CampaignRef, row: NewMessage, held: Record) -> list[str]:
        """Rare, so a transaction at twice the price: the message is as seen, and no group is open in its batch."""
        terms, batch_terms = Terms(), Terms()
        values = _ledger.replaceable(row) | {"version": int(held["version"]) + 1}
        change = terms.request(
            TableName=self._table.name,
            Key=_key(_ledger.message_at(ref, row.batch, row.key)),
            UpdateExpression=terms.assign(values),
            ConditionExpression=f"{terms.equals('version', held['version'])} AND {terms.equals('mark', None)}",
        )
        check = batch_terms.request(
            TableName=self._table.name,
            Key=_key(_ledger.batch_at(ref, row.batch)),
            ConditionExpression=batch_terms.equals("group_keys", None),
        )
        return self._table.transact([{"Update": change}, {"ConditionCheck": check}])

    def settle(self, ref: CampaignRef, number: int, fence: int, settlement: Settlement, seen: Record) -> None:
        """Apply it to the message as `seen`, unless it stands so already. `LeaseLost`; `NotFound`: the home was dropped.

        What belongs on the timeline comes first: a kill in between leaves it there alone, and the repeat finds it."""
        values = _ledger.settled(settlement)
        if seen.get("mark") != values["mark"]:
            self._news.add_own(ref, number, settlement)
        at = _ledger.message_at(ref, number, settlement.key)
        for attempt in range(_TRIES):
            if seen.get("mark") == values["mark"]:
                return
            terms = Terms()
            condition = f"{terms.equals('version', seen['version'])} AND {_not_above(terms, fence)}"
            change = terms.assign(values | {"fence": fence, "version": int(seen["version"]) + 1})
            written = self._table.update(at, change, condition, terms)
            if written.applied:
                return
            if written.item is None:
                raise NotFound(_GONE.format(ref.campaign))
            seen = written.item
            if int(seen.get("fence", 0)) > fence:
                raise LeaseLost(f"batch {number} was opened by somebody else (fence {seen['fence']!r}, not {fence})")
            self._table.pause(attempt)
        raise Unavailable(f"others kept changing the message {settlement.key.hex()} of batch {number}")

    def erase(self, ref: CampaignRef, number: int, fence: int, message: Message, values: str, seen: Record) -> None:
        """Forget whom the message as `seen` was for, in its events first. `LeaseLost`; `Conflict`: it is work again."""
        at = _ledger.message_at(ref, number, message.key)
        for attempt in range(_TRIES):
            self._news.forget(ref, number, message.key)
            terms = Terms()
            condition = f"{terms.equals('version', seen['version'])} AND {_not_above(terms, fence)}"
            change = terms.assign(_ledger.erased(values, seen) | {"fence": fence, "version": int(seen["version"]) + 1})
            written = self._table.update(at, change, condition, terms)
            if written.applied:
                return
            if written.item is None:
                raise NotFound(_GONE.format(ref.campaign))
            seen = written.item
            if int(seen.get("fence", 0)) > fence:
                raise LeaseLost(f"batch {number} was opened by somebody else (fence {seen['fence']!r}, not {fence})")
            stands = _ledger.message(number, seen)
            if stands.is_erased(values):  # our own call, its answer lost
                return
            check_at_rest(stands)
            self._table.pause(attempt)
        raise Unavailable(f"others kept changing the message {message.key.hex()} of batch {number}")

    def stamp(self, ref: CampaignRef, number: int, key: Key, fence: int) -> bool:
        """Shut older fences out of this message; False if a newer one did so to us."""
        terms = Terms()
        version = terms.name("version")
        change = f"SET {terms.name('fence')} = {terms.value(fence)}, {version} = {version} + {terms.value(1)}"
        condition = f"attribute_exists({terms.name('pk')}) AND {_not_above(terms, fence - 1)}"
        written = self._table.update(_ledger.message_at(ref, number, key), change, condition, terms)
        return written.applied or written.item is None or int(written.item.get("fence", 0)) <= fence

    def find(self, ref: CampaignRef, number: int, keys: Collection[Key]) -> dict[Key, Record]:
        """Those that exist, whole."""
        found = self._table.get_many(_ledger.message_at(ref, number, key) for key in keys)
        return {_ledger.key_of(record): record for record in found.values()}

    def standing(self, ref: CampaignRef, number: int) -> list[Record]:
        """Key, state and due of every message of the batch."""
        return self.select(ref, number, attributes=_ledger.STANDING)

    def due(self, ref: CampaignRef, number: int, now: Instant, limit: int) -> list[Record]:
        """Messages with work at `now`."""
        terms = Terms()
        waits = _one_of(terms, (MessageStatus.DEFERRED, MessageStatus.UNKNOWN))
        pending = terms.equals("state", int(MessageStatus.PENDING))
        filter_ = f"{pending} OR ({waits} AND {terms.name('due')} <= {terms.value(now)})"
        return self.select(ref, number, terms, filter_, attributes=_ledger.RECIPIENT, limit=limit, wanted=_stands_as_settled)

    def in_states(
        self,
        ref: CampaignRef,
        number: int,
        statuses: Collection[MessageStatus],
        *,
        limit: int,
        attributes: Sequence[str] = (),
        after: str | None = None,
    ) -> list[Record]:
        """Messages in these states (none named: all), those after the key `after`."""
        terms = Terms()
        filter_ = f"{_one_of(terms, statuses)} OR {_reported(terms)}" if statuses else ""
        wanted = frozenset(statuses) or frozenset(MessageStatus)
        return self.select(
            ref,
            number,
            terms,
            filter_,
            attributes=attributes,
            limit=limit,
            after=after,
            wanted=lambda record: _ledger.standing(record).status in wanted,
        )

    def select(
        self,
        ref: CampaignRef,
        number: int,
        terms: Terms | None = None,
        filter_: str = "",
        *,
        attributes: Sequence[str] = (),
        limit: int | None = None,
        after: str | None = None,
        wanted: Callable[[Record], bool] | None = None,
    ) -> list[Record]:
        """Messages of the batch in key order, up to `limit` of those that pass the filter and are `wanted`."""
        terms = terms or Terms()
        found: list[Record] = []
        pk = _ledger.batch_at(ref, number).pk
        sort = f"{terms.name('sk')} >= {terms.value(_ledger.FIRST_KEY)}"
        for page, _ in self._table.query(pk, terms=terms, sort=sort, filter_=filter_, attributes=attributes, after=after):
            found += page if wanted is None else filter(wanted, page)
            if limit is not None and len(found) >= limit:
                return found[:limit]
        return found


def _stands_as_settled(record: Record) -> bool:
    """Whether no news have put the message past what its worker recorded."""
    return _ledger.standing(record) == _ledger.outcome(record)


def _reported(terms: Terms) -> str:
    """Something was reported of the message."""
    return f"attribute_exists({terms.name('heard')}) OR attribute_exists({terms.name('told')})"


def _not_above(terms: Terms, fence: int) -> str:
    """No newer holder has stamped the message."""
    name = terms.name("fence")
    return f"(attribute_not_exists({name}) OR {name} <= {terms.value(fence)})"


def _one_of(terms: Terms, statuses: Collection[MessageStatus]) -> str:
    return f"{terms.name('state')} IN ({', '.join(terms.value(int(state)) for state in statuses)})"


def _key(at: Any) -> dict[str, Any]:
    return encode_item({"pk": at.pk, "sk": at.sk})
