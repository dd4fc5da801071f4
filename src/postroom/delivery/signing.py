"""Who signs a sender's mail: the nearest domain that has a key, looked up again every minute.

So a key that has become active, is replaced or removed is used, or is not, a minute later, also by what is being sent.

Where there is a key, no mail leaves without its signature: a key that cannot be opened (the master key is gone, say) is used on
where it is known from before, and else `sign` refuses. A store that does not answer says nothing: what was found before holds for
another minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from postroom.clock import Instant
from postroom.delivery.dkim import Signer, SigningKey
from postroom.errors import Corrupt, Temporary, Unavailable
from postroom.ledger.dkim import DkimKeys, PrivateKey
from postroom.model.sender import covering

_LASTS_MS = 60_000


class Signing:
    """For one From address of one tenant. For one thread at a time."""

    def __init__(self, keys: DkimKeys, tenant: str, from_: str) -> None:
        """`Unavailable`: the store does not answer. `Invalid`: no address."""
        self._keys = keys
        self._tenant = tenant
        self._domains: Sequence[str] = covering(from_)[1:]
        self._signer: Signer | None = None
        self._refused = ""
        self._until: Instant | None = None
        self._look()

    def check(self) -> None:
        """`Corrupt`: there is a key, and it cannot be used."""
        if self._refused:
            raise Corrupt(self._refused)

    def sign(self, content: bytes, now: Instant) -> bytes:
        """The content, signed where there is a key. Reads the store once a minute, which is short. `Unavailable`: there is a key,
        and it cannot be used; it is tried again a minute later."""
        if self._until is None:
            self._until = Instant(now + _LASTS_MS)
        elif now >= self._until:
            self._until = Instant(now + _LASTS_MS)
            with suppress(Temporary):
                self._look()
        if self._refused:
            raise Unavailable(self._refused)
        return content if self._signer is None else self._signer.sign(content, now)

    def _look(self) -> None:
        try:
            found = self._keys.signing(self._tenant, self._domains)
            self._signer = None if found is None else _signer(*found)
            self._refused = ""
        except Corrupt as error:
            if self._signer is None:
                self._refused = f"mail from {self._domains[0]} cannot be signed with its DKIM key: {error}"


def _signer(domain: str, keys: Sequence[PrivateKey]) -> Signer:
    return Signer(domain, [SigningKey(each.key.selector, each.key.algorithm, each.private) for each in keys])
