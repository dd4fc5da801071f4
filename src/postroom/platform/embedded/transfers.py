"""`ports.transfers` through our own HTTP server: a URL's last segment says what it permits, and a MAC proves it.

    {server}/transfers/{permission}.{mac}      permission: base64url of a JSON array; mac: HMAC-SHA256 of its text

The key, 32 bytes, is one for the installation, sealed under the master key in tables: the first process that signs stores it,
all others read it. The MAC covers the text as it is in the URL, so no second spelling of it is valid.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from datetime import UTC, datetime
from typing import Any

import orjson

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Corrupt, Denied
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.secrets import Secrets
from postroom.platform.ports.tables import Expect, ItemKey, Put, Tables
from postroom.platform.ports.transfers import ArrivedObject, PresignedRequest, TransferPermission, check_transfer

PATH = "/transfers/"
_KEY = ItemKey("#transfers", "key")
_PURPOSE = "transfers/key"
_FORM = 1
"""Version of the signed array: its first element."""
_CHANGED = "this URL was not signed here, or was changed: use it exactly as it was issued"


class HttpTransfers:
    """`ports.transfers.Transfers` and `TransferVerifier`."""

    def __init__(self, objects: Objects, tables: Tables, secrets: Secrets, *, api_base_url: str, clock: Clock) -> None:
        """`api_base_url`: without a slash at its end."""
        self._objects = objects
        self._tables = tables
        self._secrets = secrets
        self._url = api_base_url + PATH
        self._clock = clock
        self._lock = threading.Lock()
        self._key: bytes | None = None

    def put(self, key: str, *, size: int, content_type: str, expires_at: Instant, sha256: str | None = None) -> PresignedRequest:
        check_transfer(key, expires_at, self._clock.now(), size=size)
        url = self._sign(["PUT", key, content_type, expires_at, size, sha256, ""])
        return PresignedRequest("PUT", url, {"Content-Type": content_type, "Content-Length": str(size)}, expires_at)

    def get(self, key: str, *, filename: str, content_type: str, expires_at: Instant) -> PresignedRequest:
        check_transfer(key, expires_at, self._clock.now())
        return PresignedRequest("GET", self._sign(["GET", key, content_type, expires_at, 0, None, filename]), {}, expires_at)

    def arrived(self, key: str) -> ArrivedObject | None:
        info = self._objects.info(key)
        return None if info is None else ArrivedObject(info.version, info.size)

    def granted(self, method: str, token: str) -> TransferPermission:
        what, _, mac = token.partition(".")
        if not hmac.compare_digest(self._mac(what).encode(), mac.encode("utf-8", "replace")):
            raise Denied(_CHANGED)
        form, signed_for, key, content_type, expires_at, size, sha256, filename = orjson.loads(_decoded(what))
        if form != _FORM:
            raise Denied(_CHANGED)
        if signed_for != method:
            raise Denied(f"this URL was signed for {signed_for}, not for {method}")
        if self._clock.now() >= expires_at:
            raise Denied(f"this URL expired at {_time(expires_at)}: ask for a new one")
        return TransferPermission(method, key, content_type, Instant(expires_at), size, sha256, filename)

    def _sign(self, what: list[Any]) -> str:
        text = base64.urlsafe_b64encode(orjson.dumps([_FORM, *what])).rstrip(b"=").decode()
        return f"{self._url}{text}.{self._mac(text)}"

    def _mac(self, text: str) -> str:
        digest = hmac.digest(self._secret(), text.encode("utf-8", "replace"), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def _secret(self) -> bytes:
        if self._key is None:
            with self._lock:
                self._key = self._key or self._stored() or self._made()
        return self._key

    def reseal(self) -> tuple[int, int]:
        """Seal the key under the newest master key. Returns how many were sealed, and how many cannot be."""
        try:
            return int(self._resealed()), 0
        except Corrupt:
            return 0, 1

    def _resealed(self) -> bool:
        item = self._tables.get(_KEY)
        if item is None or self._secrets.is_current(item.data["sealed"]):
            return False
        return self._store(self._secrets.open(_PURPOSE, item.data["sealed"]), item.version)

    def _stored(self) -> bytes | None:
        item = self._tables.get(_KEY)
        return None if item is None else self._secrets.open(_PURPOSE, item.data["sealed"])

    def _made(self) -> bytes:
        """A new key, or another process's if that was stored first."""
        plain = self._clock.random(32)
        return plain if self._store(plain, Expect.ABSENT) else self._stored() or self._made()

    def _store(self, plain: bytes, expect: Expect | int) -> bool:
        try:
            self._tables.write([Put(_KEY, {"sealed": self._secrets.seal(_PURPOSE, plain)}, expect)])
        except Conflict:
            return False
        return True


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _time(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
