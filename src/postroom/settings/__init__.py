"""The installation's settings: frozen, typed, and checked before anything starts.

`POSTROOM_<NAME>` in the environment wins over `<name>` in `postroom.toml`; a command-line option wins over both. An unknown
setting or a bad value stops the start with one clear line: a typing error must not send mail through the wrong relay. Each
setting is explained once, in `catalogue.py`: docs/reference/settings.md is made from it (`make docs`).
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from postroom.errors import Invalid
from postroom.settings.catalogue import SETTINGS
from postroom.settings.parsing import Platform, Refused

__all__ = ["FILE_NAME", "SETTINGS", "AwsEnvironment", "Platform", "Settings", "without_password"]
PREFIX = "POSTROOM_"
FILE_NAME = "postroom.toml"
_PASSWORD = re.compile(r"(?<=//)([^:/@]*):.*(?=@)")

AWS_VARIABLES = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_SESV2",
        "AWS_ENDPOINT_URL_SNS",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
    }
)

_WORKERS_DEFAULT_MAX = 4


def _default_workers() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_WORKERS_DEFAULT_MAX, available))


@dataclass(frozen=True, slots=True)
class AwsEnvironment:
    """The variables of AWS's own tools (credentials, profile, endpoints) that are handed to its clients; not settings of ours."""

    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False, repr=False)
    """The `AWS_VARIABLES` that are set; some are secret."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Those of `environ`."""
        return cls(MappingProxyType({name: environ[name] for name in sorted(AWS_VARIABLES & environ.keys())}))


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings by name; `SETTINGS` explains each. Durations are in seconds."""

    data: Path = Path("postroom-data")
    platform: Platform = Platform.EMBEDDED
    aws_table: str | None = None
    aws_bucket: str | None = None
    aws_queues: str | None = None
    aws_key: str | None = None
    aws_machines: str | None = None
    aws_schedules: str | None = None
    aws_schedule_role: str | None = None
    aws_user_pool: str | None = None
    aws_usage_key: str | None = None
    aws_search: str | None = None
    aws_pagerduty: str | None = None
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
    jwks_url: str | None = None
    audience: tuple[str, ...] = ()
    master_key: str | None = field(default=None, repr=False)
    master_key_file: Path | None = None
    upload_days: int = 30
    retention_days: int | None = None
    aws: AwsEnvironment = field(default_factory=AwsEnvironment, compare=False)
    """AWS's own variables: neither settings nor shown."""
    callback_networks: tuple[str, ...] = ()
    soft_bounces: int = 5
    """0 means off."""
    soft_bounce_window: float = 30 * 86_400.0
    soft_bounce_hold: float = 14 * 86_400.0
    bounce_warn: float = 5.0
    """Percent, as the next three; 0 means off."""
    bounce_pause: float = 10.0
    complaint_warn: float = 0.1
    complaint_pause: float = 0.5
    guard_sample: int = 200
    guard_window: float = 3_600.0
    log_format: str = "auto"
    log_level: str = "info"

    @classmethod
    def load(cls, environ: Mapping[str, str], toml_path: Path | None, overrides: Mapping[str, object]) -> Self:
        """Read, check and freeze. `overrides` come from the command line, by field name; None means not given.

        Raises `Invalid` that names the setting, its place and what is allowed; also for a `toml_path` that cannot be read.
        """
        values: dict[str, Any] = {} if toml_path is None else _from_file(toml_path)
        for variable, text in environ.items():
            if variable.startswith(PREFIX):
                name = _known(variable.removeprefix(PREFIX).lower(), variable, PREFIX, str.upper)
                values[name] = _read(name, text, variable)
        for name, given in overrides.items():
            if given is not None:
                values[name] = _read(name, str(given), "--" + _known(name, name).replace("_", "-"))
        return cls(**values, aws=AwsEnvironment.from_environ(environ))

    def environ(self, **replaced: str) -> dict[str, str]:
        """The environment for a child process: this process's, with every setting as it is here or in `replaced`."""
        values = {name: getattr(self, name) for name in SETTINGS} | replaced
        ours = {PREFIX + name.upper(): _text(value) for name, value in values.items() if value not in (None, ())}
        return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)} | ours

    def shown(self) -> dict[str, str]:
        """Every setting as text, by variable, with passwords and keys masked: for `doctor` and logs."""
        shown = {PREFIX + name.upper(): without_password(_text(getattr(self, name))) for name in SETTINGS}
        return shown | ({} if self.master_key is None else {PREFIX + "MASTER_KEY": "***"})

    @property
    def api_base_url(self) -> str:
        """The base URL of the HTTP API, without a final slash."""
        scheme = "https" if self.tls_certificate else "http"
        return self.api_url or f"{scheme}://{self.listen}"


def _text(value: object) -> str:
    """A value as an environment variable holds it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _from_file(path: Path) -> dict[str, Any]:
    """The settings of a TOML file, by name. Raises `Invalid` also when the file cannot be read."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"{path} cannot be read: {error}") from error
    values = {}
    for key, given in document.items():
        name = _known(key, f"{key} in {path}")
        if isinstance(given, bool) or not isinstance(given, str | int | float):
            raise Invalid(f"{name} in {path} is {given!r}; allowed: {SETTINGS[name].allowed}")
        values[name] = _read(name, str(given), f"{name} in {path}")
    if "data" in values:
        values["data"] = path.parent / values["data"]
    return values


def _known(name: str, where: str, prefix: str = "", spelled: Callable[[str], str] = str) -> str:
    """`name`, if it is a setting; otherwise raises `Invalid` that offers the nearest name, spelled as at the same place."""
    if name in SETTINGS:
        return name
    near = difflib.get_close_matches(name, SETTINGS, n=1, cutoff=0.5)
    hint = (
        f"did you mean {prefix}{spelled(near[0])}?" if near else "settings: " + ", ".join(prefix + spelled(k) for k in SETTINGS)
    )
    raise Invalid(f"{where} is not a setting; {hint}")


def _read(name: str, text: str, where: str) -> Any:
    """Parse the text of a setting. Raises `Invalid` that names the place and what is allowed; it never shows a password."""
    setting = SETTINGS[name]
    if not text.strip():
        raise Invalid(f"{where} is empty; remove it, or set it to: {setting.allowed}")
    try:
        return setting.parse(text)
    except ValueError as error:
        reason = f" ({error})" if isinstance(error, Refused) else ""
        shown = "not usable" if name == "master_key" else f"{without_password(text)!r}"
        raise Invalid(f"{where} is {shown}{reason}; allowed: {setting.allowed}") from error


def without_password(url: str) -> str:
    """A provider URL with its password masked."""
    return _PASSWORD.sub(r"\1:***", url)
