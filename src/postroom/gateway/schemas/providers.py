"""Providers on the wire. A password comes in and never goes out, nor does anything of it."""

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
    """A daily ramp for a provider that receiving servers do not know yet."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_RAMP]})

    start_per_day: Annotated[int, Field(ge=MIN_PER_DAY, le=MAX_PER_DAY), WHOLE] = Field(
        description="Recipients on the first UTC day."
    )
    factor: Annotated[float, Field(ge=MIN_FACTOR, le=MAX_FACTOR), NUMBER] = Field(
        description="By how much each day has more than the one before."
    )
    first_day: Annotated[date, DAY] | None = Field(
        default=None,
        alias="from",
        description="The first day, UTC; null: today or, in a change, where the ramp stands.",
        examples=["2026-12-01"],
    )
    to_per_day: Annotated[int, Field(ge=MIN_PER_DAY, le=MAX_PER_DAY), WHOLE] = Field(
        default=MAX_PER_DAY, description="Where the ramp ends, and the provider's own limits hold. Not below `start_per_day`."
    )

    def ramp(self) -> WarmUp:
        """For the ledger."""
        since = "" if self.first_day is None else self.first_day.isoformat()
        return WarmUp(self.start_per_day, self.factor, since, self.to_per_day)


class WarmUpBody(BaseModel):
    """A daily ramp."""

    start_per_day: int = Field(description="Recipients on the first UTC day.")
    factor: float = Field(description="By how much each day has more than the one before.")
    first_day: str = Field(serialization_alias="from", description="The first day, UTC.", examples=["2026-12-01"])
    to_per_day: int = Field(description="Where it ends, and the provider's own limits hold.")

    @classmethod
    def of(cls, ramp: WarmUp) -> WarmUpBody:
        """As it stands."""
        return cls(start_per_day=ramp.start_per_day, factor=ramp.factor, first_day=ramp.since, to_per_day=ramp.to_per_day)


class ProviderSettings(BaseModel):
    """How mail leaves."""

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
        default=None, description="Recipients a second, at most, over all campaigns; null: no limit."
    )
    per_day: Annotated[int, Field(ge=1, le=1_000_000_000), WHOLE] | None = Field(
        default=None, description="Recipients in any UTC day, at most; null: no limit."
    )
    connections: Annotated[int, Field(ge=1, le=1_000), WHOLE] | None = Field(
        default=None, description="At the same time, at most, in one worker; null: what the URL says, else 16, of SES 32."
    )
    warm_up: WarmUpSettings | None = Field(default=None, description="A daily ramp, beside `per_day`; null: none.")
    streams: list[MessageStream] = Field(
        default=_BOTH, min_length=1, max_length=2, description="Which mail it carries: campaigns (`bulk`), single messages."
    )

    def change(self) -> ProviderSpec:
        """For the service. `Invalid`: URL and password do not go together."""
        use = UsageLimits(self.per_second, self.per_day, self.connections, None if self.warm_up is None else self.warm_up.ramp())
        return ProviderSpec(provider_url(self.url, self.password), use, frozenset(self.streams))


class NewProvider(ProviderSettings):
    """A provider to make."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "relay", **_EXAMPLE}]})

    name: str = Field(
        pattern=PROVIDER_NAME, description=f"Lower-case letters, digits and `-`; not `{DEFAULT_PROVIDER}`. It stays for ever."
    )
    shared: Flag = Field(default=False, description="Whether every tenant may use it. Operators only.")


class ProviderBody(BaseModel):
    """A provider: everything but its password."""

    name: str = Field(description="What campaigns call it.", examples=["relay"])
    url: str | None = Field(
        description="Where it leads; null: it is the installation's, which shows that to operators only.",
        examples=["smtp://news@smtp.example.com:587?tls=starttls"],
    )
    has_password: bool = Field(description="Whether it logs in with a password.")
    per_second: float | None = Field(description="Recipients a second, at most; null: no limit.")
    per_day: int | None = Field(description="Recipients in any UTC day, at most; null: no limit.")
    connections: int | None = Field(description="At the same time, at most, in one worker; null: what the URL says.")
    warm_up: WarmUpBody | None = Field(description="Its daily ramp; null: none.")
    today: int | None = Field(description="Recipients on this UTC day, at most, by `per_day` and `warm_up`; null: no limit.")
    streams: list[MessageStream] = Field(description="Which mail it carries.")
    shared: bool = Field(description="Whether it is the installation's and every tenant may use it.")
    created_at: str | None = Field(
        description="When it was made; null: the default, which is a setting.", examples=["2026-09-21T14:13:20.000Z"]
    )

    @classmethod
    def of(cls, provider: Provider, *, operator: bool) -> ProviderBody:
        """As the caller may see it."""
        use = provider.use
        return cls(
            name=provider.name,
            url=provider.url if operator or not provider.shared else None,
            has_password=provider.has_password,
            per_second=use.per_second,
            per_day=use.per_day,
            connections=use.connections,
            warm_up=None if use.warm_up is None else WarmUpBody.of(use.warm_up),
            today=provider.today,
            streams=sorted(provider.streams),
            shared=provider.shared,
            created_at=rfc3339(provider.created_at),
        )


class ProviderCheck(BaseModel):
    """One thing that was looked at."""

    subject: str = Field(description="What.", examples=["TLS"])
    level: Level = Field(
        description="How it is: `ok`, `skipped` (could not be looked at), `warn` (works, and will hurt), `fail`."
    )
    text: str = Field(description="What was found.", examples=["TLSv1.3"])
    todo: str = Field(description="What to do about it; may be empty.")

    @classmethod
    def of(cls, finding: Finding) -> ProviderCheck:
        """As it was found."""
        return cls(subject=finding.subject, level=finding.level, text=finding.text, todo=finding.todo)


class ProviderTestResult(BaseModel):
    """What came of a test."""

    works: bool = Field(description="Whether nothing failed.")
    findings: list[ProviderCheck] = Field(description="In the order in which they were looked at.")
