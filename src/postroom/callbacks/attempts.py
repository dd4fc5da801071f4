"""Signatures as Standard Webhooks has them (specification, "Webhook metadata and signature scheme"): HMAC-SHA256, version v1.

What makes the requests, as far as callbacks care (platform.web).

What a request makes of its delivery: over, tried again later, or given up.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec

from postroom.clock import Instant
from postroom.model.callback import MAX_AGE_MS, CallbackDelivery, DeliveryStatus, retry_delay_s


def signed_headers(name: str, body: bytes, *, seconds: int, secrets: Sequence[bytes]) -> dict[str, str]:
    """Of a request of the id `name` that is made at `seconds` since 1970; one signature for each secret, with spaces."""
    signed = f"{name}.{seconds}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode() for secret in secrets)
    return {
        "content-type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


class EndpointResponse(Protocol):
    """What a server answered."""

    @property
    def status(self) -> int: ...

    @property
    def text(self) -> str: ...

    @property
    def retry_after_s(self) -> float | None: ...

    @property
    def took_ms(self) -> int: ...


class EndpointClient(Protocol):
    """The connections to one server."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> EndpointResponse:
        """`Unavailable`: no answer; `Denied`: it must not be called."""
        ...

    async def close(self) -> None: ...


GONE: Final = 410


"""The server says itself that nobody is there any more."""


_WELL: Final = 2


_BUSY: Final = frozenset({429, 503})


_LONGEST_ASKED_S: Final = 3_600.0


_SHOWN: Final = 500


def is_success(said: EndpointResponse) -> bool:
    """Whether it was taken."""
    return said.status // 100 == _WELL


def requested_rest_s(said: EndpointResponse) -> float:
    """How long the server asks to be left alone altogether."""
    return _asked_s(said) if said.status in _BUSY else 0.0


def delivery_after_response(delivery: CallbackDelivery, said: EndpointResponse, now: Instant) -> CallbackDelivery:
    """After an answer."""
    if not is_success(said):
        return delivery_after_failure(
            delivery, now, status=said.status, text=said.text, asked_s=_asked_s(said), took_ms=said.took_ms
        )
    return msgspec.structs.replace(
        delivery,
        status=DeliveryStatus.DELIVERED,
        attempts=delivery.attempts + 1,
        due=None,
        last_at=now,
        last_status=said.status,
        last_text=said.text[:_SHOWN],
        took_ms=said.took_ms,
    )


def delivery_after_failure(
    delivery: CallbackDelivery, now: Instant, *, text: str, status: int = 0, asked_s: float = 0.0, took_ms: int = 0
) -> CallbackDelivery:
    """After an answer that was none of the good ones, or none at all (`status` 0)."""
    attempts = delivery.attempts + 1
    waits_s = max(retry_delay_s(attempts, random.random()), asked_s)  # noqa: S311 - jitter
    due = Instant(now + round(1000 * waits_s))
    ended = due > delivery.since + MAX_AGE_MS or status == GONE
    return msgspec.structs.replace(
        delivery,
        status=DeliveryStatus.DEAD if ended else DeliveryStatus.PENDING,
        attempts=attempts,
        due=None if ended else due,
        last_at=now,
        last_status=status,
        last_text=text[:_SHOWN],
        took_ms=took_ms,
    )


def _asked_s(said: EndpointResponse) -> float:
    return min(said.retry_after_s or 0.0, _LONGEST_ASKED_S)
