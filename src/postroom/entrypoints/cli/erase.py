"""`postroom erase`: erase a person's data."""

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
    address: Annotated[str, typer.Argument(help="E-mail address in any spelling.")],
    tenant: Annotated[str, typer.Option(help="Tenant that owns the data.")] = DEFAULT_TENANT,
    forget_suppression: Annotated[
        bool,
        typer.Option("--forget-suppression", help="Also remove the person from the suppression list; they may be sent to again."),
    ] = False,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Erase all data about a person; it cannot be undone. Statistics are kept. Safe to repeat after an interruption.

    Exit code 1: some data is being imported or sent and is not erased yet; repeat the command later."""
    actor = operator(tenant)
    with session(data=data) as postroom:
        key = postroom.erasure.key_of(tenant, address)
        with Console(stderr=True).status("erasing") as shown:
            found = postroom.erasure.erase(
                tenant,
                key,
                forget_suppression=forget_suppression,
                actor=f"{actor.kind}:{actor.id}",
                progress=lambda step: shown.update(f"erasing: {step}"),
            )
    if as_json:
        print_json({"person": key.hex(), **asdict(found)})
    else:
        _print_findings(found)
    if not found.complete:
        raise typer.Exit(FAILED)


def _print_findings(found: ErasureFindings) -> None:
    say(f"messages erased in {len(found.campaigns):,} campaigns, and {found.singles:,} transactional messages")
    for what, where in (
        ("uploads deleted", found.uploads),
        ("recipients files deleted, of the campaigns", found.files),
        ("reports of rejected rows rewritten, of the campaigns", found.reports),
        ("not erased yet, because it is being imported or sent, or is a draft", found.waiting),
    ):
        if where:
            say(f"{what}: {', '.join(where)}")
    if found.mails:
        say(f"messages deleted from the inbox: {found.mails:,}")
    if found.told:
        say(f"removed from callback deliveries: {found.told:,}")
    if found.suppressed:
        say("the person stays on the suppression list, without the address")
