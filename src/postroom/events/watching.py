"""Tells the tally what came back, under the provider whose mail it was.

Of each message a bounce for good and a complaint count once, however many reports of it come: a recipient has the tokens of
their own message, and could otherwise stop everybody's mail by writing a hundred bounces of it.
"""

from __future__ import annotations

import logging
from typing import Final

from postroom.clock import Clock
from postroom.errors import PostroomError
from postroom.ledger.incoming import Applied
from postroom.ledger.providers import Providers
from postroom.ledger.recent import Recent
from postroom.ledger.tallies import Tally

_BELIEVED_S: Final = 60.0
_log = logging.getLogger(__name__)


class Watching:
    """Called for each new event, by one thread."""

    def __init__(self, tally: Tally, providers: Providers, clock: Clock) -> None:
        self._tally = tally
        self._providers = providers
        self._known: Recent[tuple[str, str | None], str] = Recent(clock, most=1_000)

    def __call__(self, applied: Applied) -> None:
        """Never raises: an event that cannot be counted is one of many."""
        if applied.again:
            return
        try:
            provider = self._provider(applied.ref.tenant, applied.provider)
        except PostroomError as error:
            _log.warning("an event is not counted for the guard: %s", error)
            return
        self._tally.event(applied.ref, provider, applied.domain, applied.event)

    def _provider(self, tenant: str, name: str | None) -> str:
        known = self._known.get((tenant, name))
        if known is None:
            known = self._providers.id_of(tenant, name)
            self._known.put((tenant, name), known, seconds=_BELIEVED_S)
        return known
