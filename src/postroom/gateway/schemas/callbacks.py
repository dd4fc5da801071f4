"""Callbacks on the wire. A secret is in two answers only: that to its making and that to its rotation."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Path, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from postroom.errors import Invalid
from postroom.gateway.schemas.access import LINE
from postroom.gateway.schemas.scalars import Flag
from postroom.ledger.callback_deliveries import RedeliveryResult
from postroom.ledger.callback_endpoints import CAMPAIGN_PREFIX, EndpointSettings
from postroom.model.callback import (
    MAX_BATCH,
    MAX_DESCRIPTION,
    MAX_URL,
    CallbackDelivery,
    CallbackEndpoint,
    DeliveryStatus,
    event_type,
    parse_event_type,
    secret_text,
)
from postroom.model.event import EventKind
from postroom.model.ids import CAMPAIGN_ID_LENGTH
from postroom.services.callbacks import DEFAULT_EVENTS, EndpointChanges, callback_record, delivery_record, whole_delivery

_ID = f"[2-7a-z]{{{CAMPAIGN_ID_LENGTH}}}"
_URL = r"^https?://[!-~]+$"
_RFC_3339 = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$"
_EXAMPLE_URL: Final = "https://example.com/hooks/postroom"
_EXAMPLE_TIME: Final = "2026-12-01T08:00:00.000Z"

CallbackId = Annotated[str, Path(pattern=f"^{_ID}$", description="The callback's id.", examples=["aeqs6ksh3xegymb7"])]
DeliveryTargetId = Annotated[
    str,
    Path(
        pattern=f"^({CAMPAIGN_PREFIX})?{_ID}$",
        description=f"The callback's id; or `{CAMPAIGN_PREFIX}` and a campaign's id, for what its own `callback_url` is told.",
        examples=["aeqs6ksh3xegymb7"],
    ),
]
DeliveryId = Annotated[
    str,
    Path(
        pattern=r"^[2-7a-z]{30}$",
        description="The delivery's id: its `webhook-id`.",
        examples=["23glqaefaa7m4r2k5xq3ndw6bzt2ye"],
    ),
]
DeliveryStatusFilter = Annotated[DeliveryStatus | None, Query(description="Only those that stand so; without it: all.")]


def _kind(value: object) -> object:
    if isinstance(value, str) and not isinstance(value, EventKind):
        try:
            return parse_event_type(value)
        except Invalid as error:
            raise ValueError(str(error)) from error
    return value


EventType = Annotated[
    EventKind,
    BeforeValidator(_kind),
    PlainSerializer(event_type, return_type=str),
    WithJsonSchema({"type": "string", "enum": [event_type(kind) for kind in EventKind]}),
]
_Url = Annotated[
    str,
    Field(
        min_length=9,
        max_length=MAX_URL,
        pattern=_URL,
        description="Where requests go: `https://`, on the public Internet; without TLS and in private networks only where the "
        "operator allows it.",
        examples=[_EXAMPLE_URL],
    ),
]
_Events = Annotated[list[EventType], Field(min_length=1, max_length=len(EventKind), examples=[["message.bounced"]])]
_Description = Annotated[str, Field(max_length=MAX_DESCRIPTION, pattern=LINE, description="For people.")]
_BATCH: Final = f"Whether up to {MAX_BATCH} events come in one request, of type `batch`."


class NewCallback(BaseModel):
    """Where to be told, and of what."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"url": _EXAMPLE_URL, "events": ["message.bounced", "message.complained"]}]},
    )

    url: _Url
    events: _Events | None = Field(None, description="Of what; null: of everything but `message.queued`.")
    description: _Description = ""
    batch: Flag = Field(False, description=_BATCH)

    def wishes(self) -> EndpointSettings:
        """For the service."""
        kinds = DEFAULT_EVENTS if self.events is None else frozenset(self.events)
        return EndpointSettings(url=self.url, kinds=kinds, description=self.description, batch=self.batch)


