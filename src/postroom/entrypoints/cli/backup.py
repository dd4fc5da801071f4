"""`postroom backup` and `postroom restore`: a consistent copy of a data directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from postroom.entrypoints.cli.output import Data, Json, print_json, shown_time
from postroom.entrypoints.cli.session import load_settings, say, tenant_option
from postroom.model.backup import BackupSummary
from postroom.wiring.doctor import backups


def backup_command(
    directory: Annotated[Path, typer.Argument(help="New or empty target directory, preferably on another disk.")],
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Back up the data directory consistently, also while mail is being sent."""
    copied = backups(load_settings(data=data)).backup(directory, _quiet)
    if as_json:
        print_json(_as_dict(copied))
    else:
        say(f"{_size(copied)} as of {shown_time(copied.created_at)} saved in {directory}")


def restore_command(
    directory: Annotated[Path, typer.Argument(help="Directory written by `postroom backup`.")],
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Restore a backup into a new or empty data directory. Campaigns that were running are paused."""
    settings = load_settings(data=data)
    restored = backups(settings).restore(directory, _quiet)
    if as_json:
        print_json({**_as_dict(restored.copied), "held": [ref.campaign for ref in restored.held], "in_doubt": restored.in_doubt})
        return
    say(f"{_size(restored.copied)} as of {shown_time(restored.copied.created_at)} restored to {settings.data}")
    if restored.held:
        say("These campaigns were running. Messages sent after the backup are not known here and would be sent again:")
        for ref in restored.held:
            say(f"  {ref.campaign}: postroom campaign show, resume or cancel {ref.campaign}{tenant_option(ref.tenant)}")
    if restored.in_doubt:
        say(f"{restored.in_doubt:,} transactional messages were waiting. They may have been sent since, so they are not sent.")


def _quiet(name: str) -> None:
    """Ignore progress: a copy takes little time."""


def _size(copied: BackupSummary) -> str:
    return f"{copied.files:,} files ({copied.size / 1_000_000:,.1f} MB)"


def _as_dict(copied: BackupSummary) -> dict[str, object]:
    return {"created_at": shown_time(copied.created_at), "files": copied.files, "size": copied.size}
