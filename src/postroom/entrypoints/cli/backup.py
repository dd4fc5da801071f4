"""`postroom backup` and `postroom restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from postroom.entrypoints.cli.output import Data, Json, print_json, shown_time
from postroom.entrypoints.cli.session import load_settings, of_tenant, say
from postroom.model.backup import BackupSummary
from postroom.wiring.doctor import backups


def backup_command(
    directory: Annotated[Path, typer.Argument(help="A new or empty directory, best on another disk.")],
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Copy everything, consistently, while mail may be being sent."""
    copied = backups(load_settings(data=data)).backup(directory, _quiet)
    if as_json:
        print_json(_as_dict(copied))
    else:
        say(f"{_size(copied)} as of {shown_time(copied.created_at)} are in {directory}")


def restore_command(
    directory: Annotated[Path, typer.Argument(help="What `postroom backup` made.")],
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Bring a backup back into a data directory that is new or empty. Campaigns that were under way wait, paused."""
    settings = load_settings(data=data)
    restored = backups(settings).restore(directory, _quiet)
    if as_json:
        print_json({**_as_dict(restored.copied), "held": [ref.campaign for ref in restored.held], "in_doubt": restored.in_doubt})
        return
    say(f"{_size(restored.copied)} as of {shown_time(restored.copied.created_at)} are back in {settings.data}")
    if restored.held:
        say("These campaigns were under way. What was sent after the backup is not known here and would be sent again:")
        for ref in restored.held:
            say(f"  {ref.campaign}: postroom campaign show, resume or cancel {ref.campaign}{of_tenant(ref.tenant)}")
    if restored.in_doubt:
        say(f"{restored.in_doubt:,} single messages were waiting. Whether they were sent after that is not known: they are not.")


def _quiet(name: str) -> None:
    """A copy is quick; its end is what matters."""


def _size(copied: BackupSummary) -> str:
    return f"{copied.files:,} files ({copied.size / 1_000_000:,.1f} MB)"


def _as_dict(copied: BackupSummary) -> dict[str, object]:
    return {"created_at": shown_time(copied.created_at), "files": copied.files, "size": copied.size}
