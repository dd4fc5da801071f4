"""Request and response bodies of `/v1/campaigns`."""

from __future__ import annotations

from typing import Annotated, Self

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from postroom.clock import rfc3339
from postroom.gateway.schemas.scalars import NUMBER, WHOLE, Flag
from postroom.model.callback import MAX_URL
from postroom.model.campaign import (
    AttachmentSpec,
    Campaign,
    CampaignSpec,
    CampaignStatus,
    Content,
    MissingPolicy,
    Policies,
    Schedule,
    UnknownPolicy,
)
from postroom.model.ids import CAMPAIGN_ID_LENGTH
from postroom.model.provider import DEFAULT_PROVIDER
from postroom.services.campaign_creation import EMAIL
from postroom.services.campaigns import KEEP, CampaignChanges, Decision

CampaignId = Annotated[
    str,
    Path(
        pattern=f"^[2-7a-z]{{{CAMPAIGN_ID_LENGTH}}}$",
        max_length=CAMPAIGN_ID_LENGTH,
        description="The campaign's id.",
        examples=["aeqs6ksh3xegymb7"],
    ),
]
_Variable = Annotated[str, Field(min_length=1, max_length=200)]
_Name = Annotated[
    str, Field(min_length=1, max_length=200, description="A display name or description.", examples=["Autumn news"])
]
_Rate = Annotated[float, Field(ge=0.1, le=1_000_000, description="Recipients a second, at most, over all workers."), NUMBER]
_Time = Annotated[str | None, Field(description="RFC 3339, UTC; or null.", examples=["2026-12-01T08:00:00.000Z"])]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ScheduleBody(_Asked):
    """The time at which sending starts."""

    at: str = Field(
        max_length=40,
        description="RFC 3339; without an offset, the wall clock of `timezone`. At most a year ahead.",
        examples=["2026-12-01T09:00"],
    )
    timezone: str = Field("UTC", max_length=64, description="An IANA time zone.", examples=["Europe/Paris"])


class TrackingBody(_Asked):
    """Tracking of opens and clicks. It needs a public URL of the installation."""

    opens: Flag = Field(True, description="Track opens with a pixel.")
    clicks: Flag = Field(True, description="Track clicks by rewriting links.")


class AttachmentOrder(_Asked):
    """An attachment of every message."""

    upload_id: str = Field(min_length=1, max_length=64, description="An upload of kind `asset` that has arrived.")
    filename: str | None = Field(None, min_length=1, max_length=255, description="How it is called; the upload's when not given.")
    content_id: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._@-]{1,100}$",
        max_length=100,
        description="For an inline picture: the template shows it as `cid:<content_id>`.",
    )


