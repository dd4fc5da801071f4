"""The installation's settings: the only reader of the environment. Frozen, typed, checked before anything starts.

`POSTROOM_<NAME>` in the environment wins over `<name>` in `postroom.toml`; what the command line says wins over both. A
setting that is unknown, or whose value cannot be used, stops the start with one clear line: a typing error that goes
unnoticed is mail that leaves through the wrong relay. Each is explained here once: docs/reference/settings.md is made
from it (`make docs`), and a test compares the two.
"""

from __future__ import annotations

import base64
import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from postroom.errors import Invalid

PREFIX = "POSTROOM_"
FILE_NAME = "postroom.toml"
_WORKERS_DEFAULT_MAX = 4
_MASTER_KEY_BYTES = 32
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_PASSWORD = re.compile(r"(?<=//)([^:/@]*):.*(?=@)")
_TOPIC = re.compile(r"arn:aws(-[a-z]+)*:sns:[a-z0-9-]{1,40}:[0-9]{12}:[A-Za-z0-9_-]{1,256}", re.ASCII)


class Platform(StrEnum):
    """Where the data lives."""

    EMBEDDED = "embedded"
    AWS = "aws"


class Kind(NamedTuple):
    """How a setting is read and explained."""

    parse: Callable[[str], Any]
    """Text to value; `_Refused` says which rule was broken, any other `ValueError` only that one was."""
    allowed: str
    default: str
    doc: str


class _Refused(ValueError):
    """The text says why."""


