"""Request and response bodies of `/v1/callbacks`. Only the responses to creation and rotation contain the secret."""

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
        description=f"The callback's id; or `{CAMPAIGN_PREFIX}` and a campaign's id, for the deliveries to its `callback_url`.",
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
DeliveryStatusFilter = Annotated[DeliveryStatus | None, Query(description="Only deliveries with this status. Default: all.")]


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
        description="The URL that receives the requests: `https://`, on the public Internet. Without TLS or in a private "
        "network, only if the operator allows it.",
        examples=[_EXAMPLE_URL],
    ),
]
_Events = Annotated[list[EventType], Field(min_length=1, max_length=len(EventKind), examples=[["message.bounced"]])]
_Description = Annotated[str, Field(max_length=MAX_DESCRIPTION, pattern=LINE, description="A display name or description.")]
_BATCH: Final = f"Whether one request may have up to {MAX_BATCH} events, with the type `batch`."


class NewCallback(BaseModel):
    """A callback to create."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"url": _EXAMPLE_URL, "events": ["message.bounced", "message.complained"]}]},
    )

    url: _Url
    events: _Events | None = Field(None, description="The event types to send. Default: all but `message.queued`.")
    description: _Description = ""
    batch: Flag = Field(False, description=_BATCH)

    def settings(self) -> EndpointSettings:
        kinds = DEFAULT_EVENTS if self.events is None else frozenset(self.events)
        return EndpointSettings(url=self.url, kinds=kinds, description=self.description, batch=self.batch)


class CallbackEdit(BaseModel):
    """The members to change. Members that are not given, or null, stay unchanged."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"enabled": True}]})

    url: _Url | None = Field(None, description="The new URL, also for pending deliveries.")
    events: _Events | None = Field(None, description="The event types to send from now on.")
    description: _Description | None = Field(None, description="A display name or description.")
    batch: Flag | None = Field(None, description=_BATCH)
    enabled: Flag | None = Field(
        None,
        description="False: nothing is sent, and events in the meantime are lost. True: sending resumes, "
        "including deliveries that have been pending for less than a day.",
    )

    def edit(self) -> EndpointChanges:
        return EndpointChanges(
            url=self.url,
            kinds=None if self.events is None else frozenset(self.events),
            description=self.description,
            batch=self.batch,
            enabled=self.enabled,
        )


class CallbackBody(BaseModel):
    """A callback, without its secret."""

    id: str = Field(description="The callback's id.", examples=["aeqs6ksh3xegymb7"])
    url: str = Field(description="The URL that receives the requests.", examples=[_EXAMPLE_URL])
    events: list[EventType] = Field(description="The event types that are sent.", examples=[["message.bounced"]])
    description: str = Field(description="A display name or description.", examples=["the shop"])
    batch: bool = Field(description=_BATCH)
    enabled: bool = Field(description="Whether requests are sent.")
    disabled_reason: str = Field(description="Why it was disabled automatically; empty: it was not.", examples=[""])
    failing_since: str | None = Field(
        description="Since when all requests have failed; null: the last one succeeded, or there was none.", examples=[None]
    )
    created_at: str = Field(description="When it was created. Later events are sent.", examples=[_EXAMPLE_TIME])
    secret_changed_at: str | None = Field(description="When its secret was last rotated; null: never.", examples=[None])

    @classmethod
    def from_record(cls, endpoint: CallbackEndpoint) -> CallbackBody:
        return cls.model_validate(callback_record(endpoint))


class CreatedCallback(CallbackBody):
    """A callback with its secret."""

    secret: str = Field(
        description="The secret that signs its requests. Store it now: it is not shown again.",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )

    @classmethod
    def made(cls, endpoint: CallbackEndpoint, secret: bytes) -> CreatedCallback:
        return cls.model_validate({**callback_record(endpoint), "secret": secret_text(secret)})


class SecretBody(BaseModel):
    """A signing secret."""

    secret: str = Field(
        description="In the format of Standard Webhooks: `whsec_` and base64.",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )

    @classmethod
    def from_record(cls, secret: bytes) -> SecretBody:
        return cls(secret=secret_text(secret))


class DeliveryAttempt(BaseModel):
    """The last attempt of a delivery."""

    at: str = Field(description="When it was made.", examples=[_EXAMPLE_TIME])
    status: int | None = Field(description="The HTTP status of the response; null: there was none.", examples=[503])
    text: str = Field(description="The first 500 characters of the response, or why there was none.", examples=["busy"])
    took_ms: int = Field(description="Milliseconds until the response.", examples=[120])


class DeliveryBody(BaseModel):
    """A delivery: a request to a callback, sent or pending."""

    id: str = Field(
        description="The delivery's id, sent as `webhook-id` in every attempt.", examples=["23glqaefaa7m4r2k5xq3ndw6bzt2ye"]
    )
    status: DeliveryStatus = Field(description="The status: pending, delivered, or failed for good.")
    events: int = Field(description="The number of events in it; 0: a test.")
    created_at: str = Field(description="When it was created (RFC 3339, UTC).", examples=[_EXAMPLE_TIME])
    tries: int = Field(description="The number of attempts since it was last redelivered.")
    next_at: str | None = Field(description="When it is next attempted; null: no more attempts.", examples=[_EXAMPLE_TIME])
    last: DeliveryAttempt | None = Field(description="The last attempt; null: none yet.")

    @classmethod
    def from_record(cls, delivery: CallbackDelivery) -> DeliveryBody:
        return cls.model_validate(delivery_record(delivery))


class DeliveryDetail(DeliveryBody):
    """A delivery with its body."""

    body: str = Field(
        description="The JSON body, exactly as it is signed and sent.",
        examples=['{"type":"postroom.test","timestamp":"2026-12-01T08:00:00.000Z","data":{"callback_id":"aeqs6ksh3xegymb7"}}'],
    )

    @classmethod
    def all_of(cls, delivery: CallbackDelivery) -> DeliveryDetail:
        return cls.model_validate(whole_delivery(delivery))


class CallbackTest(BaseModel):
    """A test event that was queued."""

    delivery_id: str = Field(description="The delivery that shows the result.", examples=["23glqaefaa7m4r2k5xq3ndw6bzt2ye"])


class RedeliveryRequest(BaseModel):
    """Which failed deliveries to redeliver."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"since": "2026-12-01T08:00:00Z"}]})

    since: str | None = Field(
        None,
        max_length=40,
        pattern=_RFC_3339,
        description="Only deliveries created at this time or later (RFC 3339). Default: all that are stored.",
    )
    cursor: str | None = Field(
        None,
        max_length=2_000,
        description="The `cursor` of the previous response.",
        json_schema_extra={"format": "cursor"},
    )


class RedeliveryBody(BaseModel):
    """The result of a redelivery request."""

    count: int = Field(description="The number of deliveries queued by this request.", examples=[12])
    cursor: str | None = Field(description="Repeat the request with it for the rest; null: there are no more.", examples=[None])

    @classmethod
    def from_record(cls, ordered: RedeliveryResult) -> RedeliveryBody:
        return cls(count=ordered.ordered, cursor=ordered.cursor)
