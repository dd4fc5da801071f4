"""Where a recipient lives: a hash shard of its campaign.

The key is an HMAC of the normalised address under the tenant's secret, so a duplicate address lands on the same key
whatever row or worker it came from, storing a row twice is harmless, no partition gets hot, and every batch is an
independent unit of work. The address cannot be guessed back from a key without the secret.
"""

from __future__ import annotations

import hashlib
import hmac
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
