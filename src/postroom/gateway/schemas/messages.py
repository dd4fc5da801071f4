"""Request and response bodies of `/v1/messages`, and events of a message."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, TypeAdapter, WrapValidator, model_validator
from pydantic.config import JsonDict

from postroom.gateway.schemas.scalars import WHOLE
from postroom.model.event import BounceClass, BounceType, Event, EventKind
from postroom.model.tokens import MESSAGE_ID_LENGTH, MESSAGE_ID_PATTERN
from postroom.model.upload import ID_PATTERN
from postroom.services.message_acceptance import MAX_ATTACHMENTS, MAX_REQUESTS, MAX_VARIABLES, VARIABLE_PATTERN
from postroom.services.messages import event_record


class BounceBody(BaseModel):
    """The content of a bounce."""

    type: BounceType = Field(description="How lasting it is.")
    class_: BounceClass = Field(alias="class", description="Why, as far as the report tells.")
    code: str = Field(description="The enhanced status code (RFC 3463), or the SMTP reply code; empty where there is none.")


class EventBody(BaseModel):
    """An event of one attempt to deliver a message."""

    id: str = Field(description="The event's id, unique within the message.")
    kind: EventKind = Field(description="What happened.")
    at: str = Field(description="When it happened, by the reporter's clock if it has one (RFC 3339, UTC).")
    attempt: int = Field(ge=0, description="The attempt, from 1; 0: none or unknown.")
    source: str = Field(description="The source of the report.", examples=["dsn"])
    bounce: BounceBody | None = Field(description="For a bounce: its type and category.")
    machine: bool = Field(
        description="For an open or a click: by an image proxy, link scanner or prefetch; not counted as a person's."
    )
    detail: str = Field(description="The last reply, the type of complaint, or the user agent.")
    url: str | None = Field(description="For a click: the URL.")
    raw: str | None = Field(description="The original report, cut to 4,000 characters; null: none.")

    @classmethod
    def from_record(cls, event: Event) -> Self:
        return cls.model_validate(event_record(event))

    @classmethod
    def all(cls, events: Sequence[Event]) -> list[Self]:
        return [cls.from_record(event) for event in events]


_NO_NUL = r"^[^\x00]*$"
_MAX_ADDRESS = 2_000
_MAX_BODY = 1_000_000
_MAX_INTEGER = 10**30
_TEMPLATE_ID = r"^[A-Za-z0-9_-]{1,64}$"
_CONTENT_ID = r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.@-]{1,120}$"
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

_EXAMPLE: JsonDict = {
    "to": "Anna Müller <anna@example.org>",
    "from": "Shop <orders@shop.example>",
    "subject": "Your order {{ number }}",
    "html": "<p>Hello {{ name }}, thank you for order {{ number }}.</p>",
    "variables": {"number": 4711, "name": "Anna"},
}

_FROM_TEMPLATE: JsonDict = {
    "required": ["template_id"],
    "properties": {"template_id": {"type": "string"}, "html": {"type": "null"}, "text": {"type": "null"}},
}
_FROM_HTML: JsonDict = {
    "required": ["html", "subject"],
    "properties": {"html": {"type": "string"}, "subject": {"type": "string"}, "template_id": {"type": "null"}},
}
Address = Annotated[str, Field(min_length=1, max_length=_MAX_ADDRESS, pattern=_NO_NUL)]
MessageId = Annotated[str, Field(min_length=MESSAGE_ID_LENGTH, max_length=MESSAGE_ID_LENGTH, pattern=MESSAGE_ID_PATTERN)]
Version = Annotated[int, Field(ge=1, le=2**31 - 1), WHOLE] | None
SingleMessageStatus = Literal["pending", "deferred", "sent", "delivered", "bounced", "complained", "failed", "unknown", "skipped"]


def _scalar(value: object) -> object:
    if isinstance(value, list | dict):
        raise ValueError("text, a number, true, false or null; give the parts of a list or an object names of their own")  # noqa: TRY004 - pydantic's
    return value


def _full_date(value: object) -> object:
    """An RFC 3339 date. Pydantic alone would also accept a number of seconds."""
    if isinstance(value, str) and not _DATE.fullmatch(value):
        raise ValueError("a day, such as 2026-11-24")
    return value


Day = Annotated[date, BeforeValidator(_full_date)]

Scalar = Annotated[
    Annotated[str, Field(max_length=32_768, pattern=_NO_NUL)]
    | Annotated[int, Field(ge=-_MAX_INTEGER, le=_MAX_INTEGER)]
    | Annotated[float, Field(allow_inf_nan=False)]
    | bool
    | None,
    BeforeValidator(_scalar),
]

Variables = Annotated[
    dict[Annotated[str, Field(pattern=VARIABLE_PATTERN, max_length=100)], Scalar],
    Field(
        max_length=MAX_VARIABLES,
        description="Values for the template's variables: text, numbers, true (the word `true`), false and null (as if "
        "absent). Other variables are not stored.",
    ),
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewAttachment(_Request):
    """An attachment: an upload of kind `asset` that is ready."""

    upload_id: str = Field(pattern=ID_PATTERN, max_length=16, description="The upload.")
    filename: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        pattern=_NO_NUL,
        description="The name that the recipient sees. Default: the upload's.",
    )
    content_id: str | None = Field(
        default=None,
        max_length=120,
        pattern=_CONTENT_ID,
        description="Makes it an inline image that the HTML shows as `cid:<content_id>`.",
    )


class NewTracking(_Request):
    """Tracking of a transactional message. Off by default."""

    opens: StrictBool = Field(default=False, description="Track opens with a pixel.")
    clicks: StrictBool = Field(default=False, description="Track clicks by rewriting links.")


class NewMessage(_Request):
    """One message: from a template (`template_id`), or from `html` and `subject`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE], "anyOf": [_FROM_TEMPLATE, _FROM_HTML]})

    to: Address = Field(description="The recipient: an address, or `Name <address>`.")
    from_: Address = Field(alias="from", description="The sender: an address, or `Name <address>`, that the tenant may send as.")
    reply_to: Address | None = Field(default=None, description="The Reply-To address. Default: the sender.")
    template_id: str | None = Field(default=None, pattern=_TEMPLATE_ID, max_length=64, description="A template of the tenant.")
    template_version: Version = Field(default=None, description="The template version. Default: the newest.")
    subject: str | None = Field(
        default=None,
        min_length=1,
        max_length=1_000,
        pattern=_NO_NUL,
        description="Replaces the template's subject; may use variables.",
    )
    html: str | None = Field(default=None, min_length=1, max_length=_MAX_BODY, pattern=_NO_NUL, description="The body.")
    text: str | None = Field(
        default=None, max_length=_MAX_BODY, pattern=_NO_NUL, description="The body as plain text; null: made from the HTML."
    )
    variables: Variables = Field(default_factory=dict)
    attachments: list[NewAttachment] = Field(
        default_factory=list, max_length=MAX_ATTACHMENTS, description="Up to 10,000,000 bytes together."
    )
    tracking: NewTracking = Field(default_factory=NewTracking, description="What is tracked.")
    unsubscribe: StrictBool = Field(default=False, description="Add `List-Unsubscribe` headers and an unsubscribe link.")
    topic: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        pattern=_NO_NUL,
        description="The topic that recipients unsubscribe from; implies `unsubscribe`.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.template_id is None) == (self.html is None):
            raise ValueError("a message is made from template_id, or from html and subject: one of the two")
        if self.html is not None and self.subject is None:
            raise ValueError("subject: a message that is made from html has one")
        if self.template_id is not None and self.text is not None:
            raise ValueError("text: the template has its own")
        return self


