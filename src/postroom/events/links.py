"""Where a link's number leads: each campaign's own table, as it was written when the campaign was made, and never changed.

The tables used last stay in memory, so that a click asks no store but for the first of its campaign. Single messages share the
table of their content, which their record names: the first click of each asks for that.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

import msgspec

from postroom.delivery import contents, tracking
from postroom.errors import Corrupt, NotFound
from postroom.ledger.tenants import Tenants
from postroom.model.campaign import CampaignRef
from postroom.model.shard import Key
from postroom.model.stream import SingleValues, is_stream
from postroom.model.wire import MessageRef
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects

MOST_BYTES: Final = 32_000_000
_OVERHEAD: Final = 100
_Name = tuple[int, str, Key | None]
_Table = tuple[str, ...]


class LinkTables:
    """Those of all tenants. For several threads."""

    def __init__(self, tenants: Tenants, messages: Messages, objects: Objects, *, most: int = MOST_BYTES) -> None:
        self._tenants = tenants
        self._messages = messages
        self._objects = objects
        self._most = most
        self._guard = threading.Lock()
        self._kept: OrderedDict[_Name, _Table] = OrderedDict()
        self._weight = 0

    def known(self, ref: MessageRef) -> _Table | None:
        """The table of the message's links, where it is in memory."""
        name = _name(ref)
        with self._guard:
            if (table := self._kept.get(name)) is not None:
                self._kept.move_to_end(name)
            return table

    def learn(self, ref: MessageRef) -> None:
        """Bring it to memory. `NotFound`: it is gone, with its campaign or for who was erased; `Unavailable`."""
        name = _name(ref)
        table = self._read(CampaignRef(self._tenants.by_number(ref.tenant).id, ref.campaign), ref)
        with self._guard:
            if name not in self._kept:
                self._kept[name] = table
                self._weight += _weight(table)
            while self._weight > self._most and len(self._kept) > 1:
                self._weight -= _weight(self._kept.popitem(last=False)[1])

    def _read(self, campaign_ref: CampaignRef, ref: MessageRef) -> _Table:
        key = self._single(campaign_ref, ref) if is_stream(campaign_ref.campaign) else tracking.links_key(campaign_ref)
        try:
            return msgspec.json.decode(self._objects.get(key), type=_Table)
        except msgspec.DecodeError as error:
            raise Corrupt(f"the link table {key} cannot be read: {error}") from error

    def _single(self, campaign_ref: CampaignRef, ref: MessageRef) -> str:
        record = self._messages.get(campaign_ref, ref.batch, ref.key)
        if record is None:
            raise NotFound("there is no such message")
        try:
            return contents.links_key(campaign_ref, SingleValues.parse(record.values).digest)
        except Corrupt as error:  # nothing but that it was there is left of it
            raise NotFound("nothing of the message is left") from error


def _name(ref: MessageRef) -> _Name:
    return ref.tenant, ref.campaign, ref.key if is_stream(ref.campaign) else None


def _weight(table: _Table) -> int:
    """Bytes, about."""
    return _OVERHEAD + sum(_OVERHEAD + len(url) for url in table)
