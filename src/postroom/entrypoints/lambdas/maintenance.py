"""The functions `maintenance` and `scheduler`: maintenance jobs, and messages to the scheduler.

`maintenance` runs each minute. A job with a longer interval runs in the minutes that its interval divides, by the time when the
rule was due: a function keeps no state. A job that fails does not stop the others, and runs again at its next time. No job
starts when the function's time is nearly over.

`scheduler` handles messages about campaigns and streams, from the API and from schedules that have fired. A message that meets
a conflicting write or an unavailable store is delivered again. A message that can never be handled is dropped and logged: the
record is the truth, and `maintenance` looks at it each minute.

Metrics: `MaintenanceFailures`; `StuckCampaigns`, each minute: campaigns that should move and do not (services.status).
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


@observed("maintenance")
def run_jobs(event: Any, context: Any) -> None:
    """Handles the event of a rule."""

    def stopped() -> bool:
        return bool(context.get_remaining_time_in_millis() < _MARGIN_MS)

    app = container()
    jobs = MaintenanceJobs(app, stopped=stopped, recount_s=_RECOUNT_S).jobs()
    stalled = MaintenanceJob("stalled campaigns", _STUCK_EVERY_S, lambda: _count_stuck(app))
    run_due_jobs([*jobs, stalled], _minute(event, app), stopped)


def run_due_jobs(jobs: list[MaintenanceJob], minute: int, stopped: Callable[[], bool]) -> None:
    """Run the jobs that are due in this minute (minutes since 1970)."""
    for job in jobs:
        if minute % max(1, round(job.every_s / _MINUTE_S)):
            continue
        if stopped():
            _log.warning("maintenance.job_skipped", job=job.name)
            count("MaintenanceFailures")
            continue
        try:
            job.do()
        except Exception:  # noqa: BLE001 - one failing job must not stop the others
            _log.exception("maintenance.job_failed", job=job.name)
            count("MaintenanceFailures")


def _count_stuck(app: Container) -> None:
    found = app.stalled_campaigns.find()
    for stuck in found:
        _log.error("campaign.stalled", campaign=stuck.ref.campaign, tenant=stuck.ref.tenant, reason=stuck.why)
    count("StuckCampaigns", len(found))


def _minute(event: Any, app: Container) -> int:
    """Minutes since 1970 when the rule was due, also if the call is late."""
    due = event.get("time") if isinstance(event, dict) else None
    seconds = datetime.fromisoformat(due).timestamp() if due else app.clock.now() / 1000
    return int(seconds // _MINUTE_S)


@observed("scheduler")
def schedule(event: Any, _context: Any) -> BatchResponse:
    """Handles a batch of SQS."""
    jobs = MaintenanceJobs(container())
    return batch_failures([record for record in event["Records"] if not jobs.handle_message(record["body"])])
