"""Signs a request to AWS: Signature Version 4, as far as a JSON API needs it.

The AWS SDK's signer takes most of the time of a call; this one prepares what is the same for a day (the key) and a second (the
date), which leaves two SHA-256 and one HMAC. "Create a signed AWS API request" in the IAM user guide is what it follows.

Where the keys to AWS come from, when the provider's URL does not hold them: the places where AWS's own tools look.

    1. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
    2. the shared files (~/.aws/credentials, ~/.aws/config, or where AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE point)
    3. a container's role (ECS, EKS Pod Identity): AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or …_FULL_URI
    4. an instance's role (EC2), IMDSv2 only

These variables are AWS's, not Postroom's, and its tools on the same machine read them alike; the settings read them and hand them
down. Nothing is kept on disk. Blocking, a few seconds at most:
called off the loop. Profiles that need another service first (single sign-on, assumed roles, credential_process) are not
followed: `aws configure export-credentials` turns them into what stands under 1 or 2.

The keys that calls are signed with, renewed in the background before they run out.
"""

from __future__ import annotations

import asyncio
import configparser
import hmac
import http.client
import json
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote, urlsplit

from postroom.clock import Clock, Instant
from postroom.errors import Denied, Invalid, PostroomError, Unavailable
from postroom.platform.mail.ses_url import SesConfig


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """Credentials, as they are now."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: Instant | None = None
    """None: never."""


class Signer:
    """Signs for one host, region and service with one pair of keys."""

    def __init__(self, keys: AwsCredentials, *, host: str, region: str, service: str = "ses") -> None:
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
            self._key = _signing_key(self._keys.secret_access_key, self._scope)


def _signing_key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


METADATA = "http://169.254.169.254"


_CONTAINER = "http://169.254.170.2"


_CONTAINER_HOSTS = {"169.254.170.2", "169.254.170.23", "fd00:ec2::23", "localhost", "127.0.0.1", "::1"}


_TIMEOUT_S = 2.0


_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class CredentialSource:
    """Finds keys for one configuration; each call looks anew."""

    config: SesConfig
    environ: Mapping[str, str]
    metadata: str = METADATA

    def __call__(self) -> AwsCredentials:
        """`Denied`: there are none, and where they were looked for. `Unavailable`: their source does not answer."""
        config = self.config
        if config.access_key_id and config.secret_access_key:
            return AwsCredentials(config.access_key_id, config.secret_access_key)
        keys = (None if config.profile else self._of_environment()) or self._of_files() or self._of_container()
        return keys or self._of_instance()

    def _of_environment(self) -> AwsCredentials | None:
        return _static(
            {
                name.lower(): self.environ.get(name, "")
                for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
            }
        )

    def _of_files(self) -> AwsCredentials | None:
        """The profile's, from the first file that has them. A profile that was named must have some."""
        named = self.config.profile or self.environ.get("AWS_PROFILE")
        profile = named or "default"
        home = Path(self.environ.get("HOME", "~")).expanduser()
        credentials = Path(self.environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws/credentials")
        config = Path(self.environ.get("AWS_CONFIG_FILE") or home / ".aws/config")
        section = profile if profile == "default" else f"profile {profile}"
        keys = _static(_section(credentials, profile)) or _static(_section(config, section))
        if keys is None and named:
            raise Denied(
                f"the AWS profile {named!r} holds no aws_access_key_id and aws_secret_access_key ({credentials}, {config}); "
                f"other kinds of profile become such by `aws configure export-credentials --profile {named}`"
            )
        return keys

    def _of_container(self) -> AwsCredentials | None:
        relative = self.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        url = _CONTAINER + relative if relative else self.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
        if not url:
            return None
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in _CONTAINER_HOSTS:
            raise Invalid("AWS_CONTAINER_CREDENTIALS_FULL_URI leads to another machine without TLS")
        return _temporary(_ask("GET", url, {"Authorization": token} if (token := self._container_token()) else {}))

    def _container_token(self) -> str:
        file = self.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
        if not file:
            return self.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
        try:
            return Path(file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Unavailable(f"the container's token for AWS cannot be read: {error}") from error

    def _of_instance(self) -> AwsCredentials:
        roles = "/latest/meta-data/iam/security-credentials/"
        try:
            if self.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
                raise Unavailable("the instance's metadata are disabled")
            token = _ask("PUT", self.metadata + "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "300"})
            headers = {"X-aws-ec2-metadata-token": token}
            role = _ask("GET", self.metadata + roles, headers).split("\n")[0].strip()
            return _temporary(_ask("GET", self.metadata + roles + role, headers))
        except PostroomError as error:
            raise Denied(
                "no credentials for AWS were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in "
                f"~/.aws/credentials, or give the machine a role ({error})"
            ) from error


def _static(values: Mapping[str, str]) -> AwsCredentials | None:
    key, secret = values.get("aws_access_key_id"), values.get("aws_secret_access_key")
    return _checked(AwsCredentials(key, secret, values.get("aws_session_token") or None)) if key and secret else None


def _checked(keys: AwsCredentials) -> AwsCredentials:
    """They go into header fields."""
    for text in (keys.access_key_id, keys.secret_access_key, keys.session_token or ""):
        if not text.isascii() or not text.isprintable():
            raise Invalid("the credentials for AWS that were found are not printable ASCII")
    return keys


def _section(path: Path, name: str) -> Mapping[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise Invalid(f"{path} cannot be read: {type(error).__name__}") from None  # the parser's message shows a line of it
    return dict(parser[name]) if parser.has_section(name) else {}


def _temporary(text: str) -> AwsCredentials:
    """What a role gives: for some hours."""
    try:
        given = json.loads(text)
        until = datetime.fromisoformat(given["Expiration"])
        return _checked(
            AwsCredentials(
                given["AccessKeyId"], given["SecretAccessKey"], given["Token"], Instant(round(until.timestamp() * 1000))
            )
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unavailable(f"the role's credentials cannot be read: {type(error).__name__}") from None


def _ask(method: str, url: str, headers: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    with closing(kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)) as connection:
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(method, target, headers=dict(headers))
            answer = connection.getresponse()
            text = answer.read(_MAX_BYTES).decode()
        except (OSError, http.client.HTTPException, UnicodeDecodeError, ValueError) as error:
            raise Unavailable(f"{parts.hostname} gives no credentials: {error}") from error
    if answer.status != 200:
        raise Unavailable(f"{parts.hostname} gives no credentials: HTTP {answer.status}")
    return text


_RENEW_MS = 5 * 60_000


_SPENT_MS = 30_000


_AGAIN_S = 30.0


class CredentialRefresher:
    """Of one mailer. Lives on one event loop."""

    def __init__(
        self,
        config: SesConfig,
        source: Callable[[], AwsCredentials],
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
        self._keys: AwsCredentials | None = None
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
