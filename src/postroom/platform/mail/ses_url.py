"""An Amazon SES account's URL: `ses://region?configuration_set=…` becomes an `SesConfig`.

An operator's URL may go without credentials: then they are looked for as AWS's tools do (`_aws_auth`). A tenant's must contain
its own (`ses://KEY_ID:SECRET@region`), because its mail would otherwise be sent by the operator's account, and it must not name
an endpoint or a profile. A secret never shows in a `repr`, a log line or an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from postroom.errors import Invalid
from postroom.platform.mail.smtp_url import Readers, read_options

SCHEME = "ses"
EXAMPLE = "ses://eu-west-1?configuration_set=postroom"
_REGION = re.compile(r"[a-z]{2}(-[a-z]{2,12}){1,3}-[1-9][0-9]?")


@dataclass(frozen=True, slots=True)
class SesConfig:
    """How to use SES in one region. Times are in seconds."""

    region: str
    configuration_set: str | None = None
    """None: the identity's default set, if it has one. Without a set SES reports no events."""
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    profile: str | None = None
    """The section of the shared AWS files; None: `AWS_PROFILE`, else `default`."""
    endpoint: str | None = None
    """Instead of the region's: `http://127.0.0.1:8025`."""
    connections: int = 32
    """At most this many at a time, per process; each carries one request at a time."""
    connect_s: float = 10.0
    answer_s: float = 60.0
    """To send a request, and again for its response."""
    idle_s: float = 5.0
    """A connection with nothing to do is closed after this long: sooner than SES would, because a request that meets a closing
    connection is in doubt."""

    @property
    def host(self) -> str:
        """The name in the URL, without a port."""
        return self._parts.hostname or ""

    @property
    def authority(self) -> str:
        """The value of `Host`: with the port if it is not the scheme's default."""
        port = self._parts.port
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if port is None or port == (443 if self.encrypted else 80) else f"{host}:{port}"

    @property
    def port(self) -> int:
        return self._parts.port or (443 if self.encrypted else 80)

    @property
    def encrypted(self) -> bool:
        """Whether it goes over TLS."""
        return self._parts.scheme == "https"

    @property
    def _parts(self) -> SplitResult:
        suffix = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        return urlsplit(self.endpoint or f"https://email.{self.region}.{suffix}")

    def __str__(self) -> str:
        """Without credentials."""
        return f"ses://{self.region}"


def is_ses(url: str) -> bool:
    """Whether the URL means Amazon SES."""
    return url.partition(":")[0] == SCHEME


def parse_ses_url(url: str, *, trusted: bool = True) -> SesConfig:
    """The configuration in `url`. `trusted`: an operator wrote it.

    Raises `Invalid` for a bad region, an unknown option or a bad value, naming it but never a secret.
    """
    parts = _split(url)
    options = read_options(parts.query, _READERS)
    region = unquote(parts.netloc.rpartition("@")[2])
    if not _REGION.fullmatch(region):
        raise Invalid(f"the mail provider's URL needs a region of AWS, as in {EXAMPLE}")
    config = SesConfig(region, **_credentials(parts), **options)
    if (config.access_key_id is None) != (config.secret_access_key is None):
        raise Invalid("the mail provider's URL needs an access key's id and secret, or neither: ses://KEY_ID:SECRET@region")
    if config.profile is not None and config.access_key_id is not None:
        raise Invalid("the mail provider's URL gives both profile= and an access key: drop one of them")
    if not trusted:
        _check_tenants(config)
    return config


def _check_tenants(config: SesConfig) -> None:
    if config.endpoint is not None or config.profile is not None:
        raise Invalid("endpoint= and profile= are of the server's own network and account: only an operator may name them")
    if config.access_key_id is None:
        raise Invalid("an access key is needed: ses://KEY_ID:SECRET@region (the server's own account is its operator's)")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:  # its message repeats the URL, secret and all
        raise Invalid(f"the mail provider's URL cannot be read; it looks like {EXAMPLE}") from None
    if parts.scheme != SCHEME:
        raise Invalid(f"the mail provider's URL begins with {parts.scheme or 'nothing'}:, not ses://")
    if parts.path not in ("", "/") or parts.fragment or "@" in parts.query:
        raise Invalid("the mail provider's URL has a path or a fragment; in a secret write / as %2F, ? as %3F and # as %23")
    return parts


def _credentials(parts: SplitResult) -> dict[str, Any]:
    names = ("access_key_id", "secret_access_key")
    given = {name: unquote(text) for name, text in zip(names, (parts.username, parts.password), strict=True) if text}
    if not all(re.fullmatch(r"[!-~]{1,200}", text) for text in given.values()):
        raise Invalid("the access key in the mail provider's URL is not printable ASCII")
    return given


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise ValueError("letters, digits, - and _, up to 64")
    return text


def _profile(text: str) -> str:
    if not re.fullmatch(r"[\w@. +:-]{1,100}", text):
        raise ValueError("the name of a profile")
    return text


def _endpoint(text: str) -> str:
    """Plain http only to this machine: mail and session tokens would cross the network readable."""
    expected = "https://host[:port], or http:// on this machine"
    try:
        parts = urlsplit(text)
        valid = bool(parts.hostname) and parts.path in ("", "/") and not (parts.query or parts.fragment or "@" in parts.netloc)
        port_is_right = parts.port != 0
    except ValueError:
        raise ValueError(expected) from None
    if (
        not valid
        or not port_is_right
        or not text.isascii()
        or not (parts.scheme == "https" or (parts.scheme == "http" and _is_here(parts.hostname or "")))
    ):
        raise ValueError(expected)
    return text.rstrip("/")


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text):
        raise ValueError("a whole number from 1 to 9999")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", text) or not float(text):
        raise ValueError("seconds, more than 0")
    return float(text)


_READERS: Readers = {
    "configuration_set": ("configuration_set", _name),
    "profile": ("profile", _profile),
    "endpoint": ("endpoint", _endpoint),
    "connections": ("connections", _count),
    "connect_timeout": ("connect_s", _seconds),
    "answer_timeout": ("answer_s", _seconds),
    "idle": ("idle_s", _seconds),
}
"""Option in the URL → field of `SesConfig`, and a parser of its value."""


def with_environment_endpoint(config: SesConfig, environ: Mapping[str, str]) -> SesConfig:
    """Adds the endpoint in AWS's own variables if the URL names none. Raises `Invalid` if they contain something else.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    if config.endpoint:
        return config
    return replace(config, endpoint=_named(environ, "AWS_ENDPOINT_URL_SESV2") or _named(environ, "AWS_ENDPOINT_URL"))


def sns_endpoint(environ: Mapping[str, str]) -> str | None:
    """The endpoint for SNS in AWS's own variables, or None. AWS_ENDPOINT_URL is ignored: it may be a store's."""
    return _named(environ, "AWS_ENDPOINT_URL_SNS")


def _named(environ: Mapping[str, str], name: str) -> str | None:
    named = environ.get(name)
    if not named or environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    try:
        return _endpoint(named)
    except ValueError as error:
        raise Invalid(f"{name} is {named!r}; it takes {error}") from None
