"""Run a campaign to its end in the foreground, with progress on standard error, and print its result.

- If a server runs on the same data, the server sends the campaign with its own settings and this command only watches. If the
  server ends, this command takes over.
- Progress is a bar with rate and time left on a terminal, and a plain line every 5 s elsewhere.
- The first Ctrl-C (or SIGTERM) pauses the campaign and drains messages in flight. A second one kills the workers; messages they
  had in flight are settled when the campaign is resumed.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from postroom.clock import rfc3339
from postroom.entrypoints.cli.output import print_json, printable, shown_time
from postroom.entrypoints.cli.session import BAD_INPUT, DONE, FAILED, NOT_ALL_SENT, say, tenant_option
from postroom.entrypoints.server.supervisor import CampaignWorkers
from postroom.errors import Conflict
from postroom.model.campaign import ENDED, CampaignRef, CampaignStatus
from postroom.pipeline.splitter import Checkpoint
from postroom.services.status import StatusReport
from postroom.wiring import Container

_ALWAYS = frozenset({"rows", "accepted", "sent"})
_HINTS = {
    "failed": "postroom campaign messages {id} --status failed · postroom campaign retry-failed {id}",
    "bounced": "postroom campaign messages {id} --status bounced",
    "unknown": "handed over, no reply seen: postroom campaign messages {id} --status unknown · "
    "postroom campaign settle {id} sent (or failed, resend)",
    "rejected": "postroom campaign rejected {id}",
}


def print_status(status: StatusReport, *, as_json: bool) -> None:
    """Print a campaign's counts on standard output, and hints what to do next on standard error."""
    shown = status.as_dict()
    if as_json:
        print_json(shown)
        return
    counts: dict[str, int] = shown["counts"]
    lines = [(name, f"{count:,}") for name, count in counts.items() if count or name in _ALWAYS]
    lines += [(name, f"{count:,}") for name, count in shown["engagement"].items() if count]
    if status.seconds:
        lines += [("time", f"{status.seconds:,.1f} s"), ("messages a second", f"{status.per_second:,.0f}")]
    sys.stdout.write(f"{printable(status.campaign.spec.name)} ({shown['id']}): {shown['status']}\n")
    width = max(len(number) for _, number in lines)
    sys.stdout.writelines(f"  {name:18}{number:>{width}}\n" for name, number in lines)
    _print_hints(status, counts)


def result_code(status: StatusReport) -> int:
    """Return 0 if all messages were sent, 3 if some were not, 2 if the import failed, and 1 otherwise (paused, cancelled)."""
    match status.campaign.status:
        case CampaignStatus.COMPLETED:
            counts = status.counts
            return NOT_ALL_SENT if counts.failed or counts.bounced or counts.unknown or counts.skipped or counts.waiting else DONE
        case CampaignStatus.FAILED:
            return BAD_INPUT
        case _:
            return FAILED


def _print_hints(status: StatusReport, counts: dict[str, int]) -> None:
    campaign, tenant = status.campaign, tenant_option(status.campaign.ref.tenant)
    if campaign.reason:
        say(f"{campaign.status}: {campaign.reason}")
    if status.waiting_for:
        say(f"waiting: {status.waiting_for}")
    if campaign.spec.schedule is not None and campaign.status is CampaignStatus.SCHEDULED:
        say(
            f"starts at {shown_time(campaign.spec.schedule.at)} if a server runs; without one: "
            f"postroom send --resume {campaign.ref.campaign}{tenant}"
        )
    elif campaign.status not in ENDED:
        say(f"go on with: postroom send --resume {campaign.ref.campaign}{tenant}")
    rejected = counts["invalid"] + counts["duplicate"] + counts["suppressed"]
    for name, count in {**counts, "rejected": rejected}.items():
        if count and name in _HINTS:
            say(f"{count:,} {name}: {_HINTS[name].format(id=f'{campaign.ref.campaign}{tenant}')}")


_PLAIN_EVERY_S = 5.0


class Progress:
    """Shows the progress of one campaign on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = _bar(self._console) if self._console.is_terminal else None
        self._task: TaskID | None = None
        self._said_at = 0.0
        self._said = ""
        self._trouble = ""

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def note(self, text: str) -> None:
        """Print a line that is not overwritten."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False)
        else:
            say(text)

    def show(self, status: StatusReport, checkpoint: Checkpoint | None, trouble: str) -> None:
        """Show the current status. `trouble` says why the campaign cannot go on; empty if it can."""
        if trouble != self._trouble:
            self._trouble = trouble
            self.note(f"waiting: {trouble}" if trouble else "continuing")
        words, done, total = _describe(status, checkpoint)
        if self._bar is not None:
            self._show_bar(words, done, total, _rate(status))
        elif words != self._said or time.monotonic() - self._said_at >= _PLAIN_EVERY_S:
            self._said, self._said_at = words, time.monotonic()
            amount = f" {done:,} of {total:,}" if total else ""
            say(f"{words}{amount}{_rate(status)}")

    def _show_bar(self, words: str, done: int, total: int, rate: str) -> None:
        assert self._bar is not None
        if self._task is None:
            self._task = self._bar.add_task(words, total=None, rate="")
        self._bar.update(self._task, description=words, completed=done, total=total or None, rate=rate)