def _seconds(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        found = _DURATION.fullmatch(text.strip().lower())
        if found is None:
            raise _Refused("not a duration")
        value = float(found[1]) * _UNITS[found[2]]
        if not least <= value <= most:
            raise _Refused("out of range")
        return value

    return parse


def _directory(text: str) -> Path:
    return Path(text).expanduser()


def _workers(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 64:
        raise _Refused("out of range")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 1_000_000:  # also refuses nan
        raise _Refused("out of range")
    return value


def _percent(text: str) -> float:
    value = float(text.strip().removesuffix("%"))
    if not 0.001 <= value <= 100:  # also refuses nan
        raise _Refused("out of range")
    return value


def _platform(text: str) -> Platform:
    if Platform(text) is Platform.AWS:
        raise _Refused("the AWS home comes with a later release")
    return Platform(text)


def _mail(text: str) -> str:
    scheme, _, rest = text.partition(":")
    if text == "inbox:" or (scheme in {"smtp", "smtps", "ses"} and rest.startswith("//") and urlsplit(text).hostname):
        return text
    raise _Refused("not a way for mail to leave")


def _mailbox(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"imaps", "imap", "pop3s", "pop3"} or not parts.hostname or not parts.password:
        raise _Refused("not a mailbox with its user and password")
    return text


def _issuer(text: str) -> str:
    """As it is: with or without a slash at its end are two issuers."""
    parts = urlsplit(_public_url(text))
    if parts.scheme != "https" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise _Refused("its keys would come unprotected")
    return text


def _public_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
        raise _Refused("not the address of a web site")
    if not text.isascii() or any(character.isspace() for character in text):
        raise _Refused("not ASCII: write a domain in its xn-- form")
    return text.rstrip("/")


def _domain(text: str) -> str:
    name = text.lower().rstrip(".")
    labels = name.split(".")
    if len(name) > 253 or len(labels) < 2 or labels[-1].isdigit() or not all(_LABEL.fullmatch(label) for label in labels):
        raise _Refused("not a domain name")
    return name


def _listen(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise _Refused("not host:port")
    name = host.removeprefix("[").removesuffix("]")
    if not name or (":" in name) != host.startswith("["):
        raise _Refused("not host:port; an IPv6 address stands in brackets")
    return text


def _networks(text: str) -> tuple[str, ...]:
    return tuple(str(ip_network(part.strip(), strict=False)) for part in text.split(","))


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(part.strip().rstrip("/") for part in text.split(","))
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path or parts.query or "@" in parts.netloc:
            raise _Refused(f"{origin!r} is no origin")
    return origins


def _topics(text: str) -> tuple[str, ...]:
    for arn in _words(text):
        if not _TOPIC.fullmatch(arn):
            raise _Refused(f"{arn[:80]!r} is no ARN of an SNS topic")
    return _words(text)


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _master_keys(text: str) -> str:
    for part in text.split(","):
        if len(base64.b64decode(part.strip(), validate=True)) != _MASTER_KEY_BYTES:
            raise _Refused("not 32 bytes in base64")
    return text


def _or_off(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """`off`, or `0`: zero."""
    return lambda text: 0 if text.strip().lower() in {"off", "0"} else parse(text)


def _count(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise _Refused("out of range")
        return value

    return parse


def _default_workers() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_WORKERS_DEFAULT_MAX, available))


KINDS = {
    "data": Kind(
        _directory,
        "a directory",
        "`./postroom-data`",
        "Where the embedded platform keeps everything: databases, objects, journals. Made when it is missing. It must be on a "
        "local file system. A relative path starts at the working directory; in `postroom.toml`, at that file.",
    ),
    "platform": Kind(_platform, "`embedded`", "`embedded`", "Which home keeps the data. `aws` comes with a later release."),
    "mail": Kind(
        _mail,
        "`inbox:`, or `smtp://[user:password@]host[:port][?tls=…&connections=…]` (`smtps://` for TLS from the first byte), or "
        "`ses://[key_id:key@]region[?configuration_set=…]`",
        "`inbox:`",
        "How mail leaves when a campaign names no provider. `inbox:` is the built-in inbox: mail is kept on this machine and "
        "nothing leaves it. The options of `smtp://` are in [smtp.md](smtp.md), those of `ses://` in [ses.md](ses.md). A "
        "password in it is percent-encoded.",
    ),
    "public_url": Kind(
        _public_url,
        "an http or https URL without a query",
        "none",
        "The address under which recipients reach this installation. Tracking links, the opens pixel and the unsubscribe link "
        "exist only when it is set. The door answers them at `/t/…` and `/u/…`: a proxy has to pass these on, with the URL's own "
        "path before them or without. See [tracking.md](tracking.md).",
    ),
    "bounce_domain": Kind(
        _domain,
        "a domain name",
        "none",
        "The domain whose mail comes back here. Return paths that name the single message (VERP) are used only when it is set; "
        "otherwise bounces go to the sender's address.",
    ),
    "feedback_listen": Kind(
        _listen,
        "host:port",
        "none: no mail is taken in",
        "Where `postroom serve` takes the mail that comes back by SMTP: `0.0.0.0:25`, with the MX of `bounce_domain` leading "
        "there. Needs `bounce_domain`. STARTTLS is offered with `tls_certificate`. See [mailroom.md](mailroom.md).",
    ),
    "feedback_mailbox": Kind(
        _mailbox,
        "`imaps://user:password@host[:port][/folder][?keep=yes]`, or `pop3s://…`; `imap://` and `pop3://` go on under STARTTLS",
        "none: no mailbox is looked into",
        "A mailbox that `postroom serve` looks into every minute, where mail that comes back cannot be received by SMTP. Mail "
        "that was taken is deleted there, but for `keep=yes`. User and password are percent-encoded. See "
        "[mailroom.md](mailroom.md).",
    ),
    "ses_topics": Kind(
        _topics,
        "ARNs of SNS topics, with commas",
        "none",
        "The topics whose notices of Amazon SES are believed at `/hooks/ses`; without one nothing answers there. Each may "
        "report on any tenant's messages: see [ses.md](ses.md).",
    ),
    "workers": Kind(_workers, "1 to 64", "the number of processors, at most 4", "How many sender processes run at once."),
    "rate": Kind(
        _rate,
        "0.1 to 1000000",
        "none: as fast as the provider takes them",
        "Recipients a second, at most, over all workers, for campaigns that set no rate themselves.",
    ),
    "lease": Kind(
        _seconds(2, 900),
        "2s to 15m",
        "`15s`",
        "How long a worker may be silent before another takes over its batch. A worker that stops without a word delays its "
        "batches by this much; a shorter lease is lost more easily when the machine is overloaded.",
    ),
    "drain": Kind(
        _seconds(0, 300),
        "0s to 5m",
        "`10s`",
        "How long a pause or shutdown waits for answers to messages that are already with the provider.",
    ),
    "settle_after": Kind(
        _seconds(0, 30 * 86_400),
        "0s to 30d",
        "`1h`",
        "How long a message whose answer was never seen waits for news of it before the campaign's policy for unknown messages "
        "decides.",
    ),
    "give_up_after": Kind(
        _seconds(60, 30 * 86_400),
        "1m to 30d",
        "`48h`",
        "How long after a campaign's start a recipient who is refused for now is tried again before the message fails.",
    ),
    "retry_after": Kind(
        _seconds(1, 3_600),
        "1s to 1h",
        "`1m`",
        "How long a recipient who is refused for now waits for the second try; each further wait is twice as long, up to an "
        "hour.",
    ),
    "schedule_grace": Kind(
        _seconds(0, 30 * 86_400),
        "0s to 30d",
        "`1h`",
        "How late a scheduled campaign may start, after an outage say; found later than that, it is paused instead.",
    ),
    "listen": Kind(
        _listen,
        "host:port",
        "`127.0.0.1:8400`",
        "Where `postroom serve` answers. On any other address than this machine's own, passwords and keys would cross the wire "
        "in the clear without a certificate: set `tls_certificate`, or put a proxy before it that has one.",
    ),
    "api_url": Kind(
        _public_url,
        "an http or https URL without a query",
        "made from `listen`",
        "The address under which people and programs reach the door: the issuer in access tokens, and what upload and download "
        "URLs begin with. Behind a proxy it is the proxy's.",
    ),
    "tls_certificate": Kind(
        _directory, "a PEM file", "none: plain HTTP", "The door's certificate and its chain. TLS 1.2 or newer."
    ),
    "tls_key": Kind(_directory, "a PEM file", "in the certificate's file", "The certificate's private key."),
    "trusted_proxies": Kind(
        _networks,
        "addresses or networks, with commas",
        "none",
        "Whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed. From anybody else they are ignored.",
    ),
    "cors_origins": Kind(
        _origins,
        "origins (https://app.example), with commas",
        "none",
        "Web sites of others whose scripts may call the API from a browser.",
    ),
    "api_rate": Kind(
        _rate,
        "0.1 to 1000000",
        "`2000`",
        "Calls a second that one tenant may make; an API key has half of it, an address without credentials a tenth.",
    ),
    "issuer": Kind(
        _issuer,
        "an https URL (http on this machine only), to the letter as the provider spells it",
        "none: the built-in issuer",
        "An OpenID Connect provider whose access tokens are accepted instead of the built-in issuer's, such as an Amazon Cognito "
        "user pool. Its keys are found through `/.well-known/openid-configuration`.",
    ),
    "audience": Kind(
        _words,
        "words, with commas",
        "none",
        "With `issuer`, and needed there: whose tokens are accepted. One of them must stand in the token's `aud` or, where the "
        "token has no `aud`, be its `client_id`.",
    ),
    "master_key": Kind(
        _master_keys,
        "32 bytes in base64, several with commas",
        "the file `master_key_file`",
        "The key over all keys: provider passwords, second factors, signing keys and uploaded recipient files are stored "
        "encrypted under it. The first encrypts; the others are older ones that still decrypt.",
    ),
    "master_key_file": Kind(
        _directory,
        "a file that only its owner can read",
        "`master.key` in the data directory, made when it is missing",
        "Where the master key is kept when `master_key` is not set. Without it what it encrypts is lost: keep a copy.",
    ),
    "upload_days": Kind(
        _count(1, 3_650),
        "1 to 3650",
        "`30`",
        "After so many days an uploaded recipients file is deleted. One that was announced and never came, after a day.",
    ),
    "retention_days": Kind(
        _count(1, 36_500),
        "1 to 36500",
        "none: for ever",
        "After so many days a campaign that has ended, and single messages, are deleted with all that is known of their "
        "recipients. The suppression list stays.",
    ),
    "callback_networks": Kind(
        _networks,
        "addresses or networks, with commas",
        "none: the public Internet alone",
        "Networks of your own that callbacks may be sent to, also without TLS. From anywhere else in a private network they are "
        "refused, since whoever may name a URL could otherwise make this server call its neighbours.",
    ),
    "soft_bounces": Kind(
        _or_off(_count(2, 100)),
        "2 to 100, or `off`",
        "`5`",
        "After so many bounces that may pass (a full mailbox, say) within `soft_bounce_window` an address is left alone for "
        "`soft_bounce_hold`. Bounces that are for good count at once, and for good.",
    ),
    "soft_bounce_window": Kind(_seconds(3_600, 366 * 86_400), "1h to 366d", "`30d`", "See `soft_bounces`."),
    "soft_bounce_hold": Kind(_seconds(3_600, 366 * 86_400), "1h to 366d", "`14d`", "See `soft_bounces`."),
    "bounce_warn": Kind(
        _or_off(_percent),
        "0.001 to 100 (percent), or `off`",
        "`5`",
        "When so many of a hundred messages that were sent within `guard_window` bounce for good, of a campaign, a provider, a "
        "recipients' domain or single messages, the log and the audit trail say so: see [guard.md](guard.md).",
    ),
    "bounce_pause": Kind(
        _or_off(_percent),
        "0.001 to 100 (percent), or `off`",
        "`10`",
        "When so many of a hundred bounce for good, the campaign is paused; when it is a provider's, all its campaigns.",
    ),
    "complaint_warn": Kind(
        _or_off(_percent), "0.001 to 100 (percent), or `off`", "`0.1`", "The same of complaints: see `bounce_warn`."
    ),
    "complaint_pause": Kind(
        _or_off(_percent), "0.001 to 100 (percent), or `off`", "`0.5`", "The same of complaints: see `bounce_pause`."
    ),
    "guard_sample": Kind(
        _count(1, 1_000_000),
        "1 to 1000000",
        "`200`",
        "With fewer messages sent within `guard_window` the guard says nothing.",
    ),
    "guard_window": Kind(_seconds(300, 6 * 3_600), "5m to 6h", "`1h`", "Over how long the guard looks back."),
}
"""By field name, in the order of the reference."""


AWS_VARIABLES = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_CONFIG_FILE",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_SESV2",
        "AWS_ENDPOINT_URL_SNS",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        "AWS_PROFILE",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_SHARED_CREDENTIALS_FILE",
        "HOME",
    }
)


@dataclass(frozen=True, slots=True)
class AwsEnvironment:
    """What AWS's own tools read on this machine as well: whose account it is, and where its services are."""

    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False, repr=False)
    """Those of `AWS_VARIABLES` that are set; some are secret."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Of the whole environment."""
        return cls(MappingProxyType({name: environ[name] for name in sorted(AWS_VARIABLES & environ.keys())}))


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set; `KINDS` says what each means. Durations are seconds."""

    data: Path = Path("postroom-data")
    platform: Platform = Platform.EMBEDDED
    mail: str = field(default="inbox:", repr=False)  # may hold a password
    public_url: str | None = None
    bounce_domain: str | None = None
    feedback_listen: str | None = None
    feedback_mailbox: str | None = field(default=None, repr=False)  # holds a password
    ses_topics: tuple[str, ...] = ()
    workers: int = field(default_factory=_default_workers)
    rate: float | None = None
    lease: float = 15.0
    drain: float = 10.0
    settle_after: float = 3_600.0
    give_up_after: float = 172_800.0
    retry_after: float = 60.0
    schedule_grace: float = 3_600.0
    listen: str = "127.0.0.1:8400"
    api_url: str | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    api_rate: float = 2_000.0
    issuer: str | None = None
    audience: tuple[str, ...] = ()
    master_key: str | None = field(default=None, repr=False)
    master_key_file: Path | None = None
    upload_days: int = 30
    retention_days: int | None = None
    aws: AwsEnvironment = field(default_factory=AwsEnvironment, compare=False)
    """Not set here, and not shown: AWS's own."""
    callback_networks: tuple[str, ...] = ()
    soft_bounces: int = 5
    """0: off."""
    soft_bounce_window: float = 30 * 86_400.0
    soft_bounce_hold: float = 14 * 86_400.0
    bounce_warn: float = 5.0
    """Percent, as the next three; 0: off."""
    bounce_pause: float = 10.0
    complaint_warn: float = 0.1
    complaint_pause: float = 0.5
    guard_sample: int = 200
    guard_window: float = 3_600.0

    @classmethod
    def load(cls, environ: Mapping[str, str], toml_path: Path | None, overrides: Mapping[str, object]) -> Self:
        """Read, check and freeze. `overrides` come from the command line, by field name; None is "not given".

        `Invalid` names the setting, where it stands, and what is allowed; also for a `toml_path` that cannot be read.
        """
        values: dict[str, Any] = {} if toml_path is None else _from_file(toml_path)
        for variable, text in environ.items():
            if variable.startswith(PREFIX):
                name = _known(variable.removeprefix(PREFIX).lower(), variable, PREFIX, str.upper)
                values[name] = _value(name, text, variable)
        for name, given in overrides.items():
            if given is not None:
                values[name] = _value(name, str(given), "--" + _known(name, name).replace("_", "-"))
        return cls(**values, aws=AwsEnvironment.of(environ))

    def environ(self, **replaced: str) -> dict[str, str]:
        """The environment for a child process of this program: as this one's, with every setting as it is here."""
        values = {name: getattr(self, name) for name in KINDS} | replaced
        ours = {PREFIX + name.upper(): _text(value) for name, value in values.items() if value not in (None, ())}
        return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)} | ours

    def shown(self) -> dict[str, str]:
        """Every setting as text, by variable, passwords and keys masked: for `doctor` and logs."""
        shown = {PREFIX + name.upper(): without_password(_text(getattr(self, name))) for name in KINDS}
        return shown | ({} if self.master_key is None else {PREFIX + "MASTER_KEY": "***"})

    @property
    def door_url(self) -> str:
        """The address of the door, without a slash at its end."""
        scheme = "https" if self.tls_certificate else "http"
        return self.api_url or f"{scheme}://{self.listen}"


