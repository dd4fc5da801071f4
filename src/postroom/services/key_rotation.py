"""Rotation of the master key: everything sealed is sealed again under the new key, then older keys can be dropped.

Each owner of sealed data provides `reseal`, which processes all of it and may be called at any time, repeatedly, beside readers.
After a crash the older keys are still there and `reseal` continues. An older key is dropped only if every owner reports that
nothing is left under it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from postroom.clock import Instant
from postroom.errors import Conflict, Unsupported

Reseal = Callable[[], tuple[int, int]]
"""Returns how many were sealed again, and how many could not be."""


class SealingKey(Protocol):
    """A master key's public part."""

    @property
    def id(self) -> str: ...

    @property
    def made_at(self) -> Instant:
        """0: unknown."""
        ...


class SealingKeys(Protocol):
    def all(self) -> Sequence[SealingKey]:
        """Newest first."""
        ...


class OwnSealingKeys(SealingKeys, Protocol):
    """Master keys that this installation can change."""

    def add(self) -> SealingKey:
        """Make a new key, the newest."""
        ...

    def drop_older(self) -> int:
        """Drop all but the newest key; returns how many. Raises `Conflict` if it is too soon."""
        ...


class Resealed(NamedTuple):
    """The result for one owner."""

    owner: str
    done: int
    left: int
    """Items that could not be opened: damaged, or their key is gone."""


class SealingKeyRotation:
    def __init__(self, keys: SealingKeys, owners: Sequence[tuple[str, Reseal]], *, own: OwnSealingKeys | None) -> None:
        """`own`: the same keys if they can be changed here; None: they come from a setting."""
        self._keys = keys
        self._owners = owners
        self._own = own

    def known(self) -> Sequence[SealingKey]:
        """All keys, newest first."""
        return self._keys.all()

    def rotate(self) -> list[Resealed]:
        """Make a new key and seal everything under it. Raises `Unsupported` if the keys come from a setting."""
        if self._own is None:
            todo = "write a new key before the others there, restart, then `postroom secrets reseal`"
            raise Unsupported(f"the master key comes from POSTROOM_MASTER_KEY: {todo}")
        self._own.add()
        return self.reseal()

    def reseal(self) -> list[Resealed]:
        """Seal everything under the newest key."""
        return [Resealed(owner, *reseal()) for owner, reseal in self._owners]

    def drop_old(self) -> int:
        """Drop all keys but the newest; returns how many. Raises `Conflict` if one is still in use, or it is too soon."""
        left = [f"{resealed.left} of {resealed.owner}" for resealed in self.reseal() if resealed.left]
        if left:
            raise Conflict(f"nothing was dropped: {', '.join(left)} could not be sealed under the newest key")
        if self._own is None:
            raise Unsupported("nothing is left under the older keys: remove them from POSTROOM_MASTER_KEY")
        return self._own.drop_older()