class NewCampaign(_Asked):
    """A campaign to create."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Autumn news",
                    "template_id": "aeqs6ksh3xegymb7",
                    "upload_id": "aeqs6kt2hxvbq3mz",
                    "from": "News <news@example.com>",
                    "columns": {"email": "E-Mail", "first_name": "Vorname"},
                    "schedule": {"at": "2026-12-01T09:00", "timezone": "Europe/Paris"},
                    "start": True,
                }
            ]
        }
    )

    name: _Name
    template_id: str = Field(min_length=1, max_length=64, description="The template; its content is copied into the campaign.")
    template_version: Annotated[int, Field(ge=1, le=10_000_000), WHOLE] | None = Field(
        None, description="The newest when not given."
    )
    upload_id: str = Field(min_length=1, max_length=64, description="An upload of kind `recipients` that has arrived.")
    from_: str = Field(
        alias="from",
        min_length=3,
        max_length=500,
        description="An address the tenant may send as, or `Name <address>`.",
        examples=["News <news@example.com>"],
    )
    reply_to: str | None = Field(None, min_length=3, max_length=500, description="The Reply-To address.")
    subject: str | None = Field(
        None, min_length=1, max_length=1_000, description="May use variables; the template's when not given."
    )
    columns: dict[_Variable, Annotated[str, Field(min_length=1, max_length=500)]] = Field(
        default_factory=dict,
        max_length=500,
        description="Variable → heading of the column that feeds it, where they differ; `email` names the column of addresses.",
    )
    variables: dict[_Variable, Annotated[str, Field(max_length=10_000)]] = Field(
        default_factory=dict, max_length=200, description="Values for everybody; a column of the same name wins."
    )
    missing: MissingPolicy = Field(
        MissingPolicy.ERROR,
        description="A row without a value the template needs: the message fails, or the value is empty text.",
    )
    provider: str | None = Field(
        None, pattern=r"^[a-z0-9-]{1,40}$", max_length=40, description="How its mail leaves; the default provider when not given."
    )
    topic: str | None = Field(
        None, min_length=1, max_length=64, description="What a recipient unsubscribes from; 64 bytes of UTF-8."
    )
    attachments: list[AttachmentOrder] = Field(
        default_factory=list, max_length=20, description="Files and inline pictures: 10 MB in all."
    )
    schedule: ScheduleBody | None = Field(None, description="As soon as it is imported when not given.")
    rate: _Rate | None = Field(
        None, description="Recipients a second, at most, over all workers; null: as the provider takes them."
    )
    unknown: UnknownPolicy = Field(
        UnknownPolicy.NEVER_TWICE,
        description="Whether a message whose provider's reply was never received is reported as `unknown`, or sent again.",
    )
    tracking: TrackingBody = Field(default_factory=lambda: TrackingBody(opens=True, clicks=True), description="What is tracked.")
    callback_url: str | None = Field(
        None,
        pattern=r"^https?://[!-~]+$",
        max_length=MAX_URL,
        description="A URL that receives this campaign's events, in addition to the tenant's callbacks.",
        examples=["https://example.com/hooks/postroom"],
    )
    start: Flag = Field(True, description="Send, or schedule, once it is imported; false: wait to be started.")

    def spec(self, *, template_version: int, created_by: str, schedule: Schedule | None, policies: Policies) -> CampaignSpec:
        """The campaign to create. `schedule` and `policies`: this body's, with the installation's defaults."""
        return CampaignSpec(
            name=self.name,
            content=Content(
                from_=self.from_,
                subject=self.subject or "",
                reply_to=self.reply_to,
                variables=tuple(self.variables.items()),
                missing=self.missing,
                track_opens=self.tracking.opens,
                track_clicks=self.tracking.clicks,
                topic=self.topic,
            ),
            provider=self.provider or DEFAULT_PROVIDER,
            schedule=schedule,
            policies=policies,
            template_id=self.template_id,
            template_version=template_version,
            upload_id=self.upload_id,
            email_column=self.columns.get(EMAIL),
            headings=tuple((name, heading) for name, heading in self.columns.items() if name != EMAIL),
            attachments=tuple(AttachmentSpec(one.upload_id, one.filename, one.content_id) for one in self.attachments),
            callback_url=self.callback_url,
            created_by=created_by,
        )


class CampaignEdit(_Asked):
    """The members to change. Members that are not given stay unchanged."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Autumn news, second try", "rate": 50}]})

    name: _Name | None = Field(None, description="Null changes nothing.")
    schedule: ScheduleBody | None = Field(None, description="Null: as soon as it may.")
    rate: _Rate | None = Field(None, description="Null: as fast as the provider takes them.")

    def edit(self) -> CampaignChanges:
        named = self.model_fields_set
        schedule = (self.schedule.at, self.schedule.timezone) if self.schedule else None
        return CampaignChanges(
            name=self.name if self.name is not None else KEEP,
            schedule=schedule if "schedule" in named else KEEP,
            rate=self.rate if "rate" in named else KEEP,
        )


