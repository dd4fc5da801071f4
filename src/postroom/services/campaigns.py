"""Campaigns as people use them: made from a template and a CSV, started, paused, resumed, cancelled, retried, settled.

Each verb changes the record by one conditional write and then leaves a note for the scheduler; a crash between the two is
mended by calling the verb again. Objects are stored before the record that names them: a crash leaves at worst objects
nobody refers to, under the prefix of an id nobody has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

import msgspec

from postroom.clock import Clock
from postroom.delivery.compose import variables
from postroom.delivery.composing import Composing
from postroom.errors import Conflict, NotFound
from postroom.ledger import notes
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.sweep import Sweep
from postroom.model.campaign import (
    ENDED,
    Attachment,
    Campaign,
    CampaignState,
    Content,
    Home,
    Import,
    MissingPolicy,
    Policies,
    Schedule,
)
from postroom.model.message import MessageState, Recipient, Settlement
from postroom.platform.ports.journal import Journals
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.queues import Queues
from postroom.platform.ports.timers import Timers
from postroom.platform.ports.workflows import Workflows


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """An attachment's bytes on their way in."""

    filename: str
    content_type: str
    content: bytes
    content_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Everything a campaign is made from, besides the recipients."""

    name: str
    html: str
    """The HTML template, MJML compiled."""
    text: str | None = None
    subject: str
    from_: str
    reply_to: str | None = None
    variables: dict[str, str]
    missing: MissingPolicy = MissingPolicy.ERROR
    attachments: tuple[AttachedFile, ...] = ()
    track_opens: bool = True
    track_clicks: bool = True
    provider: str
    schedule: Schedule | None = None
    policies: Policies
    email_column: str | None = None
    start: bool = True
    """Send (or schedule) as soon as the import is done; False: wait to be resumed."""


class Decision(StrEnum):
    """What an operator knows, or wants, of messages whose answer was never seen."""

    SENT = "sent"
    """They arrived."""
    FAILED = "failed"
    """They did not; they are not to be sent again."""
    RESEND = "resend"
    """Send them again."""


class CampaignService:
    """See the module's text."""

    def __init__(
        self,
        campaigns: Campaigns,
        *,
        composing: Composing,
        messages: Messages,
        objects: Objects,
        journals: Journals,
        queues: Queues,
        timers: Timers,
        workflows: Workflows,
        sweep: Sweep,
        clock: Clock,
    ) -> None:
        self._campaigns = campaigns
        self._composing = composing
        self._messages = messages
        self._objects = objects
        self._journals = journals
        self._queues = queues
        self._timers = timers
        self._workflows = workflows
        self._sweep = sweep
        self._clock = clock

    def create(self, tenant: str, draft: Draft, recipients: BinaryIO, filename: str) -> Campaign:
        """Check the template, store the parts, then the record, and begin the import. `Invalid`: nothing was made."""
        home = self._campaigns.new_home(tenant)
        content = _content(home, draft, self._composing.public_url)
        columns = tuple(sorted(variables(html=draft.html, text=draft.text, subject=draft.subject)))
        files = [(attachment, file.content) for attachment, file in zip(content.attachments, draft.attachments, strict=True)]
        composer = self._composing.compile(home, content, html=draft.html, text=draft.text, attachments=files, columns=columns)
        self._store_content(home, content, draft, composer.links)
        upload = f"{prefix(home)}recipients"
        self._objects.put(upload, recipients, content_type="text/csv")
        source = Import(upload, filename, draft.email_column, columns)
        campaign = self._campaigns.create(
            Campaign(
                home,
                draft.name,
                CampaignState.DRAFT,
                content,
                source,
                draft.provider,
                self._clock.now(),
                schedule=draft.schedule,
                policies=draft.policies,
                start_when_ready=draft.start,
            )
        )
        return self._begin_import(campaign)

    def pause(self, home: Home, reason: str) -> Campaign:
        """Stop new sends within a second; what is in flight is drained. Again: harmless. `Conflict`: nothing to pause."""
        campaign = self._campaigns.get(home)
        if campaign.state is CampaignState.PAUSED:
            return campaign
        return self._campaigns.transition(campaign, CampaignState.PAUSED, reason=reason)

    def resume(self, home: Home) -> Campaign:
        """Go on wherever it stopped: a pause, a crash, a kill. Running or completed: harmless. `Conflict`: it has ended."""
        campaign = self._campaigns.get(home)
        match campaign.state:
            case CampaignState.DRAFT | CampaignState.IMPORTING:
                if not campaign.start_when_ready:
                    campaign = self._campaigns.change(campaign, start_when_ready=True)
                return self._begin_import(campaign)
            case CampaignState.COMPLETED:
                return self._send_what_waits(home)
            case CampaignState.READY:
                campaign = self._campaigns.change(campaign, start_when_ready=True)
            case CampaignState.PAUSED:
                schedule = campaign.schedule
                ahead = schedule is not None and schedule.at > self._clock.now() and campaign.started_at is None
                to = CampaignState.SCHEDULED if ahead else CampaignState.SENDING
                campaign = self._campaigns.transition(campaign, to)
            case CampaignState.CANCELLED | CampaignState.FAILED:
                raise Conflict(f"campaign {home.campaign} is {campaign.state}{_because(campaign)}: it cannot be resumed")
            case CampaignState.SENDING | CampaignState.SCHEDULED:
                pass
        notes.look(self._queues, home)
        return campaign

    def cancel(self, home: Home) -> int:
        """End it: nobody who is still waiting gets it; how many were skipped. Again: carries on where the last call ended."""
        campaign = self._campaigns.get(home)
        if campaign.state is not CampaignState.CANCELLED:
            campaign = self._campaigns.transition(campaign, CampaignState.CANCELLED, reason="cancelled")
        now = self._clock.now()

        def skip(recipient: Recipient) -> Settlement:
            return Settlement(recipient.key, MessageState.SKIPPED, recipient.attempt, now, reply="cancelled")

        try:
            self._messages.recount(home)  # an import that was broken off has counted nothing yet
            return self._sweep.change(campaign, {MessageState.PENDING, MessageState.DEFERRED}, skip)
        except NotFound:  # nothing was imported yet
            return 0

    def retry_failed(self, home: Home) -> int:
        """Send to everybody who failed (not to refused addresses) again; how many. A completed campaign goes back to sending."""
        campaign = self._stopped(home)
        retried = self._sweep.change(campaign, {MessageState.FAILED}, self._again("to be tried again"))
        self._send_what_waits(home)
        return retried

    def settle(self, home: Home, decision: Decision) -> int:
        """Decide what became of messages that are `unknown`; how many. Also of a cancelled campaign, but to send them again."""
        campaign = self._campaigns.get(home)
        if campaign.state is not CampaignState.CANCELLED or decision is Decision.RESEND:
            campaign = self._stopped(home)
        now = self._clock.now()

        def decide(state: MessageState) -> Callable[[Recipient], Settlement]:
            return lambda recipient: Settlement(
                recipient.key, state, recipient.attempt, now, reply=f"settled by hand: {decision}"
            )

        makes = {
            Decision.SENT: decide(MessageState.SENT),
            Decision.FAILED: decide(MessageState.FAILED),
            Decision.RESEND: self._again("settled by hand: to be sent again"),
        }
        settled = self._sweep.change(campaign, {MessageState.UNKNOWN}, makes[decision])
        self._send_what_waits(home)
        return settled

    def delete(self, home: Home) -> None:
        """Forget the campaign, its messages and objects. `Conflict`: it is not at rest. Safe to repeat from any point."""
        campaign = self._campaigns.get(home)
        if campaign.state not in ENDED and not (campaign.state is CampaignState.READY and not campaign.start_when_ready):
            raise Conflict(f"campaign {home.campaign} is {campaign.state}: cancel it before deleting it")
        self._timers.cancel(notes.timer_name(home))
        for workflow in (notes.IMPORT, notes.SEND):
            self._workflows.stop(workflow, home.campaign, "deleted")
        self._messages.drop(home)
        self._journals.drop(home.campaign)
        self._objects.purge(prefix(home))
        self._campaigns.delete(home)

    def _store_content(self, home: Home, content: Content, draft: Draft, links: Sequence[str]) -> None:
        self._objects.put(content.html_key, draft.html.encode(), content_type="text/html; charset=utf-8")
        if content.text_key is not None and draft.text is not None:
            self._objects.put(content.text_key, draft.text.encode(), content_type="text/plain; charset=utf-8")
        for attachment, file in zip(content.attachments, draft.attachments, strict=True):
            self._objects.put(attachment.object_key, file.content, content_type=file.content_type)
        self._objects.put(links_key(home), msgspec.json.encode(links), content_type="application/json")

    def _begin_import(self, campaign: Campaign) -> Campaign:
        if campaign.state is CampaignState.DRAFT:
            campaign = self._campaigns.transition(campaign, CampaignState.IMPORTING)
        notes.run_import(self._workflows, campaign.home)
        return campaign

    def _stopped(self, home: Home) -> Campaign:
        """A campaign whose messages an operator may change."""
        campaign = self._campaigns.get(home)
        if campaign.state in {CampaignState.COMPLETED, CampaignState.PAUSED}:
            return campaign
        if campaign.state in ENDED:
            raise Conflict(f"campaign {home.campaign} is {campaign.state}: nothing of it is sent any more")
        raise Conflict(f"campaign {home.campaign} is {campaign.state}: pause it first, or wait until it is completed")

    def _again(self, reason: str) -> Callable[[Recipient], Settlement]:
        now = self._clock.now()
        return lambda recipient: Settlement(recipient.key, MessageState.PENDING, recipient.attempt, now, reply=reason)

    def _send_what_waits(self, home: Home) -> Campaign:
        """A completed campaign in which somebody waits again is not completed. It looks at the ledger: so it can be repeated."""
        campaign = self._campaigns.get(home)
        if campaign.state is CampaignState.COMPLETED and self._messages.counts(home).waiting:
            campaign = self._campaigns.transition(campaign, CampaignState.SENDING)
            notes.look(self._queues, home)
        return campaign


def prefix(home: Home) -> str:
    """Where a campaign's objects are."""
    return f"{home.tenant}/campaigns/{home.campaign}/"


def links_key(home: Home) -> str:
    """The campaign's link table: a JSON array of URLs, what a tracked link's index selects from."""
    return f"{prefix(home)}links.json"


def _content(home: Home, draft: Draft, public_url: str | None) -> Content:
    """The draft as the record names it."""
    attachments = tuple(
        Attachment(f"{prefix(home)}attachment-{i}", file.filename, file.content_type, file.content_id)
        for i, file in enumerate(draft.attachments)
    )
    return Content(
        f"{prefix(home)}template.html",
        None if draft.text is None else f"{prefix(home)}template.txt",
        draft.subject,
        draft.from_,
        reply_to=draft.reply_to,
        variables=tuple(draft.variables.items()),
        missing=draft.missing,
        attachments=attachments,
        track_opens=draft.track_opens,
        track_clicks=draft.track_clicks,
        public_url=public_url,
    )


def _because(campaign: Campaign) -> str:
    return f" ({campaign.reason})" if campaign.reason else ""
