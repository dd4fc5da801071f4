"""The installation's settings: the only reader of the environment. Frozen, typed, checked before anything starts.

`POSTROOM_<NAME>` in the environment wins over `<name>` in `postroom.toml`; what the command line says wins over both. A
setting that is unknown, or whose value cannot be used, stops the start with one clear line: a typing error that goes
unnoticed is mail that leaves through the wrong relay. Each is explained once, in `kinds.py`: docs/reference/settings.md is
made from it (`make docs`), and a test compares the two.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from postroom.settings.aws import AwsEnvironment
from postroom.settings.kinds import KINDS
from postroom.settings.parsing import Platform
from postroom.settings.reading import FILE_NAME, PREFIX, from_file, known, read, without_password

__all__ = ["FILE_NAME", "KINDS", "AwsEnvironment", "Platform", "Settings", "without_password"]

_WORKERS_DEFAULT_MAX = 4


def _default_workers() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_WORKERS_DEFAULT_MAX, available))


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set; `KINDS` says what each means. Durations are seconds."""

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
        values: dict[str, Any] = {} if toml_path is None else from_file(toml_path)
        for variable, text in environ.items():
            if variable.startswith(PREFIX):
                name = known(variable.removeprefix(PREFIX).lower(), variable, PREFIX, str.upper)
                values[name] = read(name, text, variable)
        for name, given in overrides.items():
            if given is not None:
                values[name] = read(name, str(given), "--" + known(name, name).replace("_", "-"))
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
