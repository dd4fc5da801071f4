"""Opaque tokens: what a holder is given once, and the digest that is stored in its place.

They hold 256 bits of chance, so that a plain SHA-256 keeps them (nothing to guess, unlike a password), and a look-up by
digest tells an attacker's clock nothing about the token.
"""

from __future__ import annotations

import base64
import hashlib

from postroom.clock import Clock

_BYTES = 32


def new_token(clock: Clock) -> str:
    """43 characters of URL-safe base64."""
    return base64.urlsafe_b64encode(clock.random(_BYTES)).decode().rstrip("=")


def digest(token: str) -> str:
    """What is stored; takes any text."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