def _bar(console: Console) -> RichProgress:
    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
    )


def _describe(status: StatusReport, checkpoint: Checkpoint | None) -> tuple[str, int, int]:
    """Return a description, the number done and the total (0 if not known)."""
    campaign = status.campaign
    match campaign.status:
        case CampaignStatus.IMPORTING if checkpoint is not None:
            return "importing", checkpoint.sums.rows, checkpoint.plan.rows
        case CampaignStatus.IMPORTING | CampaignStatus.DRAFT:
            return "reading the recipients", 0, 0
        case CampaignStatus.SCHEDULED if campaign.spec.schedule is not None:
            return f"scheduled for {rfc3339(campaign.spec.schedule.at)}", 0, 0
        case CampaignStatus.SENDING if status.counts.deferred and status.counts.waiting == status.counts.deferred:
            return f"sending ({status.counts.deferred:,} deferred, to be retried)", status.done, status.counts.total
        case other:
            return other.value, status.done, status.counts.total


def _rate(status: StatusReport) -> str:
    return f" {status.per_second:,.0f}/s" if status.done and status.seconds else ""


_LOOK_S = 0.1
_SERVER = "a server runs on this data: it sends, with its own settings; watching"
_OTHER = "another process is working on this campaign: watching"
OVER = frozenset({*ENDED, CampaignStatus.PAUSED})
_PAUSABLE = frozenset({CampaignStatus.READY, CampaignStatus.SCHEDULED, CampaignStatus.SENDING})


def run_and_watch(postroom: Container, ref: CampaignRef) -> StatusReport:
    """Run the campaign, or watch the process that runs it, until it has ended or is paused. Returns its last status."""
    with _terminate_as_interrupt(), Progress() as progress:
        said = ""
        while True:
            note = _SERVER
            if not postroom.is_served():
                note = _OTHER
                with postroom.run_lock(ref) as locked:
                    if locked:
                        return _run(postroom, ref, progress)
            if note != said:
                said = note
                progress.note(note)
            try:
                status = _look(postroom, ref, progress)
                if status.campaign.status in OVER:
                    return status
                postroom.clock.sleep(_LOOK_S)
            except KeyboardInterrupt:
                progress.note("pausing: no new sends")
                _pause(postroom, ref)
                return postroom.status.get(ref)


def _run(postroom: Container, ref: CampaignRef, progress: Progress) -> StatusReport:
    with _mail(postroom) as mail:
        runner = CampaignWorkers(postroom.settings, postroom.clock, ref, mail=mail)
        try:
            runner.start()
            return _tend(postroom, ref, progress, runner)
        except KeyboardInterrupt:
            return _interrupted(postroom, ref, progress, runner)
        finally:
            runner.close()


def _tend(postroom: Container, ref: CampaignRef, progress: Progress, runner: CampaignWorkers) -> StatusReport:
    while True:
        working = runner.tend()
        status = _look(postroom, ref, progress, runner.trouble)
        if not working:
            if status.campaign.status in OVER:
                return status
            runner.start()  # it was paused and resumed between two looks
        postroom.clock.sleep(_LOOK_S)


def _look(postroom: Container, ref: CampaignRef, progress: Progress, trouble: str = "") -> StatusReport:
    status = postroom.status.get(ref)
    progress.show(status, postroom.checkpoints.load(ref), trouble)
    return status


def _interrupted(postroom: Container, ref: CampaignRef, progress: Progress, runner: CampaignWorkers) -> StatusReport:
    progress.note("pausing: no new sends, waiting for what is in flight (Ctrl-C again to abandon it)")
    try:
        _pause(postroom, ref)
        runner.stop()
    except KeyboardInterrupt:
        runner.kill()
        progress.note("abandoned: messages in flight are settled when the campaign is resumed")
    return postroom.status.get(ref)


def _pause(postroom: Container, ref: CampaignRef) -> None:
    """Pause the campaign unless it has ended or is importing: an import stops at its next checkpoint."""
    while postroom.records.get(ref).status in _PAUSABLE:
        with suppress(Conflict):  # a worker changed the record: read it again
            postroom.campaigns.pause(ref, "interrupted")


@contextmanager
def _mail(postroom: Container) -> Iterator[str]:
    """Yield the mail URL for the workers. The built-in inbox runs in this process meanwhile."""
    url = postroom.settings.mail
    if url != "inbox:":
        yield url
        return
    address = postroom.inbox_server.start()
    try:
        yield f"smtp://{address.host}:{address.port}?tls=none"
    finally:
        postroom.inbox_server.stop()


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
