"""Signs a request to AWS: Signature Version 4, as far as a JSON API needs it.

The AWS SDK's signer takes most of the time of a call; this one prepares what is the same for a day (the key) and a second (the
date), which leaves two SHA-256 and one HMAC. "Create a signed AWS API request" in the IAM user guide is what it follows.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import quote

from postroom.clock import Instant


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials, as they are now."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: Instant | None = None
    """None: never."""


class Signer:
    """Signs for one host, region and service with one pair of keys."""

    def __init__(self, keys: Keys, *, host: str, region: str, service: str = "ses") -> None:
        self._keys = keys
        self._region = region
        self._service = service
        token = keys.session_token
        self._names = "content-type;host;x-amz-date" + (";x-amz-security-token" if token else "")
        self._before_date = f"content-type:application/json\nhost:{host}\nx-amz-date:"
        self._after_date = (f"\nx-amz-security-token:{token}" if token else "") + f"\n\n{self._names}\n"
        self._fixed = f"Host: {host}\r\nContent-Type: application/json\r\n" + (
            f"X-Amz-Security-Token: {token}\r\n" if token else ""
        )
        self._second = self._day = -1
        self._date = self._scope = self._credential = ""
        self._key = b""

    def headers(self, method: str, path: str, body: bytes, now: Instant) -> str:
        """The header fields of a request, each line ended, without `Content-Length`. `path`: as it is sent, without a query."""
        if now // 1000 != self._second:
            self._tick(now // 1000)
        fields = f"{self._before_date}{self._date}{self._after_date}"
        request = f"{method}\n{quote(path, safe='/-_.~')}\n\n{fields}{sha256(body).hexdigest()}"
        text = f"AWS4-HMAC-SHA256\n{self._date}\n{self._scope}\n{sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(self._key, text.encode(), "sha256").hex()
        return (
            f"{self._fixed}X-Amz-Date: {self._date}\r\nAuthorization: AWS4-HMAC-SHA256 Credential={self._credential}, "
            f"SignedHeaders={self._names}, Signature={signature}\r\n"
        )

    def _tick(self, second: int) -> None:
        self._second = second
        self._date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        if second // 86_400 != self._day:
            self._day = second // 86_400
            self._scope = f"{self._date[:8]}/{self._region}/{self._service}/aws4_request"
            self._credential = f"{self._keys.access_key_id}/{self._scope}"
            self._key = _key(self._keys.secret_access_key, self._scope)


def _key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