NewMessages = Annotated[
    list[NewMessage],
    Field(min_length=1, max_length=MAX_REQUESTS, description="Several messages; each is accepted or refused independently."),
]
_ONE: TypeAdapter[NewMessage] = TypeAdapter(NewMessage)
_MANY: TypeAdapter[list[NewMessage]] = TypeAdapter(NewMessages)


def _one_or_many(value: object, _handler: object) -> NewMessage | list[NewMessage]:
    """Validate by the JSON type, so that errors have their place in the body."""
    return _MANY.validate_python(value) if isinstance(value, list) else _ONE.validate_python(value)


OneOrMany = Annotated[NewMessage | NewMessages, WrapValidator(_one_or_many)]


class MessageProblem(BaseModel):
    """Why a message was refused (RFC 9457)."""

    type: str = Field(description="The problem type: a path that explains it.")
    title: str = Field(description="The problem type in words.")
    status: int = Field(ge=400, le=599, description="The HTTP status that a request with only this message would get.")
    detail: str = Field(description="What is wrong and how to fix it.")


class MessageResult(BaseModel):
    """The result for one message of the request."""

    id: str | None = Field(default=None, description="The message's id; null: it was not accepted.")
    status: Literal["accepted", "refused", "suppressed"] = Field(
        description="`accepted`: stored and queued. `suppressed`: the recipient is on the suppression list."
    )
    problem: MessageProblem | None = Field(default=None, description="Why it was not accepted.")


class MessageResults(BaseModel):
    """The results for the messages of the request, in their order."""

    results: list[MessageResult] = Field(description="One result for each message.")


class MessageSummary(BaseModel):
    """A transactional message."""

    id: str = Field(description="Its id.")
    status: SingleMessageStatus = Field(description="The status.")
    to: str = Field(description="The recipient's address.")
    name: str | None = Field(description="The recipient's name.")
    accepted_at: str = Field(description="When it was accepted (RFC 3339, UTC).")
    updated_at: str | None = Field(description="When the status last changed; null: not attempted yet.")
    attempts: int = Field(ge=0, description="The number of attempts to hand it to the provider.")
    next_attempt_at: str | None = Field(description="When it is next attempted or decided; null: it is final.")
    code: int = Field(description="The code of the last reply; 0: none.")
    reply: str = Field(description="The last reply, or the reason.")
    provider_id: str | None = Field(description="The provider's message id.")
    opened_at: str | None = Field(description="When the recipient first opened it.")
    clicked_at: str | None = Field(description="When the recipient first clicked a link in it.")
    unsubscribed_at: str | None = Field(description="When the recipient unsubscribed; null if not, or if they subscribed again.")


class MessageDetail(MessageSummary):
    """A transactional message with its content and events."""

    from_: str | None = Field(alias="from", description="The sender; null: the content is no longer stored.")
    reply_to: str | None = Field(description="The Reply-To address.")
    subject: str | None = Field(description="The subject with its variables not filled in.")
    template_id: str | None = Field(description="The template's id.")
    template_version: int | None = Field(description="The template's version.")
    events: list[EventBody] = Field(description="The events, oldest first.")


class TestMessage(_Request):
    """A test message of a template."""

    __test__ = False  # pytest must not collect it
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"to": ["me@shop.example"], "variables": {"name": "Anna", "number": 4711}}]},
    )

    to: list[Address] = Field(min_length=1, max_length=10, description="The recipients: addresses, or `Name <address>`.")
    variables: Variables = Field(default_factory=dict)
    from_: Address | None = Field(default=None, alias="from", description="The sender. Default: the tenant's default sender.")
    version: Version = Field(default=None, description="The template version. Default: the newest.")