class CallbackEdit(BaseModel):
    """What is to be different; what is not named, or null, stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"enabled": True}]})

    url: _Url | None = Field(None, description="Where requests go from now on, also those that wait.")
    events: _Events | None = Field(None, description="All that is to be told from now on.")
    description: _Description | None = Field(None, description="For people.")
    batch: Flag | None = Field(None, description=_BATCH)
    enabled: Flag | None = Field(
        None,
        description="False: nothing is told, and what happens meanwhile never will be. True: again, also what waits since less "
        "than a day.",
    )

    def edit(self) -> EndpointChanges:
        """For the service."""
        return EndpointChanges(
            url=self.url,
            kinds=None if self.events is None else frozenset(self.events),
            description=self.description,
            batch=self.batch,
            enabled=self.enabled,
        )


class CallbackBody(BaseModel):
    """A callback: everything but its secret."""

    id: str = Field(description="Made by the installation.", examples=["aeqs6ksh3xegymb7"])
    url: str = Field(description="Where requests go.", examples=[_EXAMPLE_URL])
    events: list[EventType] = Field(description="Of what it is told.", examples=[["message.bounced"]])
    description: str = Field(description="For people.", examples=["the shop"])
    batch: bool = Field(description=_BATCH)
    enabled: bool = Field(description="Whether it is told anything.")
    disabled_reason: str = Field(description="Why it was switched off, where nobody asked for that; else empty.", examples=[""])
    failing_since: str | None = Field(
        description="Since when no request was answered well; null: the last one was, or there was none.", examples=[None]
    )
    created_at: str = Field(description="It is told of what happens from here on.", examples=[_EXAMPLE_TIME])
    secret_changed_at: str | None = Field(description="When its secret was last rotated; null: never.", examples=[None])

    @classmethod
    def of(cls, endpoint: CallbackEndpoint) -> CallbackBody:
        """As the record has it."""
        return cls.model_validate(callback_record(endpoint))


class CreatedCallback(CallbackBody):
    """A callback and its secret."""

    secret: str = Field(
        description="What its requests are signed with: keep it now, it is not shown again.",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )

    @classmethod
    def made(cls, endpoint: CallbackEndpoint, secret: bytes) -> CreatedCallback:
        """Right after it was made."""
        return cls.model_validate({**callback_record(endpoint), "secret": secret_text(secret)})


class SecretBody(BaseModel):
    """What requests are signed with."""

    secret: str = Field(
        description="As Standard Webhooks writes it: `whsec_` and base64.", examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
    )

    @classmethod
    def of(cls, secret: bytes) -> SecretBody:
        """As it is."""
        return cls(secret=secret_text(secret))


class DeliveryAttempt(BaseModel):
    """What came of the last try."""

    at: str = Field(description="When.", examples=[_EXAMPLE_TIME])
    status: int | None = Field(description="Of the answer; null: there was none.", examples=[503])
    text: str = Field(description="What was answered, the first 500 characters; or why there was no answer.", examples=["busy"])
    took_ms: int = Field(description="Until the answer.", examples=[120])


class DeliveryBody(BaseModel):
    """A request, made or to be made."""

    id: str = Field(description="Its `webhook-id`, the same in every try.", examples=["23glqaefaa7m4r2k5xq3ndw6bzt2ye"])
    status: DeliveryStatus = Field(description="Where it stands: waiting for a try, answered well, or given up.")
    events: int = Field(description="How many it tells; 0: a test.")
    created_at: str = Field(description="When it was made.", examples=[_EXAMPLE_TIME])
    tries: int = Field(description="How often it was tried, since it was last ordered again.")
    next_at: str | None = Field(description="When it is tried next; null: it is over.", examples=[_EXAMPLE_TIME])
    last: DeliveryAttempt | None = Field(description="What came of the last try; null: it was not tried yet.")

    @classmethod
    def of(cls, delivery: CallbackDelivery) -> DeliveryBody:
        """As it stands."""
        return cls.model_validate(delivery_record(delivery))


class DeliveryDetail(DeliveryBody):
    """A request with all that it says."""

    body: str = Field(
        description="JSON, to the letter as it is signed and sent.",
        examples=['{"type":"postroom.test","timestamp":"2026-12-01T08:00:00.000Z","data":{"callback_id":"aeqs6ksh3xegymb7"}}'],
    )

    @classmethod
    def all_of(cls, delivery: CallbackDelivery) -> DeliveryDetail:
        """As it stands."""
        return cls.model_validate(whole_delivery(delivery))


class CallbackTest(BaseModel):
    """A test under way."""

    delivery_id: str = Field(description="Shows what comes of it.", examples=["23glqaefaa7m4r2k5xq3ndw6bzt2ye"])


class RedeliveryRequest(BaseModel):
    """Which of those that were given up are to be told again."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"since": "2026-12-01T08:00:00Z"}]})

    since: str | None = Field(
        None, max_length=40, pattern=_RFC_3339, description="Only those made then or later, RFC 3339; null: all that are kept."
    )
    cursor: str | None = Field(
        None,
        max_length=2_000,
        description="Where to go on: the `cursor` of the answer before.",
        json_schema_extra={"format": "cursor"},
    )


class RedeliveryBody(BaseModel):
    """How many are told again."""

    count: int = Field(description="Ordered by this call.", examples=[12])
    cursor: str | None = Field(description="There may be more: call again with it; null: that was all.", examples=[None])

    @classmethod
    def of(cls, ordered: RedeliveryResult) -> RedeliveryBody:
        """What was ordered."""
        return cls(count=ordered.ordered, cursor=ordered.cursor)
