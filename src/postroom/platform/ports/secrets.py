"""Secrets: envelope encryption under a master key that never leaves its home (a file or setting here, KMS there).

A *data key* of 32 bytes encrypts; the master key only wraps data keys. What is sealed is bound to its `purpose` (such as
`provider/acme/relay`): opened for another, it is `Corrupt`, so that one record's secret cannot be moved into another's place. The
text is ASCII and says which master key wrapped it, so that a rotation can go on beside readers: new seals use the newest
master key, old ones open as long as their master key is there. Nothing is ever logged or shown in a `repr`.
- **Limits**: a purpose of 1 to 500 characters (`Invalid`); a plain text up to 64 KB (`TooLarge`); larger things are encrypted
  by their owner under a data key.
- **Errors**: `Corrupt`: not what was sealed, or for another purpose, or its master key is gone; `Unavailable`: the master
  key's home does not answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

MAX_PLAIN_BYTES = 65_536
MAX_PURPOSE = 500


@dataclass(frozen=True, slots=True)
class DataKey:
    """A fresh key for somebody's own encryption: store `wrapped`, forget `plain`."""

    plain: bytes = field(repr=False)
    """32 bytes."""
    wrapped: str
    """ASCII, at most 1,000 characters."""


class Secrets(Protocol):
    """See the module's text."""

    def seal(self, purpose: str, plain: bytes) -> str:
        """Encrypt and authenticate; never twice the same text."""
        ...

    def open(self, purpose: str, sealed: str) -> bytes:
        """What was sealed for that purpose."""
        ...

    def new_key(self, purpose: str) -> DataKey:
        """A data key, wrapped for that purpose."""
        ...

    def unwrap(self, purpose: str, wrapped: str) -> bytes:
        """The data key that was wrapped for that purpose."""
        ...

    def rewrap(self, purpose: str, wrapped: str) -> str:
        """The data key that was wrapped for that purpose, wrapped again by the newest master key."""
        ...

    def is_current(self, sealed_or_wrapped: str) -> bool:
        """Whether the newest master key wrapped it; False: seal it again, then the older master key may go."""
        ...
