"""A campaign's result for people, and the exit code that says the same to a shell."""

from __future__ import annotations

import sys

from postroom.entrypoints.cli.operating import of_tenant
from postroom.entrypoints.cli.output import print_json, printable, shown_time
from postroom.entrypoints.cli.session import BAD_INPUT, DONE, FAILED, NOT_ALL_SENT, say
from postroom.model.campaign import ENDED, CampaignStatus
from postroom.services.status import StatusReport

_ALWAYS = frozenset({"rows", "accepted", "sent"})
_HINTS = {
    "failed": "postroom campaign messages {id} --state failed · postroom campaign retry-failed {id}",
    "bounced": "postroom campaign messages {id} --state bounced",
    "unknown": "handed over, answer never seen: postroom campaign messages {id} --state unknown · "
    "postroom campaign settle {id} sent (or failed, resend)",
    "rejected": "postroom campaign rejected {id}",
}


def print_status(status: StatusReport, *, as_json: bool) -> None:
    """On standard output."""
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
    """0 all sent, 3 finished but not everybody was sent to, 2 a bad upload, 1 anything else (paused, cancelled)."""
    match status.campaign.status:
        case CampaignStatus.COMPLETED:
            counts = status.counts
            return NOT_ALL_SENT if counts.failed or counts.bounced or counts.unknown or counts.skipped or counts.waiting else DONE
        case CampaignStatus.FAILED:
            return BAD_INPUT
        case _:
            return FAILED


def _print_hints(status: StatusReport, counts: dict[str, int]) -> None:
    campaign, whose = status.campaign, of_tenant(status.campaign.ref.tenant)
    if campaign.reason:
        say(f"{campaign.status}: {campaign.reason}")
    if status.waiting_for:
        say(f"waiting: {status.waiting_for}")
    if campaign.spec.schedule is not None and campaign.status is CampaignStatus.SCHEDULED:
        say(
            f"starts at {shown_time(campaign.spec.schedule.at)} where a server runs; else wait for it: "
            f"postroom send --resume {campaign.ref.campaign}{whose}"
        )
    elif campaign.status not in ENDED:
        say(f"go on with: postroom send --resume {campaign.ref.campaign}{whose}")
    rejected = counts["invalid"] + counts["duplicate"] + counts["suppressed"]
    for name, count in {**counts, "rejected": rejected}.items():
        if count and name in _HINTS:
            say(f"{count:,} {name}: {_HINTS[name].format(id=f'{campaign.ref.campaign}{whose}')}")
