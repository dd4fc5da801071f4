"""Bodies of a campaign's batches, messages, dry run and status.

The status itself is serialised by services.status (docs/reference/status.md): `CampaignStatusBody` only describes it.
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
    """A message's status."""

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
    return {MessageStatus[name.name] for name in names or ()}


class CountsBody(BaseModel):
    """The number of messages with each status."""

    pending: int = Field(description="Not attempted yet.")
    sending: int = Field(description="Being handed to the provider.")
    deferred: int = Field(description="Deferred by the provider; retried later.")
    sent: int = Field(description="Accepted by the provider.")
    delivered: int = Field(description="Accepted by the receiving server.")
    bounced: int = Field(description="Refused by the receiving server.")
    complained: int = Field(description="Reported as spam by the recipient.")
    failed: int = Field(description="Permanently failed before they were sent.")
    unknown: int = Field(description="Handed to the provider, whose reply was never received.")
    skipped: int = Field(description="Suppressed since the import, or cancelled.")


class BatchBody(BaseModel):
    """A part of a campaign's recipients, as last counted."""

    number: int = Field(description="From 0.")
    counts: CountsBody
    next_due: str | None = Field(description="When its next message is due (RFC 3339; in 1970: now); null: it is done.")
    leased: bool = Field(description="Whether a worker has leased it.")
    lease_until: str | None = Field(description="When the lease ends, unless it is renewed.")

    @classmethod
    def from_record(cls, batch: BatchSnapshot) -> Self:
        return cls(
            number=batch.number,
            counts=CountsBody(**batch.counts.as_dict()),
            next_due=rfc3339(batch.next_due),
            leased=batch.owner is not None,
            lease_until=rfc3339(batch.lease_until),
        )


class MessageBody(BaseModel):
    """One recipient of one campaign."""

    id: str = Field(description="The message's id.", examples=["aeqs6ksh3xegymb7-22k4m6zn7q3bvdh5xw2p"])
    line: int = Field(description="The line of the upload that its row starts on.")
    address: str = Field(description="The recipient's email address.")
    name: str | None = Field(description="The recipient's name, if the row has one.")
    status: CampaignMessageStatus = Field(description="The status; `sending` appears in counts only.")
    attempts: int = Field(description="The number of attempts.")
    at: str | None = Field(description="When the status last changed.")
    due: str | None = Field(description="When it is next attempted or decided.")
    code: int | None = Field(description="The code of the last reply: SMTP, or an HTTP status.")
    reply: str | None = Field(description="The last reply, or the reason.")
    provider_id: str | None = Field(description="The provider's message id.")
    opened_at: str | None = Field(description="When the recipient first opened it.")
    clicked_at: str | None = Field(description="When the recipient first clicked a link in it.")
    unsubscribed_at: str | None = Field(description="When the recipient unsubscribed; null if not, or if they subscribed again.")
    values: dict[str, str | None] = Field(description="The values of the row, by variable.")

    @classmethod
    def from_record(cls, campaign: Campaign, message: Message, **more: Any) -> Self:
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
    """One recipient of one campaign, with the events of the message."""

    events: list[EventBody] = Field(description="The events, oldest first.")

    @classmethod
    def told(cls, campaign: Campaign, message: Message, events: Sequence[Event]) -> Self:
        return cls.from_record(campaign, message, events=EventBody.all(events))


class ProblemRow(BaseModel):
    """A row that is rejected, or whose message cannot be composed."""

    line: int = Field(description="Of the upload, from 1.")
    address: str = Field(description="The cell, or the mailbox where it could be read.")
    reason: str = Field(description="As in the report of rejected rows, or `not_composed`.", examples=["no_at"])
    detail: str = Field(description="Why it was rejected.")


class SampleBody(BaseModel):
    """A composed message."""

    line: int = Field(description="Of the upload, from 1.")
    to: str = Field(description="The recipient's email address.")
    subject: str = Field(description="As people see it.")
    size: int = Field(description="Bytes.")
    source: str = Field(description="As on the wire (RFC 5322), its first 200,000 characters.")


class DryRunBody(BaseModel):
    """The result of a dry run. `rows` = `accepted` + `invalid` + `duplicate` + `suppressed`."""

    rows: int = Field(description="How many were looked at, from the beginning.")
    complete: bool = Field(description="Whether these are all rows of the upload.")
    accepted: int = Field(description="Rows that become messages.")
    invalid: int = Field(description="Rows without a usable address.")
    duplicate: int = Field(description="Rows whose recipient is in an earlier row.")
    suppressed: int = Field(description="Rows whose recipient is on the suppression list.")
    not_composed: int = Field(description="Accepted rows whose message cannot be composed.")
    largest_message_bytes: int = Field(description="0 where there is none.")
    problems: list[ProblemRow] = Field(description="The first hundred.")
    sample: SampleBody | None = Field(description="The first message.")

    @classmethod
    def from_record(cls, found: DryRunResult) -> Self:
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
    """Numbers of rows and messages."""

    rows: int = Field(description="`accepted` + `invalid` + `duplicate` + `suppressed`, once the import is done.")
    accepted: int = Field(description="Rows that became messages: the sum of all statuses.")
    invalid: int = Field(description="Rows without a usable address.")
    duplicate: int = Field(description="Rows whose recipient is in an earlier row.")
    suppressed: int = Field(description="Rows whose recipient is on the suppression list.")


class EngagementBody(BaseModel):
    """What recipients did. Machine opens and clicks are not counted."""

    opened: int = Field(description="Recipients who opened it.")
    clicked: int = Field(description="Recipients who clicked a link.")
    unsubscribed: int = Field(description="Recipients who unsubscribed.")


class CampaignStatusBody(BaseModel):
    """A campaign's status in numbers."""

    id: str = Field(description="The campaign's id.", examples=["aeqs6ksh3xegymb7"])
    name: str = Field(description="A display name or description.")
    status: CampaignStatus = Field(description="The status.")
    reason: str | None = Field(description="Why it is paused, cancelled or failed.")
    waiting_for: str | None = Field(
        description="Why a campaign that is `sending` waits for hours: the provider's daily quota is used up."
    )
    counts: CampaignCountsBody = Field(description="Rows and messages.")
    engagement: EngagementBody = Field(description="What recipients did.")
    created_at: str = Field(description="RFC 3339, UTC.")
    scheduled_at: str | None = Field(description="When it is scheduled to start.")
    started_at: str | None = Field(description="When sending first started.")
    finished_at: str | None = Field(description="When it ended.")
    messages_per_second: float = Field(description="Messages sent a second since sending first started, pauses included.")
    recent_messages_per_second: float | None = Field(
        description="Messages sent a second over the last ten seconds; null: not sending, or not requested lately."
    )
    rejected_report: str | None = Field(
        description="The storage key of the report of rejected rows; `…/rejected.csv` returns its content."
    )
