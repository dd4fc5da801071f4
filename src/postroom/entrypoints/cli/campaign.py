"""All messages of a campaign, and its files, for commands that show them.

`postroom campaign …`: look at campaigns and operate them. Sending itself is `postroom send`, here or in another window.
"""

from __future__ import annotations

import shutil
import sys
from contextlib import AbstractContextManager
from typing import Annotated

import orjson
import typer

from postroom.entrypoints.cli.output import Data, Json, OfTenant, print_json, print_rows, printable, shown_time
from postroom.entrypoints.cli.progress import print_status
from postroom.entrypoints.cli.session import Change, recorded, say, session, tenant_option, tenant_session
from postroom.errors import Invalid
from postroom.model.campaign import Campaign, CampaignRef
from postroom.model.message import Message, MessageStatus
from postroom.model.tenant import DEFAULT_TENANT
from postroom.model.tokens import message_id
from postroom.services.campaigns import Decision
from postroom.services.messages import message_record
from postroom.services.status import StatusReport
from postroom.wiring import Container

app = typer.Typer(help="List, inspect and control campaigns.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="Campaign id, from `postroom campaign list`.")]
StatusOption = Annotated[
    str | None, typer.Option(help="Only messages with this status, e.g. failed, bounced, unknown, deferred.")
]


@app.command("list")
def list_command(
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Maximum number of campaigns.")] = 100,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """List campaigns, newest first."""
    with tenant_session(tenant, data) as postroom:
        found = postroom.status.list(tenant, limit=limit)
    if as_json:
        print_json([status.as_dict() for status in found])
        return
    if not found:
        say("no campaigns yet: create one with `postroom send`, or try `postroom demo`")
        return
    print_rows(("id", "status", "accepted", "done", "created", "name"), [_line(status) for status in found])


@app.command()
def show(campaign: Id, tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:
    """Show a campaign's status and counts."""
    with session(data=data) as postroom:
        print_status(postroom.status.get(_ref(postroom, tenant, campaign)), as_json=as_json)


@app.command()
def pause(campaign: Id, tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:
    """Pause a campaign: new sends stop within a second, messages in flight are drained."""
    with session(data=data) as postroom:
        ref = _ref(postroom, tenant, campaign)
        with _recorded(postroom, "pause", ref):
            postroom.campaigns.pause(ref, "paused by an operator")
    say(f"paused; go on with: postroom send --resume {campaign}{tenant_option(tenant)}")


@app.command()
def resume(campaign: Id, tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:
    """Resume a paused campaign where it stopped."""
    with session(data=data) as postroom:
        ref = _ref(postroom, tenant, campaign)
        with _recorded(postroom, "resume", ref):
            postroom.campaigns.resume(ref)
        say("resumed")
        _hint_if_idle(postroom, ref)


@app.command()
def cancel(campaign: Id, tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:
    """Cancel a campaign for good: recipients still waiting are skipped."""
    with session(data=data) as postroom:
        ref = _ref(postroom, tenant, campaign)
        with _recorded(postroom, "cancel", ref):
            skipped = postroom.campaigns.cancel(ref)
    say(f"cancelled; {skipped:,} recipients were skipped")


@app.command("retry-failed")
def retry_failed(campaign: Id, tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:
    """Retry failed messages; bounced addresses are not retried."""
    with session(data=data) as postroom:
        ref = _ref(postroom, tenant, campaign)
        with _recorded(postroom, "retry-failed", ref):
            retried = postroom.campaigns.retry_failed(ref)
        say(f"{retried:,} messages will be retried" if retried else "no message has failed: nothing to retry")
        if retried:
            _hint_if_idle(postroom, ref)


@app.command()
def settle(
    campaign: Id,
    decision: Annotated[
        Decision, typer.Argument(help="What happened to messages with status unknown: sent or failed; resend to send them again.")
    ],
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """Settle messages with status unknown: their reply was never seen."""
    with session(data=data) as postroom:
        ref = _ref(postroom, tenant, campaign)
        with _recorded(postroom, "settle", ref):
            settled = postroom.campaigns.settle(ref, decision)
        say(f"{settled:,} messages settled: {decision}")
        if settled and decision is Decision.RESEND:
            _hint_if_idle(postroom, ref)


@app.command()
def messages(
    campaign: Id,
    status: StatusOption = None,
    limit: Annotated[int, typer.Option(help="Maximum number of messages.")] = 100,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """List messages with their status and last reply."""
    with session(data=data) as postroom:
        ref = _ref(postroom, tenant, campaign)
        record = postroom.records.get(ref)
        shown = 0
        for message in postroom.exports.every_message(ref, _statuses(status)):
            if shown == limit:
                say(f"… and more: --limit, or `postroom campaign export {campaign}{tenant_option(tenant)}`")
                break
            shown += 1
            if as_json:
                print_json(_as_dict(record, message))
            else:
                reply = f"{message.code or ''} {message.reply}".strip()
                sys.stdout.write(printable(f"{message.address}  {message.status.label}  {reply}".rstrip()) + "\n")
        if not shown:
            say("no matching messages")


@app.command()
def rejected(campaign: Id, tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:
    """Export rejected rows as CSV: line, address, reason."""
    with session(data=data) as postroom:
        key = postroom.records.get(_ref(postroom, tenant, campaign)).source.rejected_key
        if key is None:
            say("no rows were rejected, or the import has not finished")
            return
        with postroom.objects.open(key) as report:
            shutil.copyfileobj(report, sys.stdout.buffer)


@app.command()
def export(campaign: Id, status: StatusOption = None, tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:
    """Export all messages as CSV: line, address, status, attempts, last reply, and the row's cells."""
    with session(data=data) as postroom:
        sys.stdout.writelines(postroom.exports.messages_csv(_ref(postroom, tenant, campaign), _statuses(status)))


@app.command()
def delete(
    campaign: Id,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """Delete an ended campaign with its messages, template and recipients. It cannot be undone."""
    with session(data=data) as postroom:
        record = postroom.records.get(_ref(postroom, tenant, campaign))
        if not yes:
            typer.confirm(f"Delete {record.spec.name} ({campaign}) and all its messages for good?", abort=True)
        with _recorded(postroom, "delete", record.ref):
            postroom.campaigns.delete(record.ref)
    say("deleted")


def _line(status: StatusReport) -> tuple[str, ...]:
    campaign, counts = status.campaign, status.counts
    created = shown_time(campaign.created_at)
    return campaign.ref.campaign, campaign.status.value, f"{counts.total:,}", f"{status.done:,}", created, campaign.spec.name


def _ref(postroom: Container, tenant: str, campaign: str) -> CampaignRef:
    postroom.tenants.read(tenant)
    return CampaignRef(tenant, campaign)


def _recorded(postroom: Container, command: str, ref: CampaignRef) -> AbstractContextManager[Change]:
    return recorded(postroom, f"campaign {command}", tenant=ref.tenant, target=f"campaign/{ref.campaign}")


def _statuses(status: str | None) -> set[MessageStatus]:
    if status is None:
        return set()
    by_label = {each.label: each for each in MessageStatus}
    if status not in by_label:
        raise Invalid(f"--status {status}: must be one of {', '.join(by_label)}")
    return {by_label[status]}


def _as_dict(campaign: Campaign, message: Message) -> dict[str, object]:
    return {
        "id": message_id(campaign.ref, message.key),
        "line": message.line,
        **message_record(message),
        "values": dict(zip(campaign.source.columns, orjson.loads(message.values), strict=False)),
    }


def _hint_if_idle(postroom: Container, ref: CampaignRef) -> None:
    if postroom.is_served():
        return
    with postroom.run_lock(ref) as idle:
        if idle:
            say(f"no process is working on it now: postroom send --resume {ref.campaign}{tenant_option(ref.tenant)}")
