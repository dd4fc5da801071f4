"""What is said of a campaign's batches and messages over HTTP, and of messages that were only rehearsed.

A campaign's status as JSON (docs/reference/status.md). The answer itself is made by services.status.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Self

import orjson
from fastapi import Path
from pydantic import BaseModel, Field

from postroom.clock import rfc3339
from postroom.gateway.schemas.messages import EventBody
from postroom.model.batch import BatchSnapshot
from postroom.model.campaign import Campaign, CampaignStatus
from postroom.model.event import Event
from postroom.model.message import Message, MessageStatus
from postroom.model.tokens import MESSAGE_ID_LENGTH, MESSAGE_ID_PATTERN, message_id
from postroom.services.dry_run import DryRunResult

MessageId = Annotated[
    str,
    Path(
        pattern=MESSAGE_ID_PATTERN,
        max_length=MESSAGE_ID_LENGTH,
        description="The message's id: its campaign's, `-`, and 20 more characters.",
        examples=["aeqs6ksh3xegymb7-22k4m6zn7q3bvdh5xw2p"],
    ),
]


class CampaignMessageStatus(StrEnum):
    """Where a message stands."""

    PENDING = "pending"
    SENDING = "sending"
    DEFERRED = "deferred"
    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"


def states_of(names: list[CampaignMessageStatus] | None) -> set[MessageStatus]:
    """As the ledger has them."""
    return {MessageStatus[name.name] for name in names or ()}


class CountsBody(BaseModel):
    """Messages by state; each is counted in one."""

    pending: int = Field(description="Not tried yet.")
    sending: int = Field(description="With the provider in this moment.")
    deferred: int = Field(description="Refused for now: tried again later.")
    sent: int = Field(description="The provider has them.")
    delivered: int = Field(description="The receiving server took them.")
    bounced: int = Field(description="The receiving side refused the address.")
    complained: int = Field(description="Called spam by their recipient.")
    failed: int = Field(description="Not sent, for good.")
    unknown: int = Field(description="Handed over, answer never seen.")
    skipped: int = Field(description="Suppressed since the import, or cancelled.")


class BatchBody(BaseModel):
    """A shard of a campaign's recipients, as last counted."""

    number: int = Field(description="From 0.")
    counts: CountsBody
    next_due: str | None = Field(description="When it has work next (RFC 3339; in 1970: now); null: never again.")
    leased: bool = Field(description="Whether a worker has it.")
    lease_until: str | None = Field(description="Until when, unless it goes on.")

    @classmethod
    def of(cls, batch: BatchSnapshot) -> Self:
        """As last counted."""
        return cls(
            number=batch.number,
            counts=CountsBody(**batch.counts.as_dict()),
            next_due=rfc3339(batch.next_due),
            leased=batch.owner is not None,
            lease_until=rfc3339(batch.lease_until),
        )


class MessageBody(BaseModel):
    """One recipient of one campaign."""

    id: str = Field(description="Of the message.", examples=["aeqs6ksh3xegymb7-22k4m6zn7q3bvdh5xw2p"])
    line: int = Field(description="The line of the upload its row begins on.")
    address: str = Field(description="The recipient's mailbox.")
    name: str | None = Field(description="The recipient's name, where the row has one.")
    status: CampaignMessageStatus = Field(description="Where it stands; `sending` shows in counts only.")
    attempts: int = Field(description="How often it was tried.")
    at: str | None = Field(description="When it came to that state.")
    due: str | None = Field(description="When it is tried, or decided, next.")
    code: int | None = Field(description="Of the last reply: SMTP's, or an HTTP status.")
    reply: str | None = Field(description="The last reply, or the reason in words.")
    provider_id: str | None = Field(description="The provider's own id of it.")
    opened_at: str | None = Field(description="When a person first opened it.")
    clicked_at: str | None = Field(description="When a person first followed a link in it.")
    unsubscribed_at: str | None = Field(description="When they unsubscribed; null also where they took it back.")
    values: dict[str, str | None] = Field(description="The row's cells, by variable.")

    @classmethod
    def of(cls, campaign: Campaign, message: Message, **more: Any) -> Self:
        """As recorded."""
        return cls(
            id=message_id(campaign.ref, message.key),
            line=message.line,
            address=message.address,
            name=message.name,
            status=CampaignMessageStatus(message.status.label),
            attempts=message.attempt,
            at=rfc3339(message.at),
            due=rfc3339(message.due),
            code=message.code or None,
            reply=message.reply or None,
            provider_id=message.provider_id,
            opened_at=rfc3339(message.opened_at),
            clicked_at=rfc3339(message.clicked_at),
            unsubscribed_at=rfc3339(message.unsubscribed_at),
            values=dict(zip(campaign.source.columns, orjson.loads(message.values), strict=False)),
            **more,
        )


