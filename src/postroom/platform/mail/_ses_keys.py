"""The keys that calls are signed with, renewed in the background before they run out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from postroom.clock import Clock
from postroom.errors import PostroomError
from postroom.platform.mail._sigv4 import Keys, Signer
from postroom.platform.mail.ses_url import SesConfig

_RENEW_MS = 5 * 60_000
_SPENT_MS = 30_000
_AGAIN_S = 30.0


class KeyRing:
    """Of one mailer. Lives on one event loop."""

    def __init__(
        self,
        config: SesConfig,
        source: Callable[[], Keys],
        clock: Clock,
        *,
        renewed: Callable[[], None],
        failed: Callable[[PostroomError], None],
    ) -> None:
        """`source` blocks. `failed` is called only where no usable keys are left."""
        self._config = config
        self._source = source
        self._clock = clock
        self._renewed = renewed
        self._failed = failed
        self._keys: Keys | None = None
        self._signer: Signer | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._not_before = 0.0

    @property
    def waiting(self) -> bool:
        """They are being fetched."""
        return self._renewing is not None

    def signer(self) -> Signer | None:
        """None: there are none now; `renewed` or `failed` will tell."""
        left = self._left_ms()
        if left is not None and left <= _SPENT_MS:
            self.drop()
        if self._signer is None or (left is not None and left <= _RENEW_MS and self._clock.monotonic() >= self._not_before):
            self._renew()
        return self._signer

    def drop(self) -> None:
        """AWS does not take them: look again."""
        self._keys = self._signer = None

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)

    def _left_ms(self) -> int | None:
        expires_at = self._keys.expires_at if self._keys else None
        return None if expires_at is None else expires_at - self._clock.now()

    def _renew(self) -> None:
        if self._renewing is None:
            self._renewing = asyncio.get_running_loop().create_task(self._fetch())

    async def _fetch(self) -> None:
        config = self._config
        try:
            keys = await asyncio.to_thread(self._source)
        except PostroomError as error:
            self._renewing = None
            self._not_before = self._clock.monotonic() + _AGAIN_S
            if self._signer is None:
                self._failed(error)
            return
        self._renewing = None
        self._not_before = self._clock.monotonic() + _AGAIN_S  # a source may give the old ones until they are almost spent
        self._keys, self._signer = keys, Signer(keys, host=config.authority, region=config.region)
        self._renewed()
