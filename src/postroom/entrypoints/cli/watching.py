"""Waiting for a campaign before the user's eyes: workers tended, progress shown, Ctrl-C understood.

Beside a running server the campaign is the server's to send, with its settings, and is only watched; should the server end
meanwhile, this command takes over. The first Ctrl-C (or SIGTERM) pauses the campaign and drains what is in flight; a second one
abandons it: the workers are killed, and what they had in flight is settled by whoever resumes.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from postroom.entrypoints.cli.progress import Progress
from postroom.entrypoints.server.supervisor import CampaignWorkers
from postroom.errors import Conflict
from postroom.model.campaign import ENDED, CampaignRef, CampaignStatus
from postroom.services.status import StatusReport
from postroom.wiring import Container

_LOOK_S = 0.1
_SERVER = "a server runs on this data: it sends, with its own settings; watching"
_OTHER = "somebody else is already working on this campaign: watching"
OVER = frozenset({*ENDED, CampaignStatus.PAUSED})
_PAUSABLE = frozenset({CampaignStatus.READY, CampaignStatus.SCHEDULED, CampaignStatus.SENDING})


def run_and_watch(postroom: Container, ref: CampaignRef) -> StatusReport:
    """Work on the campaign, or watch whoever does, until it has ended or is paused; its last status."""
    with _terminate_as_interrupt(), Progress() as progress:
        said = ""
        while True:
            who = _SERVER
            if not postroom.is_served():
                who = _OTHER
                with postroom.run_lock(ref) as alone:
                    if alone:
                        return _run(postroom, ref, progress)
            if who != said:
                said = who
                progress.note(who)
            try:
                status = _look(postroom, ref, progress)
                if status.campaign.status in OVER:
                    return status
                postroom.clock.sleep(_LOOK_S)
            except KeyboardInterrupt:
                progress.note("pausing: whoever sends it sends no more")
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
            runner.start()  # it was paused, and resumed before we looked
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
        progress.note("abandoned: what was in flight is settled when the campaign is resumed")
    return postroom.status.get(ref)


def _pause(postroom: Container, ref: CampaignRef) -> None:
    """Pause it, unless it has ended, or is importing: an import stops at its next checkpoint."""
    while postroom.records.get(ref).status in _PAUSABLE:
        with suppress(Conflict):  # a worker changed the record in this moment: look again
            postroom.campaigns.pause(ref, "interrupted")


@contextmanager
def _mail(postroom: Container) -> Iterator[str]:
    """Where the workers deliver to: the built-in inbox runs in this process, for as long."""
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
