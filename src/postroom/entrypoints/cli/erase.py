"""`postroom erase`: forget a person."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from postroom.entrypoints.cli.output import Data, Json, print_json
from postroom.entrypoints.cli.session import FAILED, operator, say, session
from postroom.model.tenant import DEFAULT_TENANT
from postroom.services.erasure import ErasureFindings


def erase_command(
    address: Annotated[str, typer.Argument(help="Any spelling of it.")],
    tenant: Annotated[str, typer.Option(help="Whose data.")] = DEFAULT_TENANT,
    forget_suppression: Annotated[
        bool, typer.Option("--forget-suppression", help="Also take them off the suppression list: they may be written to again.")
    ] = False,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Forget a person wherever they are known; it cannot be taken back. Statistics stay. Safe to repeat after an interruption.
    Exit code 1: something is being imported or sent and is not erased yet; repeat it later."""
    who = operator(tenant)
    with session(data=data) as postroom:
        key = postroom.erasure.key_of(tenant, address)
        with Console(stderr=True).status("erasing") as shown:
            found = postroom.erasure.erase(
                tenant,
                key,
                forget_suppression=forget_suppression,
                actor=f"{who.kind}:{who.id}",
                progress=lambda step: shown.update(f"erasing: {step}"),
            )
    if as_json:
        print_json({"person": key.hex(), **asdict(found)})
    else:
        _tell(found)
    if not found.complete:
        raise typer.Exit(FAILED)


def _tell(found: ErasureFindings) -> None:
    say(f"messages erased in {len(found.campaigns):,} campaigns, and {found.singles:,} single ones")
    for what, where in (
        ("uploads deleted", found.uploads),
        ("recipients files deleted, of the campaigns", found.files),
        ("reports of rejected rows written anew, of the campaigns", found.reports),
        ("not erased yet, because it is being imported or sent, or is a draft", found.waiting),
    ):
        if where:
            say(f"{what}: {', '.join(where)}")
    if found.mails:
        say(f"mails deleted from the inbox: {found.mails:,}")
    if found.told:
        say(f"taken out of requests to callbacks: {found.told:,}")
    if found.suppressed:
        say("they stay on the suppression list, without their address")