class MessageWithEvents(MessageBody):
    """One recipient of one campaign, and what happened to the message."""

    events: list[EventBody] = Field(description="What happened to it, in order of time.")

    @classmethod
    def told(cls, campaign: Campaign, message: Message, events: Sequence[Event]) -> Self:
        """As recorded and reported."""
        return cls.of(campaign, message, events=EventBody.all(events))


class ProblemRow(BaseModel):
    """A row that becomes no message, or whose message cannot be made."""

    line: int = Field(description="Of the upload, from 1.")
    address: str = Field(description="The cell, or the mailbox where it could be read.")
    reason: str = Field(description="As in the report of rejected rows, or `not_composed`.", examples=["no_at"])
    detail: str = Field(description="A sentence.")


class SampleBody(BaseModel):
    """One message as it would leave."""

    line: int = Field(description="Of the upload, from 1.")
    to: str = Field(description="The recipient's mailbox.")
    subject: str = Field(description="As people see it.")
    size: int = Field(description="Bytes.")
    source: str = Field(description="As on the wire (RFC 5322), its first 200,000 characters.")


class DryRunBody(BaseModel):
    """What would happen. `rows` = `accepted` + `invalid` + `duplicate` + `suppressed`."""

    rows: int = Field(description="How many were looked at, from the beginning.")
    complete: bool = Field(description="Whether these are all rows of the upload.")
    accepted: int = Field(description="Rows that become messages.")
    invalid: int = Field(description="Rows without a usable address.")
    duplicate: int = Field(description="Rows of a recipient who stands above.")
    suppressed: int = Field(description="Rows of somebody on the suppression list.")
    not_composed: int = Field(description="Of the accepted: whose message cannot be made.")
    largest_message_bytes: int = Field(description="0 where there is none.")
    problems: list[ProblemRow] = Field(description="The first hundred.")
    sample: SampleBody | None = Field(description="The first message.")

    @classmethod
    def of(cls, found: DryRunResult) -> Self:
        """As found."""
        sample = found.sample
        return cls(
            rows=found.rows,
            complete=found.complete,
            accepted=found.accepted,
            invalid=found.invalid,
            duplicate=found.duplicate,
            suppressed=found.suppressed,
            not_composed=found.not_composed,
            largest_message_bytes=found.largest,
            problems=[ProblemRow(**problem._asdict()) for problem in found.problems],
            sample=SampleBody(line=sample.line, to=sample.to, subject=sample.subject, size=sample.size, source=sample.source)
            if sample
            else None,
        )


class CampaignCountsBody(CountsBody):
    """Rows and messages."""

    rows: int = Field(description="`accepted` + `invalid` + `duplicate` + `suppressed`, once the import is done.")
    accepted: int = Field(description="Rows that are messages: the sum of the states.")
    invalid: int = Field(description="Rows without a usable address.")
    duplicate: int = Field(description="Rows of a recipient who stands above.")
    suppressed: int = Field(description="Rows of somebody on the suppression list.")


class EngagementBody(BaseModel):
    """What recipients did; people, not machines."""

    opened: int = Field(description="Who opened it.")
    clicked: int = Field(description="Who followed a link.")
    unsubscribed: int = Field(description="Who wants no more.")


class CampaignStatusBody(BaseModel):
    """Where a campaign stands, in numbers."""

    id: str = Field(description="Of the campaign.", examples=["aeqs6ksh3xegymb7"])
    name: str = Field(description="For people.")
    status: CampaignStatus = Field(description="Where it stands.")
    reason: str | None = Field(description="Why it is paused, cancelled or failed, for people.")
    waiting_for: str | None = Field(
        description="Why it is `sending` and nothing leaves for hours, for people: a provider's number for the day is used up."
    )
    counts: CampaignCountsBody = Field(description="Rows and messages.")
    engagement: EngagementBody = Field(description="What recipients did.")
    created_at: str = Field(description="RFC 3339, UTC.")
    scheduled_at: str | None = Field(description="When it is to start.")
    started_at: str | None = Field(description="When it first began to send.")
    finished_at: str | None = Field(description="When it ended.")
    messages_per_second: float = Field(description="Messages past sending, since it first began to send, pauses included.")
    recent_messages_per_second: float | None = Field(
        description="The same over the last ten seconds; null while it is not sending, or nobody has watched."
    )
    rejected_report: str | None = Field(description="The key of the report of rejected rows; `…/rejected.csv` has its content.")
