"""What happened to a message, as it is told over HTTP: one shape for campaigns' messages and single ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, Field

from postroom.model.event import BounceClass, BounceType, Event, EventKind
from postroom.services.event_record import event_record


class BounceBody(BaseModel):
    """What a bounce says."""

    type: BounceType = Field(description="How lasting it is.")
    class_: BounceClass = Field(alias="class", description="Why, as far as the report tells.")
    code: str = Field(description="The enhanced status code (RFC 3463), or the SMTP reply code; empty where there is none.")


class EventBody(BaseModel):
    """One thing that happened to one attempt at a message."""

    id: str = Field(description="Unlike any other event's of the message.")
    kind: EventKind = Field(description="What happened.")
    at: str = Field(description="When, by the reporter's clock where it has one (RFC 3339, UTC).")
    attempt: int = Field(ge=0, description="Which attempt it is about, from 1; 0: none, or nobody knows.")
    source: str = Field(description="Who reports it.", examples=["dsn"])
    bounce: BounceBody | None = Field(description="Of a bounce: how lasting, and why.")
    machine: bool = Field(
        description="Of an open or a click: an image proxy, a link scanner, a prefetch; not counted as a person's."
    )
    detail: str = Field(description="For people: the last reply, the kind of complaint, the user agent.")
    url: str | None = Field(description="Of a click: where to.")
    raw: str | None = Field(description="The reporter's own words, cut to 4,000 characters; null: there are none.")

    @classmethod
    def of(cls, event: Event) -> Self:
        """As kept."""
        return cls.model_validate(event_record(event))

    @classmethod
    def all(cls, events: Sequence[Event]) -> list[Self]:
        """In their order."""
        return [cls.of(event) for event in events]
