"""A campaign's result for people, and the exit code that says the same to a shell."""

from __future__ import annotations

import json
import sys

from rich.console import Console
from rich.table import Table

from postroom.entrypoints.cli.session import BAD_INPUT, DONE, FAILED, NOT_ALL_SENT, say
from postroom.model.campaign import CampaignState
from postroom.services.status import Status

_HINTS = {
    "failed": "postroom campaign messages {id} --state failed · postroom campaign retry-failed {id}",
    "bounced": "postroom campaign messages {id} --state bounced",
    "unknown": "handed over, answer never seen: postroom campaign messages {id} --state unknown · postroom campaign settle {id}",
    "rejected": "postroom campaign rejected {id}",
}


def print_status(status: Status, *, as_json: bool) -> None:
    """On standard output."""
    if as_json:
        sys.stdout.write(json.dumps(status.as_dict(), ensure_ascii=False) + "\n")
        return
    shown = status.as_dict()
    table = Table(title=f"{shown['name']} ({shown['id']}): {shown['status']}", title_justify="left", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    counts: dict[str, int] = shown["counts"]
    for name, count in counts.items():
        if count or name in {"rows", "accepted", "sent"}:
            table.add_row(name, f"{count:,}")
    if status.seconds:
        table.add_row("time", f"{status.seconds:,.1f} s")
        table.add_row("messages a second", f"{status.per_second:,.0f}")
    Console(highlight=False).print(table)
    _print_hints(status, counts)


def result_code(status: Status) -> int:
    """0 all sent, 3 finished but not everybody was sent to, 2 a bad upload, 1 anything else (paused, cancelled)."""
    match status.campaign.state:
        case CampaignState.COMPLETED:
            counts = status.counts
            return NOT_ALL_SENT if counts.failed or counts.bounced or counts.unknown or counts.skipped else DONE
        case CampaignState.FAILED:
            return BAD_INPUT
        case _:
            return FAILED


def _print_hints(status: Status, counts: dict[str, int]) -> None:
    campaign = status.campaign
    if campaign.reason:
        say(f"{campaign.state}: {campaign.reason}")
    if campaign.state is CampaignState.PAUSED or campaign.state not in {
        CampaignState.COMPLETED,
        CampaignState.CANCELLED,
        CampaignState.FAILED,
    }:
        say(f"go on with: postroom send --resume {campaign.home.campaign}")
    rejected = counts["invalid"] + counts["duplicate"] + counts["suppressed"]
    for name, count in {**counts, "rejected": rejected}.items():
        if count and name in _HINTS:
            say(f"{count:,} {name}: {_HINTS[name].format(id=campaign.home.campaign)}")
