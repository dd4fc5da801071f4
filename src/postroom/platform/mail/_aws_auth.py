"""AWS credentials for SES, and the signature of requests.

Where credentials come from, in this order:

1. the provider's URL (`ses://KEY_ID:SECRET@region`),
2. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, unless the URL names a profile,
3. botocore's chain: profiles with keys, single sign-on, assumed roles or a process, web identity, container and instance roles.
   https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html

1 and 2 work without botocore; 3 needs `pip install 'postroom[aws]'`. Finding credentials blocks, a few seconds at most, so
mailers do it in a thread. `CredentialRefresher` renews them before they expire while mail is sent with the old ones.

Requests are signed with Signature Version 4, here as far as a JSON API needs it: botocore's signer would take most of the time of
a request. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
"""

from __future__ import annotations

import asyncio
import hmac
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol
from urllib.parse import quote

from postroom.clock import Clock, Instant
from postroom.errors import Denied, Invalid, Permanent, PostroomError, Unavailable, Unsupported
from postroom.platform.mail.ses_url import SesConfig

_RENEW_MS = 5 * 60_000
"""Left before they expire, when credentials are renewed."""
_EXPIRED_MS = 30_000
"""Left before they expire, when credentials are no longer used."""
_AGAIN_S = 30.0
"""Between two attempts to renew: a role may hand out the same credentials until shortly before they expire."""
_FRESH_MS = 10 * 60_000
"""Validity that botocore guarantees of credentials that it renews itself (its mandatory refresh time)."""
_SHORT_MS = 60_000
"""Assumed validity of those that come with less."""


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """Credentials, as they are now."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: Instant | None = None
    """When to have others at the latest; None: never."""


class CredentialSource(Protocol):
    """Finds credentials. Both methods may be called from several threads."""

    def load(self) -> AwsCredentials:
        """The credentials to use now. Blocks. Raises a `Permanent` error if only a person can help, `Unavailable` if their source
        does not answer."""
        ...

    def reject(self) -> None:
        """AWS does not accept what was loaded: the next `load` must look anew."""
        ...


class AwsCredentialChain:
    """A `CredentialSource` for one provider: its URL, the environment, botocore's chain."""

    def __init__(self, config: SesConfig, environ: Mapping[str, str], clock: Clock) -> None:
        """`environ`: for static keys. botocore reads the process's environment itself."""
        self._config = config
        self._environ = environ
        self._clock = clock
        self._lock = threading.Lock()
        self._renewing: Any = None
        """botocore's credentials, if they are of the kind that it renews."""

    def load(self) -> AwsCredentials:
        config, environ = self._config, self._environ
        if config.access_key_id and config.secret_access_key:
            return AwsCredentials(config.access_key_id, config.secret_access_key)
        key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
        if key and secret and config.profile is None:
            return _checked(AwsCredentials(key, secret, environ.get("AWS_SESSION_TOKEN") or None))
        with self._lock:
            return self._from_botocore()

    def reject(self) -> None:
        with self._lock:
            self._renewing = None

    def _from_botocore(self) -> AwsCredentials:
        try:
            from botocore import credentials, exceptions
            from botocore.session import Session
        except ImportError as error:
            raise Unsupported(
                "AWS profiles and roles need botocore: pip install 'postroom[aws]', or set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or write ses://KEY_ID:SECRET@region"
            ) from error
        try:
            found = self._renewing
            if found is None:
                session = Session(profile=self._config.profile)
                session.set_config_variable("region", self._config.region)
                found = session.get_credentials()
            if found is None:
                raise Denied(
                    "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in "
                    "~/.aws/credentials, or give the machine a role"
                )
            frozen = found.get_frozen_credentials()
        except exceptions.ConfigParseError as error:  # its message may show a line of the file
            raise Invalid(f"{error.kwargs.get('path')} cannot be read as an AWS configuration file") from None
        except (
            exceptions.ProfileNotFound,
            exceptions.PartialCredentialsError,
            exceptions.SSOError,
            exceptions.ClientError,
        ) as error:
            raise Denied(f"no AWS credentials: {error}") from error
        except (exceptions.BotoCoreError, OSError, RuntimeError, ValueError) as error:
            raise Unavailable(f"no AWS credentials now: {error}") from error
        expires_at = None
        if isinstance(found, credentials.RefreshableCredentials):
            self._renewing = found
            valid_ms = _SHORT_MS if found.refresh_needed(refresh_in=_FRESH_MS // 1000) else _FRESH_MS
            expires_at = Instant(self._clock.now() + valid_ms)
        return _checked(AwsCredentials(frozen.access_key, frozen.secret_key, frozen.token or None, expires_at))


def _checked(credentials: AwsCredentials) -> AwsCredentials:
    """They become header fields."""
    for text in (credentials.access_key_id, credentials.secret_access_key, credentials.session_token or ""):
        if not text.isascii() or not text.isprintable():
            raise Invalid("the AWS credentials that were found are not printable ASCII")
    return credentials


class Signer:
    """Signs requests to one host, region and service. The key is derived once a day, the date once a second."""

    def __init__(self, credentials: AwsCredentials, *, host: str, region: str, service: str = "ses") -> None:
        self._credentials = credentials
        self._region = region
        self._service = service
        token = credentials.session_token
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
        """The header fields of a request, each line ended, without `Content-Length`. `path`: as sent, without a query."""
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
            self._credential = f"{self._credentials.access_key_id}/{self._scope}"
            self._key = _signing_key(self._credentials.secret_access_key, self._scope)


def _signing_key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


class CredentialRefresher:
    """The signer that a mailer uses now, renewed in the background before its credentials expire. Lives on one event loop."""

    def __init__(
        self,
        source: CredentialSource,
        signer: Callable[[AwsCredentials], Signer],
        clock: Clock,
        *,
        renewed: Callable[[], None],
        failed: Callable[[PostroomError, bool], None],
    ) -> None:
        """`renewed`: called when there are new credentials. `failed`: called if there are none to use; its second argument says
        whether only a person can help."""
        self._source = source
        self._make_signer = signer
        self._clock = clock
        self._renewed = renewed
        self._failed = failed
        self._expires_at: Instant | None = None
        self._signer: Signer | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._not_before = 0.0
        """On the monotonic clock: the next attempt to renew."""
        self._rejected = False

    @property
    def current(self) -> Signer:
        """Only after `ready` said True, on the same turn of the loop."""
        assert self._signer is not None
        return self._signer

    def ready(self) -> bool:
        """Whether there are credentials. If not, or if they expire soon, others are looked for: `renewed` or `failed` follows."""
        if self._signer is not None and self._expires_at is None:
            return True
        left = 0 if self._expires_at is None else self._expires_at - self._clock.now()
        if left <= _EXPIRED_MS:
            self._signer = self._expires_at = None
        if self._fetching is None and (self._signer is None or (left <= _RENEW_MS and self._may_renew)):
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
        return self._signer is not None

    def reject(self) -> None:
        """AWS does not accept them: look for others."""
        self._signer = self._expires_at = None
        self._rejected = True

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    @property
    def _may_renew(self) -> bool:
        return self._clock.monotonic() >= self._not_before

    async def _fetch(self) -> None:
        try:
            if self._rejected:
                self._rejected = False
                await asyncio.to_thread(self._source.reject)
            credentials = await asyncio.to_thread(self._source.load)
        except PostroomError as error:
            if self._signer is None:
                self._failed(error, isinstance(error, Permanent))
        else:
            self._signer, self._expires_at = self._make_signer(credentials), credentials.expires_at
            self._renewed()
        finally:
            self._fetching = None
            self._not_before = self._clock.monotonic() + _AGAIN_S
