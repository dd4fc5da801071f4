"""Where a recipient lives: a hash shard of its campaign.

The key is an HMAC of the normalised address under the tenant's secret, so a duplicate address lands on the same key
whatever row or worker it came from, storing a row twice is harmless, no partition gets hot, and every batch is an
independent unit of work. The address cannot be guessed back from a key without the secret.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import NewType

Key = NewType("Key", bytes)
"""12 bytes: one recipient of a tenant."""

KEY_BYTES = 12
BATCH_SIZE = 500
"""Recipients a batch, about: many enough to amortise a lease, few enough for one DynamoDB query and one Lambda run."""


def recipient_key(secret: bytes, normalised_address: str) -> Key:
    """The key of an address as `model.address` normalised it."""
    return Key(hmac.digest(secret, normalised_address.encode(), hashlib.sha256)[:KEY_BYTES])


def batches_for(rows: int) -> int:
    """How many batches a campaign of `rows` rows gets; frozen before its first row is stored."""
    return max(1, -(-rows // BATCH_SIZE))


def batch_of(key: Key, batches: int) -> int:
    """The batch that holds `key`, 0 to `batches` - 1."""
    return int.from_bytes(key, "big") % batches


def key_maker(secret: bytes) -> Callable[[str], Key]:
    """`recipient_key` for one secret, for many addresses: HMAC's pads (RFC 2104 §2) hashed once: half the cost."""
    pad = (hashlib.sha256(secret).digest() if len(secret) > 64 else secret).ljust(64, b"\0")
    inner_start = hashlib.sha256(bytes(byte ^ 0x36 for byte in pad))
    outer_start = hashlib.sha256(bytes(byte ^ 0x5C for byte in pad))

    def key_of(normalised_address: str) -> Key:
        inner, outer = inner_start.copy(), outer_start.copy()
        inner.update(normalised_address.encode())
        outer.update(inner.digest())
        return Key(outer.digest()[:KEY_BYTES])

    return key_of
