"""`postroom secrets`: the master keys that encrypt passwords, signing keys and uploads."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from postroom.entrypoints.cli.output import Data, Json, print_json, print_rows, shown_time
from postroom.entrypoints.cli.session import FAILED, recorded, say, session
from postroom.ledger.audit import INSTALLATION
from postroom.services.key_rotation import Resealed

app = typer.Typer(help="Master keys that encrypt passwords, signing keys and uploads.", no_args_is_help=True)


@app.command()
def show(as_json: Json = False, data: Data = None) -> None:
    """List the ids of the master keys, newest first."""
    with session(data=data) as postroom:
        keys = postroom.rotation().known()
    created = [shown_time(key.made_at) if key.made_at else None for key in keys]
    if as_json:
        print_json([{"id": key.id, "created_at": at} for key, at in zip(keys, created, strict=True)])
        return
    print_rows(("key", "created"), [(key.id, at or "-") for key, at in zip(keys, created, strict=True)])
    if not keys:
        say("no master key yet: one is created when it is first needed")


@app.command()
def rotate(as_json: Json = False, data: Data = None) -> None:
    """Create a new master key and re-encrypt everything with it, also while a server runs. Exit code 1: some data failed."""
    with session(data=data) as postroom, recorded(postroom, "secrets rotate", tenant=INSTALLATION):
        resealed = postroom.rotation().rotate()
    _report(resealed, as_json=as_json)


@app.command()
def reseal(as_json: Json = False, data: Data = None) -> None:
    """Re-encrypt data that is not under the newest master key, after an interrupted rotation. Exit code 1: some data failed."""
    with session(data=data) as postroom, recorded(postroom, "secrets reseal", tenant=INSTALLATION):
        resealed = postroom.rotation().reseal()
    _report(resealed, as_json=as_json)


@app.command("drop-old")
def drop_old(data: Data = None) -> None:
    """Delete all master keys but the newest. Refused while data needs them, and within 25 hours of `rotate`."""
    with session(data=data) as postroom, recorded(postroom, "secrets drop-old", tenant=INSTALLATION):
        dropped = postroom.rotation().drop_old()
    say(f"{dropped} deleted" if dropped else "there is only one master key")


def _report(resealed: Sequence[Resealed], *, as_json: bool) -> None:
    if as_json:
        print_json([one._asdict() for one in resealed])
    else:
        print_rows(("data", "re-encrypted", "failed"), [(one.owner, str(one.done), str(one.left)) for one in resealed])
    if any(one.left for one in resealed):
        say("failed data is damaged or its key is missing; keep the older keys if you want to recover it")
        raise typer.Exit(FAILED)
    say("no data needs an older key: delete them 25 hours after the rotation with `postroom secrets drop-old`")
