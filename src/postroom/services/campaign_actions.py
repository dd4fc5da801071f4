"""Actions on all messages of a campaign, requested here and carried out by the workers: cancel, retry-failed, settle.

A campaign may have a million messages, and a worker may hold one of its batches for a while, so an HTTP caller does not wait.
What is urgent is done at once (a cancelled campaign sends nothing more). The rest is a workflow: it continues after a crash,
and a second request while it runs changes nothing.

    request ──→ record (cancel only) ──→ workflow `change` ──→ bulk update of the batches ──→ sending again, if messages wait

The workers act on the campaign's status at that time: a campaign that was resumed meanwhile is left alone; one that was cancelled
meanwhile keeps no waiting message.
"""

from __future__ import annotations

import msgspec

from postroom.clock import Clock
from postroom.errors import Conflict, Corrupt, NotFound
from postroom.ledger.bulk_update import ShouldContinue, never_stopped
from postroom.ledger.campaigns import Campaigns
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus
from postroom.model.message import Counts
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.workflows import Again, Done, HandlerCall, Workflows
from postroom.services.campaigns import ACTION, CampaignAction, CampaignService, Decision, action_execution
from postroom.telemetry.logs import event_logger

_log = event_logger(__name__)


class ActionRequest(msgspec.Struct, frozen=True):
    action: CampaignAction = msgspec.field(name="verb")
    ref: CampaignRef
    decision: Decision | None = None


class CampaignActions:
    """Records actions on all messages of a campaign, and carries them out in the workers."""

    def __init__(
        self, service: CampaignService, campaigns: Campaigns, *, messages: Messages, workflows: Workflows, clock: Clock
    ) -> None:
        self._service = service
        self._campaigns = campaigns
        self._messages = messages
        self._workflows = workflows
        self._clock = clock

    def cancel(self, ref: CampaignRef) -> Campaign:
        """Cancel the campaign: nothing more is sent, and waiting messages are skipped soon. Idempotent.

        Raises `Conflict` if it has ended otherwise."""
        campaign = self._service.end(ref)
        self._ask(ActionRequest(CampaignAction.CANCEL, ref))
        return campaign

    def retry_failed(self, ref: CampaignRef) -> int:
        """Retry all failed messages soon; returns how many. Raises `Conflict` unless the campaign is paused or completed."""
        self._service.stopped(ref)
        failed = self._counts(ref).failed
        self._ask(ActionRequest(CampaignAction.RETRY_FAILED, ref))
        return failed

    def settle(self, ref: CampaignRef, decision: Decision) -> int:
        """Settle unknown messages soon; returns how many. Raises `Conflict` while it is being sent or another decision runs."""
        self._service.to_settle(ref, decision)
        unknown = self._counts(ref).unknown
        self._ask(ActionRequest(CampaignAction.SETTLE, ref, decision))
        return unknown

    def handle(self, call: HandlerCall, *, working: ShouldContinue = never_stopped) -> Done | Again:
        """Handle the workflow `CHANGE`. `working` returns False when the worker must stop.

        Temporary errors and `Conflict` mean: call again."""
        asked = _parse(call.execution.input)

        def alive() -> bool:
            return call.alive() and working()

        try:
            self._carry_out(asked, alive)
            if asked.action is not CampaignAction.CANCEL and self._campaigns.get(asked.ref).status is CampaignStatus.CANCELLED:
                self._service.cancel(asked.ref, alive=alive)
        except NotFound:  # deleted meanwhile
            return Done()
        return Done() if alive() else Again(self._clock.now())

    def _carry_out(self, asked: ActionRequest, alive: ShouldContinue) -> None:
        try:
            match asked.action:
                case CampaignAction.CANCEL:
                    self._service.cancel(asked.ref, alive=alive)
                case CampaignAction.RETRY_FAILED:
                    self._service.retry_failed(asked.ref, alive=alive)
                case CampaignAction.SETTLE:
                    self._service.settle(asked.ref, asked.decision or Decision.SENT, alive=alive)
        except Conflict as error:
            if self._campaigns.get(asked.ref).status in {CampaignStatus.COMPLETED, CampaignStatus.PAUSED}:
                raise
            _log.info("campaign.action_skipped", campaign=asked.ref.campaign, action=asked.action.value, reason=str(error))

    def _ask(self, asked: ActionRequest) -> None:
        name, text = action_execution(asked.ref, asked.action), msgspec.json.encode(asked).decode()
        if not self._workflows.restart(ACTION, name, text):
            running = self._workflows.get(ACTION, name)
            if running is not None and _parse(running.input) != asked:
                raise Conflict(f"campaign {asked.ref.campaign} is being settled otherwise in this moment: try again")

    def _counts(self, ref: CampaignRef) -> Counts:
        try:
            return self._messages.counts(ref)
        except NotFound:  # nothing is imported
            return Counts()


def _parse(text: str) -> ActionRequest:
    try:
        return msgspec.json.decode(text, type=ActionRequest)
    except msgspec.DecodeError as error:
        raise Corrupt(f"not a change of a campaign: {error}") from error
