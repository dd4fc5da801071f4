"""`postroom send --dry-run`: everything but the sending: recipients imported, every message composed, then all forgotten."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from postroom.delivery.compose import Composer, RowError
from postroom.entrypoints.cli.listing import every_message
from postroom.entrypoints.cli.making import create
from postroom.entrypoints.cli.session import DONE, NOT_ALL_SENT, say
from postroom.errors import Conflict, Invalid
from postroom.model.campaign import Campaign, CampaignRef, CampaignSpec, CampaignStatus
from postroom.model.message import Message, Recipient
from postroom.services.campaign_creation import CampaignParts
from postroom.wiring import Container

_SHOWN = 20


def dry_run(
    postroom: Container, spec: CampaignSpec, parts: CampaignParts, recipients: Path, *, tenant: str, as_json: bool
) -> int:
    """The exit code: 0, or 3 where some message could not be composed. `Invalid`: the upload cannot be used."""
    ref = create(postroom, spec, parts, recipients, tenant=tenant, start=False)
    try:
        campaign = _imported(postroom, ref)
        return _compose_all(postroom, campaign, as_json=as_json)
    finally:
        _forget(postroom, ref)


def _imported(postroom: Container, ref: CampaignRef) -> Campaign:
    postroom.splitter.run(ref, alive=lambda: True)
    campaign = postroom.records.get(ref)
    if campaign.status is CampaignStatus.FAILED:
        raise Invalid(campaign.reason or "the recipients cannot be imported")
    return campaign


def _compose_all(postroom: Container, campaign: Campaign, *, as_json: bool) -> int:
    composer = postroom.composing.load(campaign)
    first: bytes | None = None
    problems: list[str] = []
    accepted = largest = 0
    for message in every_message(postroom, campaign.ref):
        accepted += 1
        try:
            content = _compose(composer, message, postroom)
        except RowError as error:
            problems.append(str(error))
            continue
        largest = max(largest, len(content))
        first = first or content
    source = campaign.source
    result = {
        "rows": source.rows,
        "accepted": accepted,
        "invalid": source.invalid,
        "duplicate": source.duplicate,
        "suppressed": source.suppressed,
        "not_composed": len(problems),
        "largest_message_bytes": largest,
        "problems": problems[:_SHOWN],
    }
    if as_json:
        sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
    else:
        _print(result, problems, first)
    return NOT_ALL_SENT if problems else DONE


def _compose(composer: Composer, message: Message, postroom: Container) -> bytes:
    recipient = Recipient(
        message.key, message.line, message.address, message.name, message.values, message.status, message.attempt
    )
    return composer.compose(message.batch, recipient, postroom.clock.now()).content


def _print(result: dict[str, object], problems: list[str], first: bytes | None) -> None:
    if first is not None:
        sys.stdout.write(
            "The first message, as it would leave:\n\n" + first.decode("utf-8", "replace").replace("\r\n", "\n") + "\n"
        )
    for name, value in result.items():
        if name != "problems":
            sys.stdout.write(f"{name.replace('_', ' ')}: {value:,}\n")
    for problem in problems[:_SHOWN]:
        say(problem)
    if len(problems) > _SHOWN:
        say(f"… and {len(problems) - _SHOWN:,} more")
    say("dry run: nothing was sent, nothing is kept")


def _forget(postroom: Container, ref: CampaignRef) -> None:
    try:
        postroom.campaigns.delete(ref)
    except Conflict:  # interrupted in the middle of its import
        postroom.campaigns.cancel(ref)
        postroom.campaigns.delete(ref)
