"""One attempt at a delivery: the signed headers, the HTTP client it needs, and what the response makes of the delivery.

Signatures follow Standard Webhooks (HMAC-SHA256, version v1): https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
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

GONE: Final = 410
"""HTTP 410: the server says that the endpoint no longer exists."""
_SUCCESS: Final = 2
_BUSY: Final = frozenset({429, 503})
_MAX_RETRY_AFTER_S: Final = 3_600.0
_MAX_TEXT: Final = 500


class EndpointResponse(Protocol):
    """A server's response (platform.web)."""

    @property
    def status(self) -> int: ...

    @property
    def text(self) -> str: ...

    @property
    def retry_after_s(self) -> float | None: ...

    @property
    def took_ms(self) -> int: ...


class EndpointClient(Protocol):
    """The connections to one server (platform.web)."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> EndpointResponse:
        """Raises `Unavailable` without a response, `Denied` if the URL must not be called."""
        ...

    async def close(self) -> None: ...


def signed_headers(delivery_id: str, body: bytes, *, seconds: int, secrets: Sequence[bytes]) -> dict[str, str]:
    """The headers of a request made at `seconds` since 1970, with one signature per secret."""
    signed = f"{delivery_id}.{seconds}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode() for secret in secrets)
    return {
        "content-type": "application/json",
        "webhook-id": delivery_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def is_success(response: EndpointResponse) -> bool:
    """Whether the status is 2xx."""
    return response.status // 100 == _SUCCESS


def requested_rest_s(response: EndpointResponse) -> float:
    """Seconds for which the server wants no request at all: `Retry-After` of a 429 or 503, up to an hour; else 0."""
    return _retry_after_s(response) if response.status in _BUSY else 0.0


def delivery_after_response(delivery: CallbackDelivery, response: EndpointResponse, now: Instant) -> CallbackDelivery:
    """The delivery after a response: delivered if it was 2xx, else as `delivery_after_failure`."""
    if not is_success(response):
        return delivery_after_failure(
            delivery,
            now,
            status=response.status,
            text=response.text,
            min_wait_s=_retry_after_s(response),
            took_ms=response.took_ms,
        )
    return msgspec.structs.replace(
        delivery,
        status=DeliveryStatus.DELIVERED,
        attempts=delivery.attempts + 1,
        due=None,
        last_at=now,
        last_status=response.status,
        last_text=response.text[:_MAX_TEXT],
        took_ms=response.took_ms,
    )


def delivery_after_failure(
    delivery: CallbackDelivery, now: Instant, *, text: str, status: int = 0, min_wait_s: float = 0.0, took_ms: int = 0
) -> CallbackDelivery:
    """The delivery after a failed attempt: due again later, or dead after a day or a 410.

    `status` is 0 if there was no response; `min_wait_s` is how long the server asked to wait.
    """
    attempts = delivery.attempts + 1
    waits_s = max(retry_delay_s(attempts, random.random()), min_wait_s)  # noqa: S311 - jitter
    due = Instant(now + round(1000 * waits_s))
    ended = due > delivery.since + MAX_AGE_MS or status == GONE
    return msgspec.structs.replace(
        delivery,
        status=DeliveryStatus.DEAD if ended else DeliveryStatus.PENDING,
        attempts=attempts,
        due=None if ended else due,
        last_at=now,
        last_status=status,
        last_text=text[:_MAX_TEXT],
        took_ms=took_ms,
    )


def _retry_after_s(response: EndpointResponse) -> float:
    return min(response.retry_after_s or 0.0, _MAX_RETRY_AFTER_S)
