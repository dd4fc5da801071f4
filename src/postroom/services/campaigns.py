"""Campaigns: read, edited, started, paused, resumed, cancelled, retried, settled, deleted.

Each action changes the record by one conditional write, then sends a message to the scheduler. After a crash between the two,
repeat the action; for an edit, the scheduler finds the change when it next reads the records.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import Any, NamedTuple

from postroom.clock import Clock
from postroom.errors import Conflict, Invalid, NotFound
from postroom.ledger import scheduler_messages
from postroom.ledger.bulk_update import BulkUpdate, ShouldContinue, never_stopped
from postroom.ledger.callback_deliveries import CallbackDeliveries
from postroom.ledger.callback_endpoints import CAMPAIGN_PREFIX
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.collection import ListPage
from postroom.model.batch import BatchSnapshot, batch_of
from postroom.model.campaign import ENDED, Campaign, CampaignRef, CampaignStatus, Schedule
from postroom.model.event import Event
from postroom.model.message import Message, MessageStatus, Recipient, Settlement
from postroom.model.provider_status import queued_event
from postroom.model.tokens import parse_message_id
from postroom.platform.ports.journal import Journals
from postroom.platform.ports.messages import MessagePage, Messages
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.queues import Queues
from postroom.platform.ports.timers import Timers
from postroom.platform.ports.workflows import Workflows
from postroom.services.campaign_creation import CampaignCreator, parse_schedule, prefix

ACTION = "change"
"""The workflow of actions on a whole campaign (services.campaign_actions)."""
_LOOKED_AT = 1_000


class CampaignAction(StrEnum):
    """An action on all messages."""

    CANCEL = "cancel"
    RETRY_FAILED = "retry-failed"
    SETTLE = "settle"


class Decision(StrEnum):
    """An operator's decision about messages whose answer from the provider was never received."""

    SENT = "sent"
    """They were delivered."""
    FAILED = "failed"
    """They failed and must not be sent again."""
    RESEND = "resend"


