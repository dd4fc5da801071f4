"""Addresses that a server refused for good while mail was handed over: on the suppression list before that is recorded.

So whoever is killed between the two settles the group again, from the journal's answers, and enters them again. The same
consequence as of a bounce that comes back later (ledger.incoming).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from postroom.clock import Clock
from postroom.ledger.suppression import Reason, Suppressed, Suppression, source
from postroom.ledger.tenants import Tenants
from postroom.model.address import parse
from postroom.model.campaign import CampaignRef
from postroom.model.message import MessageStatus, Settlement
from postroom.model.message_id import message_id
from postroom.model.news import event_of
from postroom.model.shard import Key, recipient_key
from postroom.model.stream import is_stream
from postroom.platform.ports.messages import Messages


class Refusals:
    """Of all tenants' mail."""

    def __init__(self, messages: Messages, suppression: Suppression, tenants: Tenants, clock: Clock) -> None:
        self._messages = messages
        self._suppression = suppression
        self._tenants = tenants
        self._clock = clock

    def enter(self, ref: CampaignRef, batch: int, settled: Sequence[Settlement]) -> None:
        """Those of a batch whose addresses were refused. Costs nothing where none was."""
        refused = {each.key: each for each in settled if each.status is MessageStatus.BOUNCED}
        if refused:
            self._suppression.add_all(ref.tenant, list(self._entries(ref, batch, refused)))

    def _entries(self, ref: CampaignRef, batch: int, refused: dict[Key, Settlement]) -> Iterator[Suppressed]:
        now = self._clock.now()
        for recipient in self._messages.find(ref, batch, list(refused)):
            settlement = refused[recipient.key]
            event = event_of(settlement)
            if event is not None and not recipient.erased:
                person = self._person(ref, recipient.key, recipient.address)
                told_by = source(message_id(ref, recipient.key), event)
                yield Suppressed(person, recipient.address, Reason.BOUNCE, now, settlement.reply, source=told_by)

    def _person(self, ref: CampaignRef, key: Key, address: str) -> Key:
        if not is_stream(ref.campaign):
            return key
        return recipient_key(self._tenants.get(ref.tenant).secret, parse(address).normalised)
