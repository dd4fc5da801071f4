"""A new master key: everything that is sealed is sealed again under it, then the older ones may be dropped.

Each owner of sealed things brings a `reseal` of its own, which goes through all of them and may be called at any time, again and
beside readers. So a rotation that is killed leaves older keys that are needed and still there: `reseal` goes on. An older key
is dropped only when every owner says that nothing is left under it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from postroom.clock import Instant
from postroom.errors import Conflict, Unsupported

Reseal = Callable[[], tuple[int, int]]
"""How many were sealed again, and how many could not be."""


class SealingKey(Protocol):
    """A master key, as far as it may be seen."""

    @property
    def id(self) -> str: ...

    @property
    def made_at(self) -> Instant:
        """0: not known."""
        ...


class SealingKeys(Protocol):
    """Master keys."""

    def all(self) -> Sequence[SealingKey]:
        """The newest first."""
        ...


class OwnSealingKeys(SealingKeys, Protocol):
    """Master keys that are ours to change."""

    def add(self) -> SealingKey:
        """Make a new one, the newest."""
        ...

    def drop_older(self) -> int:
        """Keep the newest alone; how many went. `Conflict`: too soon."""
        ...


class Resealed(NamedTuple):
    """What became of one owner's things."""

    owner: str
    done: int
    left: int
    """Those that could not be opened: damaged, or their key is gone."""


class SealingKeyRotation:
    """One installation's."""

    def __init__(self, keys: SealingKeys, owners: Sequence[tuple[str, Reseal]], *, own: OwnSealingKeys | None) -> None:
        """`own`: the same keys, where they can be changed from here; None: they come from a setting."""
        self._keys = keys
        self._owners = owners
        self._own = own

    def known(self) -> Sequence[SealingKey]:
        """The newest first."""
        return self._keys.all()

    def rotate(self) -> list[Resealed]:
        """Make a new key and seal everything under it. `Unsupported`: the keys come from a setting."""
        if self._own is None:
            todo = "write a new key before the others there, restart, then `postroom secrets reseal`"
            raise Unsupported(f"the master key comes from POSTROOM_MASTER_KEY: {todo}")
        self._own.add()
        return self.reseal()

    def reseal(self) -> list[Resealed]:
        """Seal under the newest key whatever is not yet."""
        return [Resealed(owner, *reseal()) for owner, reseal in self._owners]

    def drop_old(self) -> int:
        """Forget all keys but the newest; how many. `Conflict`: something is still under them, or it is too soon."""
        left = [f"{resealed.left} of {resealed.owner}" for resealed in self.reseal() if resealed.left]
        if left:
            raise Conflict(f"nothing was dropped: {', '.join(left)} could not be sealed under the newest key")
        if self._own is None:
            raise Unsupported("nothing is left under the older keys: remove them from POSTROOM_MASTER_KEY")
        return self._own.drop_older()
