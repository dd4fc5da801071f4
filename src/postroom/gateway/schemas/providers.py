"""Request and response bodies of `/v1/providers`. A password is accepted and never returned."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from postroom.clock import rfc3339
from postroom.gateway.schemas.scalars import DAY, NUMBER, WHOLE, Flag
from postroom.ledger.providers import ProviderSpec
from postroom.model.finding import Finding, Level
from postroom.model.provider import (
    DEFAULT_PROVIDER,
    MAX_FACTOR,
    MAX_PASSWORD,
    MAX_PER_DAY,
    MAX_URL,
    MIN_FACTOR,
    MIN_PER_DAY,
    PROVIDER_NAME,
    MessageStream,
    Provider,
    UsageLimits,
    WarmUp,
)
from postroom.services.providers import provider_url

_URL = r"^(smtps?|ses)://[!-~]+$"
_BOTH = [MessageStream.BULK, MessageStream.TRANSACTIONAL]
_RAMP: JsonDict = {"start_per_day": 200, "factor": 1.5, "from": "2026-12-01", "to_per_day": 50_000}
_EXAMPLE: JsonDict = {
    "url": "smtp://news@smtp.example.com:587?tls=starttls",
    "password": "correct horse battery staple",
    "per_second": 14,
    "per_day": 50_000,
    "connections": 8,
    "warm_up": _RAMP,
    "streams": ["bulk"],
}

ProviderName = Annotated[
    str,
    Path(
        pattern=PROVIDER_NAME, description=f"The provider's name; `{DEFAULT_PROVIDER}` is the installation's.", examples=["relay"]
    ),
]


class WarmUpSettings(BaseModel):
    """A warm-up: a daily quota that grows, for a provider without a sending reputation."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_RAMP]})

    start_per_day: Annotated[int, Field(ge=MIN_PER_DAY, le=MAX_PER_DAY), WHOLE] = Field(
        description="Recipients on the first UTC day."
    )
    factor: Annotated[float, Field(ge=MIN_FACTOR, le=MAX_FACTOR), NUMBER] = Field(
        description="The factor by which each day's quota grows."
    )
    first_day: Annotated[date, DAY] | None = Field(
        default=None,
        alias="from",
        description="The first day (UTC). Default: today; in an update, unchanged.",
        examples=["2026-12-01"],
    )
    to_per_day: Annotated[int, Field(ge=MIN_PER_DAY, le=MAX_PER_DAY), WHOLE] = Field(
        default=MAX_PER_DAY, description="The quota at which the warm-up ends. Not below `start_per_day`."
    )

    def ramp(self) -> WarmUp:
        since = "" if self.first_day is None else self.first_day.isoformat()
        return WarmUp(self.start_per_day, self.factor, since, self.to_per_day)


class WarmUpBody(BaseModel):
    """A warm-up in progress."""

    start_per_day: int = Field(description="Recipients on the first UTC day.")
    factor: float = Field(description="The factor by which each day's quota grows.")
    first_day: str = Field(serialization_alias="from", description="The first day, UTC.", examples=["2026-12-01"])
    to_per_day: int = Field(description="The quota at which the warm-up ends.")

    @classmethod
    def from_record(cls, ramp: WarmUp) -> WarmUpBody:
        return cls(start_per_day=ramp.start_per_day, factor=ramp.factor, first_day=ramp.since, to_per_day=ramp.to_per_day)


