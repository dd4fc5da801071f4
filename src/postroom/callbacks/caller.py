"""What makes the requests, as far as callbacks care (platform.web)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Said(Protocol):
    """What a server answered."""

    @property
    def status(self) -> int: ...

    @property
    def text(self) -> str: ...

    @property
    def retry_after_s(self) -> float | None: ...

    @property
    def took_ms(self) -> int: ...


class Caller(Protocol):
    """The connections to one server."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Said:
        """`Unavailable`: no answer; `Denied`: it must not be called."""
        ...

    async def close(self) -> None: ...