def _text(value: object) -> str:
    """As the environment has it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def without_password(url: str) -> str:
    """A provider URL that may be shown."""
    return _PASSWORD.sub(r"\1:***", url)


def reference() -> str:
    """docs/reference/settings.md."""
    lines = [
        "# Settings",
        "",
        "A setting is read from the environment (`POSTROOM_DATA`), else from `postroom.toml` in the working directory (`data`),",
        "else it has its default; the command line's own options win over all. An unknown or bad setting stops the start with a",
        "clear line. A duration is a number with `s`, `m`, `h` or `d` (`90s`, `48h`); a bare number is seconds.",
        "",
        "This page is made from `src/postroom/settings.py` by `make docs`.",
    ]
    for name, kind in KINDS.items():
        lines += ["", f"## POSTROOM_{name.upper()}", "", kind.doc, ""]
        lines += [f"- in `{FILE_NAME}`: `{name}`", f"- allowed: {kind.allowed}", f"- default: {kind.default}"]
    return "\n".join(lines) + "\n"


def _from_file(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"{path} cannot be read: {error}") from error
    values = {}
    for key, given in document.items():
        name = _known(key, f"{key} in {path}")
        if isinstance(given, bool) or not isinstance(given, str | int | float):
            raise Invalid(f"{name} in {path} is {given!r}; allowed: {KINDS[name].allowed}")
        values[name] = _value(name, str(given), f"{name} in {path}")
    if "data" in values:
        values["data"] = path.parent / values["data"]
    return values


def _known(name: str, where: str, prefix: str = "", spelled: Callable[[str], str] = str) -> str:
    if name in KINDS:
        return name
    near = difflib.get_close_matches(name, KINDS, n=1, cutoff=0.5)
    hint = f"did you mean {prefix}{spelled(near[0])}?" if near else "settings: " + ", ".join(prefix + spelled(k) for k in KINDS)
    raise Invalid(f"{where} is not a setting; {hint}")


def _value(name: str, text: str, where: str) -> Any:
    kind = KINDS[name]
    if not text.strip():
        raise Invalid(f"{where} is empty; remove it, or set it to: {kind.allowed}")
    try:
        return kind.parse(text)
    except ValueError as error:
        reason = f" ({error})" if isinstance(error, _Refused) else ""
        shown = "not usable" if name == "master_key" else f"{without_password(text)!r}"
        raise Invalid(f"{where} is {shown}{reason}; allowed: {kind.allowed}") from error


if __name__ == "__main__":
    import sys

    sys.stdout.write(reference())
