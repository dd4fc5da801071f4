"""Signatures as Standard Webhooks has them (specification, "Webhook metadata and signature scheme"): HMAC-SHA256, version v1."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence


def headers(name: str, body: bytes, *, seconds: int, secrets: Sequence[bytes]) -> dict[str, str]:
    """Of a request of the id `name` that is made at `seconds` since 1970; one signature for each secret, with spaces."""
    signed = f"{name}.{seconds}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode() for secret in secrets)
    return {
        "content-type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
