"""Progress on standard error: a bar with rate and time left on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from postroom.clock import rfc3339
from postroom.entrypoints.cli.session import say
from postroom.model.campaign import CampaignStatus
from postroom.pipeline.splitter import Checkpoint
from postroom.services.status import StatusReport

_PLAIN_EVERY_S = 5.0


class Progress:
    """Shows one campaign."""

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
        """A line that stays."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False)
        else:
            say(text)

    def show(self, status: StatusReport, checkpoint: Checkpoint | None, trouble: str) -> None:
        """The campaign as it is now; `trouble` is what keeps it from going on."""
        if trouble != self._trouble:
            self._trouble = trouble
            self.note(f"waiting: {trouble}" if trouble else "going on")
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
    """What is going on, how much is done, of how much (0: not known)."""
    campaign = status.campaign
    match campaign.status:
        case CampaignStatus.IMPORTING if checkpoint is not None:
            return "importing", checkpoint.sums.rows, checkpoint.plan.rows
        case CampaignStatus.IMPORTING | CampaignStatus.DRAFT:
            return "reading the recipients", 0, 0
        case CampaignStatus.SCHEDULED if campaign.spec.schedule is not None:
            return f"scheduled for {rfc3339(campaign.spec.schedule.at)}", 0, 0
        case CampaignStatus.SENDING if status.counts.deferred and status.counts.waiting == status.counts.deferred:
            return f"sending ({status.counts.deferred:,} refused for now, to be tried again)", status.done, status.counts.total
        case other:
            return other.value, status.done, status.counts.total


def _rate(status: StatusReport) -> str:
    return f" {status.per_second:,.0f}/s" if status.done and status.seconds else ""