class ProviderSettings(BaseModel):
    """The settings of a provider: an SMTP relay or Amazon SES."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    url: str = Field(
        min_length=8,
        max_length=MAX_URL,
        pattern=_URL,
        description="`smtp://[user@]host[:port][?option=value]`, or `smtps://` for TLS from the first byte. User and password "
        "in it are percent-encoded. Of Amazon SES: `ses://key-id@region[?configuration_set=name]`, where the key's secret is the "
        "password.",
    )
    password: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_PASSWORD,
        description="The password of the URL's user, as it is. Stored encrypted and never shown. Left out of a change it stays, "
        "provided that the URL stays too.",
    )
    per_second: Annotated[float, Field(ge=0.1, le=1_000_000), NUMBER] | None = Field(
        default=None, description="Maximum recipients a second, over all campaigns. Default: no limit."
    )
    per_day: Annotated[int, Field(ge=1, le=1_000_000_000), WHOLE] | None = Field(
        default=None, description="Maximum recipients in a UTC day; null: no limit."
    )
    connections: Annotated[int, Field(ge=1, le=1_000), WHOLE] | None = Field(
        default=None, description="Maximum connections of one worker. Default: as in the URL, else 16, for SES 32."
    )
    warm_up: WarmUpSettings | None = Field(default=None, description="A warm-up, in addition to `per_day`. Default: none.")
    streams: list[MessageStream] = Field(
        default=_BOTH, min_length=1, max_length=2, description="The mail it carries: campaigns (`bulk`), transactional messages."
    )

    def change(self) -> ProviderSpec:
        """The settings for the service. Raises `Invalid` if URL and password contradict."""
        use = UsageLimits(self.per_second, self.per_day, self.connections, None if self.warm_up is None else self.warm_up.ramp())
        return ProviderSpec(provider_url(self.url, self.password), use, frozenset(self.streams))


class NewProvider(ProviderSettings):
    """A provider to create."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "relay", **_EXAMPLE}]})

    name: str = Field(
        pattern=PROVIDER_NAME,
        description=f"Lower-case letters, digits and `-`; not `{DEFAULT_PROVIDER}`. Cannot be changed later.",
    )
    shared: Flag = Field(default=False, description="Whether every tenant may use it. Operators only.")


class ProviderBody(BaseModel):
    """A provider, without its password."""

    name: str = Field(description="The name that campaigns refer to.", examples=["relay"])
    url: str | None = Field(
        description="The URL; null: a shared provider, whose URL only operators see.",
        examples=["smtp://news@smtp.example.com:587?tls=starttls"],
    )
    has_password: bool = Field(description="Whether it logs in with a password.")
    per_second: float | None = Field(description="Maximum recipients a second; null: no limit.")
    per_day: int | None = Field(description="Maximum recipients in a UTC day; null: no limit.")
    connections: int | None = Field(description="Maximum connections of one worker; null: as in the URL.")
    warm_up: WarmUpBody | None = Field(description="The warm-up; null: none.")
    today: int | None = Field(description="Today's quota (UTC) from `per_day` and `warm_up`; null: no limit.")
    streams: list[MessageStream] = Field(description="The mail it carries.")
    shared: bool = Field(description="Whether every tenant may use it.")
    created_at: str | None = Field(
        description="When it was created; null: the default provider, which is a setting.", examples=["2026-09-21T14:13:20.000Z"]
    )

    @classmethod
    def from_record(cls, provider: Provider, *, operator: bool) -> ProviderBody:
        """As the caller may see it."""
        use = provider.use
        return cls(
            name=provider.name,
            url=provider.url if operator or not provider.shared else None,
            has_password=provider.has_password,
            per_second=use.per_second,
            per_day=use.per_day,
            connections=use.connections,
            warm_up=None if use.warm_up is None else WarmUpBody.from_record(use.warm_up),
            today=provider.today,
            streams=sorted(provider.streams),
            shared=provider.shared,
            created_at=rfc3339(provider.created_at),
        )


class ProviderCheck(BaseModel):
    """One check of a provider test."""

    subject: str = Field(description="What was checked.", examples=["TLS"])
    level: Level = Field(description="`ok`, `skipped` (could not be checked), `warn` (works, but should be fixed) or `fail`.")
    text: str = Field(description="What was found.", examples=["TLSv1.3"])
    todo: str = Field(description="How to fix it; may be empty.")

    @classmethod
    def from_record(cls, finding: Finding) -> ProviderCheck:
        return cls(subject=finding.subject, level=finding.level, text=finding.text, todo=finding.todo)


class ProviderTestResult(BaseModel):
    """The result of a provider test."""

    works: bool = Field(description="Whether no check failed.")
    findings: list[ProviderCheck] = Field(description="The checks, in their order.")
