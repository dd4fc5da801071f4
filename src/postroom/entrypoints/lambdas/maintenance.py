"""The function `jobs`: keeps house, called each minute.

What is done less often is done in the minutes that its interval divides, by the time that the rule was due: a function remembers
nothing. Each chore fails alone, and is done again at its next time. Nothing new is begun when the time is nearly over.

Metrics: `ChoreFailures`; `StuckCampaigns`, each minute: campaigns that should move and do not (services.standstill).

The function `scheduler`: notes about campaigns and streams, from the door and from schedules whose time has come.

A note that meets somebody else's write, or a store that does not answer, comes again; what can never be handled is dropped with a
line in the log, since the record is the truth and is looked at each minute (`jobs`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from postroom.entrypoints.lambdas.runtime import BatchResponse, batch_failures, container, count, observed
from postroom.entrypoints.maintenance import MaintenanceJob, MaintenanceJobs
from postroom.telemetry.logs import event_logger
from postroom.wiring import Container

_MARGIN_MS: Final = 5_000
_RECOUNT_S: Final = 10.0
_MINUTE_S: Final = 60
_STUCK_EVERY_S: Final = 60.0
_log = event_logger(__name__)


@observed("chores")
def run_jobs(event: Any, context: Any) -> None:
    """The event of a rule."""

    def stopped() -> bool:
        return bool(context.get_remaining_time_in_millis() < _MARGIN_MS)

    opened = container()
    jobs = MaintenanceJobs(opened, stopped=stopped, recount_s=_RECOUNT_S).jobs()
    stalled = MaintenanceJob("stalled campaigns", _STUCK_EVERY_S, lambda: _count_stuck(opened))
    run_due_jobs([*jobs, stalled], _minute(event, opened), stopped)


def run_due_jobs(jobs: list[MaintenanceJob], minute: int, stopped: Callable[[], bool]) -> None:
    """Run the jobs that are due in this minute (minutes since 1970)."""
    for job in jobs:
        if minute % max(1, round(job.every_s / _MINUTE_S)):
            continue
        if stopped():
            _log.warning("maintenance.job_skipped", job=job.name)
            count("ChoreFailures")
            continue
        try:
            job.do()
        except Exception:  # noqa: BLE001 - each fails alone, whatever it is
            _log.exception("maintenance.job_failed", job=job.name)
            count("ChoreFailures")


def _count_stuck(opened: Container) -> None:
    found = opened.stalled_campaigns.find()
    for stuck in found:
        _log.error("campaign.stalled", campaign=stuck.ref.campaign, tenant=stuck.ref.tenant, reason=stuck.why)
    count("StuckCampaigns", len(found))


def _minute(event: Any, opened: Container) -> int:
    """Since 1970, of when the rule was due: a call that is late stands for its own minute."""
    due = event.get("time") if isinstance(event, dict) else None
    seconds = datetime.fromisoformat(due).timestamp() if due else opened.clock.now() / 1000
    return int(seconds // _MINUTE_S)


@observed("scheduler")
def schedule(event: Any, _context: Any) -> BatchResponse:
    """A batch of SQS's."""
    jobs = MaintenanceJobs(container())
    return batch_failures([record for record in event["Records"] if not jobs.handle_message(record["body"])])