class CampaignService:
    def __init__(
        self,
        campaigns: Campaigns,
        *,
        creator: CampaignCreator,
        messages: Messages,
        objects: Objects,
        journals: Journals,
        queues: Queues,
        timers: Timers,
        workflows: Workflows,
        bulk_update: BulkUpdate,
        deliveries: CallbackDeliveries,
        clock: Clock,
    ) -> None:
        self._campaigns = campaigns
        self._creator = creator
        self._messages = messages
        self._objects = objects
        self._journals = journals
        self._queues = queues
        self._timers = timers
        self._workflows = workflows
        self._sweep = bulk_update
        self._deliveries = deliveries
        self._clock = clock

    def new_id(self, tenant: str) -> str:
        return self._campaigns.new_ref(tenant).campaign

    def get(self, ref: CampaignRef) -> Campaign:
        """Raises `NotFound`."""
        return self._campaigns.get(ref)

    def list(
        self,
        tenant: str,
        *,
        statuses: Collection[CampaignStatus] = (),
        name: str = "",
        cursor: str | None = None,
        limit: int = 100,
    ) -> ListPage[Campaign]:
        """Campaigns, newest first, of any of `statuses` (default: all) and with names that begin with `name`, in any case.

        A page may be short or empty before the end: it reads about a thousand records."""
        found: list[Campaign] = []
        for _ in range(max(1, _LOOKED_AT // limit)):
            page = self._campaigns.list(tenant, cursor=cursor, limit=limit)
            cursor = page.cursor
            found = [each for each in page.items if _asked_for(each, statuses, name)]
            if found or cursor is None:
                break
        return ListPage(found, cursor)

    def start(self, ref: CampaignRef) -> Campaign:
        """Send or schedule a campaign that was created without starting. Idempotent.

        Raises `Conflict` if it is paused or has ended."""
        campaign = self._campaigns.get(ref)
        match campaign.status:
            case CampaignStatus.DRAFT | CampaignStatus.IMPORTING | CampaignStatus.READY:
                return self.resume(ref)
            case CampaignStatus.SCHEDULED | CampaignStatus.SENDING | CampaignStatus.COMPLETED:
                return campaign
            case CampaignStatus.PAUSED:
                raise Conflict(f"campaign {ref.campaign} is paused{_because(campaign)}: resume it")
            case CampaignStatus.CANCELLED | CampaignStatus.FAILED:
                raise Conflict(f"campaign {ref.campaign} is {campaign.status}{_because(campaign)}: it cannot be started")

    def pause(self, ref: CampaignRef, reason: str) -> Campaign:
        """Stop new sends within a second; in-flight messages are drained. Idempotent.

        Raises `Conflict` if nothing can be paused."""
        campaign = self._campaigns.get(ref)
        if campaign.status is CampaignStatus.PAUSED:
            return campaign
        return self._campaigns.transition(campaign, CampaignStatus.PAUSED, reason=reason)

    def resume(self, ref: CampaignRef) -> Campaign:
        """Continue after a pause, crash or kill. No effect if it is running or completed. Raises `Conflict` if it has ended."""
        campaign = self._campaigns.get(ref)
        match campaign.status:
            case CampaignStatus.DRAFT | CampaignStatus.IMPORTING:
                if not campaign.start_when_ready:
                    campaign = self._campaigns.change(campaign, start_when_ready=True)
                return self._creator.begin_import(campaign)
            case CampaignStatus.COMPLETED:
                return self._send_what_waits(ref)
            case CampaignStatus.READY:
                campaign = self._campaigns.change(campaign, start_when_ready=True)
            case CampaignStatus.PAUSED:
                schedule = campaign.spec.schedule
                ahead = schedule is not None and schedule.at > self._clock.now() and campaign.started_at is None
                to = CampaignStatus.SCHEDULED if ahead else CampaignStatus.SENDING
                campaign = self._campaigns.transition(campaign, to)
            case CampaignStatus.CANCELLED | CampaignStatus.FAILED:
                raise Conflict(f"campaign {ref.campaign} is {campaign.status}{_because(campaign)}: it cannot be resumed")
            case CampaignStatus.SENDING | CampaignStatus.SCHEDULED:
                pass
        scheduler_messages.notify_changed(self._queues, ref)
        return campaign

    def end(self, ref: CampaignRef) -> Campaign:
        """Stop sending within a second; waiting messages are left to `cancel`. Idempotent."""
        campaign = self._campaigns.get(ref)
        if campaign.status is CampaignStatus.CANCELLED:
            return campaign
        return self._campaigns.transition(campaign, CampaignStatus.CANCELLED, reason="cancelled")

    def cancel(self, ref: CampaignRef, *, alive: ShouldContinue = never_stopped) -> int:
        """Cancel: skip waiting messages and return how many. If called again, continues where the last call ended."""
        campaign = self.end(ref)
        now = self._clock.now()

        def skip(recipient: Recipient) -> Settlement:
            return Settlement(recipient.key, MessageStatus.SKIPPED, recipient.attempt, now, reply="cancelled")

        try:
            self._messages.recount(ref)  # an interrupted import has counted nothing yet
            return self._sweep.change(campaign, {MessageStatus.PENDING, MessageStatus.DEFERRED}, skip, alive=alive)
        except NotFound:  # nothing is imported yet
            return 0

    def retry_failed(self, ref: CampaignRef, *, alive: ShouldContinue = never_stopped) -> int:
        """Retry failed messages, except refused addresses; returns how many. A completed campaign becomes `sending`."""
        campaign = self.stopped(ref)
        retried = self._sweep.change(campaign, {MessageStatus.FAILED}, self._again("to be tried again"), alive=alive)
        self._send_what_waits(ref)
        return retried

    def settle(self, ref: CampaignRef, decision: Decision, *, alive: ShouldContinue = never_stopped) -> int:
        """Settle messages that are `unknown`; returns how many. A cancelled campaign's cannot be resent."""
        campaign = self.to_settle(ref, decision)
        now = self._clock.now()

        def decide(status: MessageStatus) -> Callable[[Recipient], Settlement]:
            return lambda recipient: Settlement(
                recipient.key, status, recipient.attempt, now, reply=f"settled by hand: {decision}"
            )

        makes = {
            Decision.SENT: decide(MessageStatus.SENT),
            Decision.FAILED: decide(MessageStatus.FAILED),
            Decision.RESEND: self._again("settled by hand: to be sent again"),
        }
        settled = self._sweep.change(campaign, {MessageStatus.UNKNOWN}, makes[decision], alive=alive)
        self._send_what_waits(ref)
        return settled

    def to_settle(self, ref: CampaignRef, decision: Decision) -> Campaign:
        """The campaign, if its unknown messages may be settled this way now. Otherwise raises `Conflict`."""
        campaign = self._campaigns.get(ref)
        if campaign.status is not CampaignStatus.CANCELLED or decision is Decision.RESEND:
            campaign = self.stopped(ref)
        return campaign

    def delete(self, ref: CampaignRef) -> None:
        """Delete the campaign, its messages, objects and callback deliveries. Safe to repeat after a crash.

        Raises `Conflict` unless it is at rest."""
        campaign = self._campaigns.get(ref)
        if campaign.status not in ENDED and not (campaign.status is CampaignStatus.READY and not campaign.start_when_ready):
            raise Conflict(f"campaign {ref.campaign} is {campaign.status}: cancel it before deleting it")
        self._timers.cancel(scheduler_messages.timer_name(ref))
        for workflow in (scheduler_messages.IMPORT, scheduler_messages.SEND):
            self._workflows.stop(workflow, ref.campaign, "deleted")
        for action in CampaignAction:
            self._workflows.stop(ACTION, action_execution(ref, action), "deleted")
        self._messages.drop(ref)
        self._journals.drop(ref.campaign)
        self._objects.purge(prefix(ref))
        if campaign.spec.callback_url is not None:
            self._deliveries.drop(ref.tenant, CAMPAIGN_PREFIX + ref.campaign)
        self._campaigns.delete(ref)

    def stopped(self, ref: CampaignRef) -> Campaign:
        """The campaign, if it is paused, completed or ended, so that messages may be changed. Otherwise raises `Conflict`."""
        campaign = self._campaigns.get(ref)
        if campaign.status in {CampaignStatus.COMPLETED, CampaignStatus.PAUSED}:
            return campaign
        if campaign.status in ENDED:
            raise Conflict(f"campaign {ref.campaign} is {campaign.status}: nothing of it is sent any more")
        raise Conflict(f"campaign {ref.campaign} is {campaign.status}: pause it first, or wait until it is completed")

    def _again(self, reason: str) -> Callable[[Recipient], Settlement]:
        """Resend a message; skip it if the recipient was erased."""
        now = self._clock.now()

        def again(recipient: Recipient) -> Settlement:
            status = MessageStatus.SKIPPED if recipient.erased else MessageStatus.PENDING
            return Settlement(recipient.key, status, recipient.attempt, now, reply="" if recipient.erased else reason)

        return again

    def _send_what_waits(self, ref: CampaignRef) -> Campaign:
        """Set a completed campaign with waiting messages to `sending`. Reads the ledger, so it can be repeated."""
        campaign = self._campaigns.get(ref)
        if campaign.status is CampaignStatus.COMPLETED and self._messages.counts(ref).waiting:
            campaign = self._campaigns.transition(campaign, CampaignStatus.SENDING)
            scheduler_messages.notify_changed(self._queues, ref)
        return campaign


def action_execution(ref: CampaignRef, action: CampaignAction) -> str:
    """The name of the workflow execution for this action and campaign."""
    return f"{action}-{ref.campaign}"


def _asked_for(campaign: Campaign, statuses: Collection[CampaignStatus], name: str) -> bool:
    return (not statuses or campaign.status in statuses) and campaign.spec.name.casefold().startswith(name.casefold())


def _because(campaign: Campaign) -> str:
    return f" ({campaign.reason})" if campaign.reason else ""


_MAX_BATCH = 2**24


class BatchPage(NamedTuple):
    batches: list[BatchSnapshot]
    cursor: str | None


class CampaignReader:
    """Reads batches, messages and timelines. Raises `NotFound` for a campaign that the tenant does not have."""

    def __init__(self, campaigns: Campaigns, messages: Messages) -> None:
        self._campaigns = campaigns
        self._messages = messages

    def batches(self, ref: CampaignRef, *, cursor: str | None = None, limit: int = 100) -> BatchPage:
        """Batches by number; empty before the import. Raises `Invalid` for a cursor of another list."""
        self._campaigns.get(ref)
        try:
            found = self._messages.batches(ref, after=_after(cursor), limit=limit)
        except NotFound:
            found = []
        return BatchPage(found, str(found[-1].number) if len(found) == limit else None)

    def messages(
        self, ref: CampaignRef, *, statuses: Collection[MessageStatus] = (), cursor: str | None = None, limit: int = 100
    ) -> tuple[Campaign, MessagePage]:
        """The campaign, which knows the names of the values, and a page of messages. Raises `Invalid` for a cursor of another
        list."""
        campaign = self._campaigns.get(ref)
        try:
            return campaign, self._messages.list(ref, statuses=statuses, cursor=cursor, limit=limit)
        except NotFound:  # nothing is imported yet
            return campaign, MessagePage((), None)

    def message(self, ref: CampaignRef, message_id: str) -> tuple[Campaign, Message]:
        """Raises `NotFound` if the campaign has no such message."""
        campaign = self._campaigns.get(ref)
        of, key = parse_message_id(message_id)
        found: Message | None = None
        if of == ref.campaign and campaign.source.batches:
            found = self._messages.get(ref, batch_of(key, campaign.source.batches), key)
        if found is None:
            raise NotFound(f"there is no message {message_id!r} in campaign {ref.campaign}")
        return campaign, found

    def timeline(self, campaign: Campaign, message: Message) -> list[Event]:
        """Events of the message by time, from the campaign's creation on."""
        return [queued_event(campaign.created_at), *self._messages.timeline(campaign.ref, message.batch, message.key)]


def _after(cursor: str | None) -> int:
    if cursor is None:
        return -1
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 8 and int(cursor) <= _MAX_BATCH):
        raise Invalid("This cursor was not given by a listing.")
    return int(cursor)


class Keep(Enum):
    """The type of `KEEP`: an edit leaves the field unchanged."""

    KEEP = "keep"


KEEP = Keep.KEEP


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignChanges:
    """New values; `KEEP` leaves a field unchanged."""

    name: str | Keep = KEEP
    schedule: tuple[str, str] | Keep | None = KEEP
    """Time and time zone; None: start as soon as possible."""
    rate: float | Keep | None = KEEP
    """Recipients per second; None: as fast as the provider accepts."""


class CampaignEditor:
    def __init__(self, campaigns: Campaigns, queues: Queues, clock: Clock, *, grace_ms: int) -> None:
        self._campaigns = campaigns
        self._queues = queues
        self._clock = clock
        self._grace_ms = grace_ms

    def apply(self, campaign: Campaign, edit: CampaignChanges) -> Campaign:
        """Apply the edit and return the new record.

        Raises `Conflict` if the record was changed since it was read, or can no longer be edited this way; `Invalid` for the
        time."""
        fields: dict[str, Any] = {}
        if edit.name is not KEEP:
            fields["name"] = edit.name
        if edit.rate is not KEEP:
            _refuse(campaign, "rate", ENDED | {CampaignStatus.SENDING})
            fields["policies"] = replace(campaign.policies, rate=edit.rate)
        if edit.schedule is not KEEP:
            fields["schedule"] = self._schedule(campaign, edit.schedule)
        if not fields:
            return campaign
        spec = replace(campaign.spec, **fields)
        if campaign.status is CampaignStatus.SCHEDULED and edit.schedule is None:
            campaign = self._campaigns.transition(campaign, CampaignStatus.SENDING, spec=spec)
        else:
            campaign = self._campaigns.change(campaign, spec=spec)
        scheduler_messages.notify_changed(self._queues, campaign.ref)
        return campaign

    def _schedule(self, campaign: Campaign, wanted: tuple[str, str] | None) -> Schedule | None:
        _refuse(campaign, "schedule", ENDED | {CampaignStatus.SENDING})
        if campaign.started_at is not None:
            raise Conflict(f"campaign {campaign.ref.campaign} has begun to send: its schedule cannot be changed")
        if wanted is None:
            return None
        at, timezone = wanted
        return parse_schedule(at, timezone, now=self._clock.now(), grace_ms=self._grace_ms)


def _refuse(campaign: Campaign, field: str, statuses: frozenset[CampaignStatus]) -> None:
    if campaign.status in statuses:
        raise Conflict(f"campaign {campaign.ref.campaign} is {campaign.status}: its {field} cannot be changed")
