"""Who signs a sender's mail: the nearest domain that has a key, looked up again every minute.

So a key that has become active, is replaced or removed is used, or is not, a minute later, also by what is being sent. A store
that does not answer then, or a key that cannot be opened, stops nothing: what was found before is used on for another minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from postroom.clock import Instant
from postroom.delivery.dkim import Signer, SigningKey
from postroom.errors import PostroomError
from postroom.ledger.dkim import DkimKeys
from postroom.model.sender import covering

_LASTS_MS = 60_000


class Signing:
    """For one From address of one tenant. For one thread at a time."""

    def __init__(self, keys: DkimKeys, tenant: str, from_: str) -> None:
        """`Corrupt`, `Unavailable`: there is a key, and it cannot be used. `Invalid`: no address."""
        self._keys = keys
        self._tenant = tenant
        self._domains: Sequence[str] = covering(from_)[1:]
        self._signer = self._found()
        self._until: Instant | None = None

    def sign(self, content: bytes, now: Instant) -> bytes:
        """The content, signed where there is a key. Reads the store once a minute, which is short."""
        if self._until is None:
            self._until = Instant(now + _LASTS_MS)
        elif now >= self._until:
            self._until = Instant(now + _LASTS_MS)
            with suppress(PostroomError):
                self._signer = self._found()
        return content if self._signer is None else self._signer.sign(content, now)

    def _found(self) -> Signer | None:
        found = self._keys.signing(self._tenant, self._domains)
        if found is None:
            return None
        domain, keys = found
        return Signer(domain, [SigningKey(each.key.selector, each.key.algorithm, each.private) for each in keys])
