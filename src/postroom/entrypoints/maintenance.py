"""The maintenance jobs of an installation, each with its interval.

Any number of processes may run any of them at the same time: each is safe to repeat. A job that fails runs again at its next time
and holds up no other. On one machine a thread runs them (server.timers); on AWS a function that is called each minute does
(lambdas.maintenance).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple, Protocol, cast

from postroom.clock import Instant
from postroom.errors import Conflict, NotFound, Permanent, Temporary
from postroom.events.reputation import CHECK_S
from postroom.ledger import scheduler_messages
from postroom.model.campaign import CampaignRef
from postroom.platform.ports.feed import RETENTION_MS
from postroom.platform.ports.workflows import Execution
from postroom.services.campaigns import ACTION
from postroom.services.erasure_requests import ERASE
from postroom.telemetry.logs import event_logger
from postroom.wiring import Container

_TRIM_EVERY_S: Final = 600.0
_RECORDS_EVERY_S: Final = 2.0
_RECOUNT_EVERY_S: Final = 5.0
_RECOUNT_FOR_S: Final = 0.25  # a timer waits for it, and sending shares the machine with it
_SEAL_EVERY_S: Final = 20.0
_EXPIRE_EVERY_S: Final = 300.0
_RETAIN_EVERY_S: Final = 3_600.0
_RUNS_EVERY_S: Final = 60.0
_WORKFLOWS: Final = (scheduler_messages.IMPORT, scheduler_messages.SEND, scheduler_messages.STREAM, ACTION, ERASE)
_log = event_logger(__name__)


class _Revives(Protocol):
    """Workflows that run as state machines (platform.aws.workflows)."""

    def running(self, workflow: str) -> list[Execution]: ...

    def revive(self, workflow: str, execution: str) -> bool: ...


class MaintenanceJob(NamedTuple):
    """A job and its interval."""

    name: str
    every_s: float
    do: Callable[[], object]


class MaintenanceJobs:
    """Builds the jobs, and handles messages to the scheduler."""

    def __init__(
        self,
        container: Container,
        *,
        only: CampaignRef | None = None,
        stopped: Callable[[], bool] = lambda: False,
        recount_s: float = _RECOUNT_FOR_S,
    ) -> None:
        """`only`: handle this campaign alone. `recount_s`: time for recounts."""
        self._container = container
        self._only = only
        self._stopped = stopped
        self._recount_s = recount_s

    def jobs(self) -> list[MaintenanceJob]:
        """Return the jobs; a worker of a single campaign leaves global maintenance to others."""
        jobs = [
            MaintenanceJob("guard", CHECK_S, self._guard),
            MaintenanceJob("records", _RECORDS_EVERY_S, self._look_at_records),
        ]
        if self._container.stores.machine is not None:  # on AWS the stream expires by itself
            jobs.append(MaintenanceJob("feed", _TRIM_EVERY_S, self.trim_feed))
        elif self._only is None:  # a state machine may have failed; on one machine workers find due work themselves
            jobs.append(MaintenanceJob("runs", _RUNS_EVERY_S, self._revive))
        if self._only is None:
            jobs += [
                MaintenanceJob("seal", _SEAL_EVERY_S, self._seal),
                MaintenanceJob("uploads", _EXPIRE_EVERY_S, self._expire_uploads),
                MaintenanceJob("recount", _RECOUNT_EVERY_S, self._recount),
                MaintenanceJob("singles", _EXPIRE_EVERY_S, self._expire_singles),
                MaintenanceJob("campaigns", _RETAIN_EVERY_S, self._expire_campaigns),
            ]
        return jobs

    def handle_message(self, body: str) -> bool:
        """Return True if a message to the scheduler is done with, False if it must be delivered again."""
        try:
            self._container.scheduler.handle(body)
        except (Conflict, Temporary) as error:
            _log.info("scheduler.message_deferred", reason=str(error))
            return False
        except Permanent as error:
            _log.warning("scheduler.message_dropped", reason=str(error))
        return True

    def trim_feed(self) -> None:
        """Delete feed entries that are older than the retention time."""
        feed = self._container.feed
        for shard in feed.shards():
            with suppress(NotFound):  # deleted in this moment
                feed.trim(shard, Instant(self._container.clock.now() - RETENTION_MS))

    def _guard(self) -> None:
        self._container.guard.check(self._only)

    def _seal(self) -> None:
        self._container.audit.seal()

    def _revive(self) -> None:
        """Restart workflows that are running by their record, but have no execution. Harmless for all others."""
        workflows = cast("_Revives", self._container.workflows)
        for workflow in _WORKFLOWS:
            for each in workflows.running(workflow):
                if self._stopped():
                    return
                if workflows.revive(workflow, each.execution):
                    _log.error("workflow.restarted", workflow=workflow, execution=each.execution)

    def _recount(self) -> None:
        self._container.recounts.run(seconds=self._recount_s, stopped=self._stopped)

    def _expire_uploads(self) -> None:
        uploads, now = self._container.uploads, self._container.clock.now()
        while uploads.expire(now) and not self._stopped():
            pass

    def _expire_singles(self) -> None:
        days = self._container.settings.retention_days
        if days is not None:
            self._container.stream_retention.expire(self._container.clock.now(), days=days)

    def _expire_campaigns(self) -> None:
        days = self._container.settings.retention_days
        if days is not None:
            self._container.campaign_retention.run(self._container.clock.now(), days=days, stopped=self._stopped)

    def _look_at_records(self) -> None:
        """Check every unfinished campaign, in case a message to the scheduler was lost: the record is the truth."""
        for ref in [self._only] if self._only is not None else self._container.records.unfinished():
            if self._stopped():
                return
            try:
                self._container.scheduler.look(ref)
            except (Conflict, NotFound):  # changed or deleted in this moment: the next check sees it
                continue
            except Permanent as error:  # an unreadable record, for example: the others are checked all the same
                _log.error("campaign.check_failed", campaign=ref.campaign, reason=str(error))
