"""`postroom secrets`: the master keys that passwords, signing keys and uploads are encrypted under."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from postroom.entrypoints.cli.output import Data, Json, print_json, print_rows, shown_time
from postroom.entrypoints.cli.session import FAILED, recorded, say, session
from postroom.ledger.audit import INSTALLATION
from postroom.services.key_rotation import Resealed

app = typer.Typer(help="The master keys that passwords, signing keys and uploads are encrypted under.", no_args_is_help=True)


@app.command()
def show(as_json: Json = False, data: Data = None) -> None:
    """List the master keys by id, the newest first; nothing secret is shown."""
    with session(data=data) as postroom:
        keys = postroom.rotation().known()
    made = [shown_time(key.made_at) if key.made_at else None for key in keys]
    if as_json:
        print_json([{"id": key.id, "made_at": at} for key, at in zip(keys, made, strict=True)])
        return
    print_rows(("key", "made"), [(key.id, at or "-") for key, at in zip(keys, made, strict=True)])
    if not keys:
        say("no key yet: one is made when it is first needed")


@app.command()
def rotate(as_json: Json = False, data: Data = None) -> None:
    """Make a new master key and encrypt everything under it, beside a running server. Exit code 1: something could not be."""
    with session(data=data) as postroom, recorded(postroom, "secrets rotate", tenant=INSTALLATION):
        resealed = postroom.rotation().rotate()
    _report(resealed, as_json=as_json)


@app.command()
def reseal(as_json: Json = False, data: Data = None) -> None:
    """Encrypt under the newest master key whatever is not yet: after a rotation that was interrupted."""
    with session(data=data) as postroom, recorded(postroom, "secrets reseal", tenant=INSTALLATION):
        resealed = postroom.rotation().reseal()
    _report(resealed, as_json=as_json)


@app.command("drop-old")
def drop_old(data: Data = None) -> None:
    """Forget all master keys but the newest. Refused while something needs them, and within 25 hours of `rotate`."""
    with session(data=data) as postroom, recorded(postroom, "secrets drop-old", tenant=INSTALLATION):
        dropped = postroom.rotation().drop_old()
    say(f"{dropped} dropped" if dropped else "there is only one master key")


def _report(resealed: Sequence[Resealed], *, as_json: bool) -> None:
    if as_json:
        print_json([one._asdict() for one in resealed])
    else:
        print_rows(("what", "encrypted again", "could not be"), [(one.owner, str(one.done), str(one.left)) for one in resealed])
    if any(one.left for one in resealed):
        say("what could not be is damaged, or its key is gone; the older keys are still needed if you mean to bring it back")
        raise typer.Exit(FAILED)
    say("nothing is under an older key any more: 25 hours after the rotation `postroom secrets drop-old` forgets them")
