"""What the door is made of, besides the routes."""

from __future__ import annotations

from dataclasses import dataclass

from postroom.clock import Clock
from postroom.gateway.access import Authenticator


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Put together by whoever opens the door (entrypoints)."""

    authenticator: Authenticator
    clock: Clock