class SettleRequest(_Asked):
    """The decision about the `unknown` messages of a campaign."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"decision": "sent"}]})

    decision: Decision = Field(description="`sent`: they arrived; `failed`: they did not; `resend`: send them again.")


class AffectedMessages(BaseModel):
    """The number of messages that the workers will change."""

    messages: int = Field(
        description="The number of messages that are changed; the campaign's status shows the progress.", examples=[17]
    )


class AttachmentBody(BaseModel):
    """An attachment of every message."""

    filename: str = Field(description="The file name.")
    content_type: str = Field(description="Its media type.")
    content_id: str | None = Field(description="The Content-ID of an inline image.")


class ImportBody(BaseModel):
    """The result of the import; zeros until it is done."""

    filename: str = Field(description="The upload's file name.")
    rows: int = Field(description="`accepted` + `invalid` + `duplicate` + `suppressed`.")
    accepted: int = Field(description="Rows that became messages.")
    invalid: int = Field(description="Rows without a usable address.")
    duplicate: int = Field(description="Rows whose recipient is in an earlier row.")
    suppressed: int = Field(description="Rows whose recipient is on the suppression list.")


class CampaignBody(BaseModel):
    """A campaign: its content, settings and status. Its numbers are in `/status`."""

    id: str = Field(description="The campaign's id.", examples=["aeqs6ksh3xegymb7"])
    name: str = Field(description="A display name or description.")
    status: CampaignStatus = Field(description="The status.")
    reason: str | None = Field(description="Why it is paused, cancelled or failed.")
    template_id: str | None = Field(description="The template's id; null: made from a file.")
    template_version: int | None = Field(description="The template's version.")
    upload_id: str | None = Field(description="The recipients' upload; null: a file.")
    from_: str = Field(serialization_alias="from", description="Its sender.")
    reply_to: str | None = Field(description="The Reply-To address.")
    subject: str = Field(description="The subject; may use variables.")
    columns: dict[str, str] = Field(description="Variable → heading, where they were named.")
    variables: dict[str, str] = Field(description="Values for all recipients.")
    missing: MissingPolicy = Field(description="What happens to a row without a value that the template needs.")
    provider: str = Field(description="The provider's name.")
    topic: str | None = Field(description="The topic that recipients unsubscribe from.")
    attachments: list[AttachmentBody] = Field(description="The attachments of every message.")
    schedule: ScheduleBody | None = Field(description="When it starts: `at` in UTC, with the time zone that was named.")
    rate: float | None = Field(description="Maximum recipients a second; null: the provider's limit.")
    unknown: UnknownPolicy = Field(description="What happens to messages whose provider's reply was never received.")
    tracking: TrackingBody = Field(description="What is tracked.")
    callback_url: str | None = Field(description="The URL that receives its events.")
    start: bool = Field(description="Whether it starts automatically once it is imported.")
    import_: ImportBody = Field(serialization_alias="import", description="The result of the import.")
    created_by: str | None = Field(description="Who created it.")
    created_at: str = Field(description="RFC 3339, UTC.", examples=["2026-11-24T04:56:00.018Z"])
    started_at: _Time
    finished_at: _Time

    @classmethod
    def from_record(cls, campaign: Campaign) -> Self:
        spec, source, schedule = campaign.spec, campaign.source, campaign.spec.schedule
        content = spec.content
        columns = dict(spec.headings) | ({EMAIL: spec.email_column} if spec.email_column else {})
        accepted = source.rows - source.invalid - source.duplicate - source.suppressed
        return cls(
            id=campaign.ref.campaign,
            name=spec.name,
            status=campaign.status,
            reason=campaign.reason,
            template_id=spec.template_id,
            template_version=spec.template_version,
            upload_id=spec.upload_id,
            from_=content.from_,
            reply_to=content.reply_to,
            subject=content.subject,
            columns=columns,
            variables=dict(content.variables),
            missing=content.missing,
            provider=spec.provider.partition("://")[0],  # a URL may hold a password
            topic=content.topic,
            attachments=[
                AttachmentBody(filename=one.filename, content_type=one.content_type, content_id=one.content_id)
                for one in campaign.files.attachments
            ],
            schedule=ScheduleBody(at=rfc3339(schedule.at) or "", timezone=schedule.timezone) if schedule else None,
            rate=spec.policies.rate,
            unknown=spec.policies.unknown,
            tracking=TrackingBody(opens=content.track_opens, clicks=content.track_clicks),
            callback_url=spec.callback_url,
            start=campaign.start_when_ready,
            import_=ImportBody(
                filename=source.filename,
                rows=source.rows,
                accepted=accepted,
                invalid=source.invalid,
                duplicate=source.duplicate,
                suppressed=source.suppressed,
            ),
            created_by=spec.created_by,
            created_at=rfc3339(campaign.created_at) or "",
            started_at=rfc3339(campaign.started_at),
            finished_at=rfc3339(campaign.finished_at),
        )
