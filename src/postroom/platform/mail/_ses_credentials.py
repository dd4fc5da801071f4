"""Where the keys to AWS come from, when the provider's URL does not hold them: the places where AWS's own tools look.

    1. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
    2. the shared files (~/.aws/credentials, ~/.aws/config, or where AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE point)
    3. a container's role (ECS, EKS Pod Identity): AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or …_FULL_URI
    4. an instance's role (EC2), IMDSv2 only

These variables are AWS's, not Postroom's, and its tools on the same machine read them alike; the settings read them and hand them
down. Nothing is kept on disk. Blocking, a few seconds at most:
called off the loop. Profiles that need another service first (single sign-on, assumed roles, credential_process) are not
followed: `aws configure export-credentials` turns them into what stands under 1 or 2.
"""

from __future__ import annotations

import configparser
import http.client
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from postroom.clock import Instant
from postroom.errors import Denied, Invalid, PostroomError, Unavailable
from postroom.platform.mail._sigv4 import Keys
from postroom.platform.mail.ses_url import SesConfig

METADATA = "http://169.254.169.254"
_CONTAINER = "http://169.254.170.2"
_CONTAINER_HOSTS = {"169.254.170.2", "169.254.170.23", "fd00:ec2::23", "localhost", "127.0.0.1", "::1"}
_TIMEOUT_S = 2.0
_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class KeySource:
    """Finds keys for one configuration; each call looks anew."""

    config: SesConfig
    environ: Mapping[str, str]
    metadata: str = METADATA

    def __call__(self) -> Keys:
        """`Denied`: there are none, and where they were looked for. `Unavailable`: their source does not answer."""
        config = self.config
        if config.access_key_id and config.secret_access_key:
            return Keys(config.access_key_id, config.secret_access_key)
        keys = (None if config.profile else self._of_environment()) or self._of_files() or self._of_container()
        return keys or self._of_instance()

    def _of_environment(self) -> Keys | None:
        return _static(
            {
                name.lower(): self.environ.get(name, "")
                for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
            }
        )

    def _of_files(self) -> Keys | None:
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

    def _of_container(self) -> Keys | None:
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

    def _of_instance(self) -> Keys:
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


def _static(values: Mapping[str, str]) -> Keys | None:
    key, secret = values.get("aws_access_key_id"), values.get("aws_secret_access_key")
    return _checked(Keys(key, secret, values.get("aws_session_token") or None)) if key and secret else None


def _checked(keys: Keys) -> Keys:
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


def _temporary(text: str) -> Keys:
    """What a role gives: for some hours."""
    try:
        given = json.loads(text)
        until = datetime.fromisoformat(given["Expiration"])
        return _checked(
            Keys(given["AccessKeyId"], given["SecretAccessKey"], given["Token"], Instant(round(until.timestamp() * 1000)))
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
