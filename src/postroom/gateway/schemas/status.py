"""A campaign's status as JSON (docs/reference/status.md). The answer itself is made by services.status."""

from __future__ import annotations

from pydantic import BaseModel, Field

from postroom.gateway.schemas.campaign_messages import CountsBody
from postroom.model.campaign import CampaignStatus


class StatusCounts(CountsBody):
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


class StatusBody(BaseModel):
    """Where a campaign stands, in numbers."""

    id: str = Field(description="Of the campaign.", examples=["aeqs6ksh3xegymb7"])
    name: str = Field(description="For people.")
    status: CampaignStatus = Field(description="Where it stands.")
    reason: str | None = Field(description="Why it is paused, cancelled or failed, for people.")
    waiting_for: str | None = Field(
        description="Why it is `sending` and nothing leaves for hours, for people: a provider's number for the day is used up."
    )
    counts: StatusCounts = Field(description="Rows and messages.")
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
