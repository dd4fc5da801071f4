"""`postroom campaign …`: look at campaigns and operate them. Sending itself is `postroom send`, here or in another window."""

from __future__ import annotations

import shutil
import sys
from typing import Annotated

import orjson
import typer

from postroom.entrypoints.cli.listing import every_message, exports
from postroom.entrypoints.cli.options import Data, Json
from postroom.entrypoints.cli.output import print_json, print_rows, printable, shown_time
from postroom.entrypoints.cli.report import print_status
from postroom.entrypoints.cli.session import say, session
from postroom.errors import Invalid
from postroom.model.campaign import Campaign, Home
from postroom.model.message import Message, MessageState
from postroom.model.tenant import DEFAULT_TENANT
from postroom.services.campaigns import Decision
from postroom.services.status import Status, rfc3339
from postroom.wiring import Postroom

campaign_app = typer.Typer(help="Look at campaigns and operate them.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The campaign's id, as `postroom campaign list` shows it.")]
State = Annotated[str | None, typer.Option(help="Only messages in this state, e.g. failed, bounced, unknown, deferred.")]


@campaign_app.command("list")
def list_command(
    as_json: Json = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many at most, the newest first.")] = 100,
    data: Data = None,
) -> None:
    """The campaigns there are, newest first."""
    with session(data=data) as postroom:
        found = postroom.status.list(DEFAULT_TENANT, limit=limit)
    if as_json:
        print_json([status.as_dict() for status in found])
        return
    if not found:
        say("no campaigns yet: `postroom send` makes one, `postroom demo` shows how")
        return
    print_rows(("id", "status", "accepted", "done", "created", "name"), [_line(status) for status in found])


@campaign_app.command()
def show(campaign: Id, as_json: Json = False, data: Data = None) -> None:
    """One campaign in numbers."""
    with session(data=data) as postroom:
        print_status(postroom.status.get(_home(campaign)), as_json=as_json)


@campaign_app.command()
def pause(campaign: Id, data: Data = None) -> None:
    """Stop new sends within a second; what is in flight is drained."""
    with session(data=data) as postroom:
        postroom.campaigns.pause(_home(campaign), "paused by hand")
    say(f"paused; go on with: postroom send --resume {campaign}")


@campaign_app.command()
def resume(campaign: Id, data: Data = None) -> None:
    """Let it go on where it stopped."""
    with session(data=data) as postroom:
        postroom.campaigns.resume(_home(campaign))
        _say_who_works(postroom, campaign)


@campaign_app.command()
def cancel(campaign: Id, data: Data = None) -> None:
    """End it for good: whoever still waits is skipped."""
    with session(data=data) as postroom:
        skipped = postroom.campaigns.cancel(_home(campaign))
    say(f"cancelled; {skipped:,} recipients were skipped")


@campaign_app.command("retry-failed")
def retry_failed(campaign: Id, data: Data = None) -> None:
    """Try everybody who failed again (not refused addresses)."""
    with session(data=data) as postroom:
        retried = postroom.campaigns.retry_failed(_home(campaign))
        say(f"{retried:,} recipients are to be tried again" if retried else "nobody failed: nothing to do")
        if retried:
            _say_who_works(postroom, campaign)


@campaign_app.command()
def settle(
    campaign: Id,
    decision: Annotated[Decision, typer.Argument(help="What is known, or wanted, of messages in state unknown.")],
    data: Data = None,
) -> None:
    """Decide what became of messages whose answer was never seen."""
    with session(data=data) as postroom:
        settled = postroom.campaigns.settle(_home(campaign), decision)
        say(f"{settled:,} messages settled: {decision}")
        if settled and decision is Decision.RESEND:
            _say_who_works(postroom, campaign)


@campaign_app.command()
def messages(
    campaign: Id,
    state: State = None,
    limit: Annotated[int, typer.Option(help="How many at most.")] = 100,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Messages and their last reply."""
    with session(data=data) as postroom:
        home = _home(campaign)
        record = postroom.records.get(home)
        shown = 0
        for message in every_message(postroom, home, _states(state)):
            if shown == limit:
                say(f"… and more: --limit, or `postroom campaign export {campaign}`")
                break
            shown += 1
            if as_json:
                print_json(_as_dict(record, message))
            else:
                reply = f"  {message.code or ''} {message.reply}".rstrip()
                sys.stdout.write(printable(f"{message.address}  {message.state.label}{reply}") + "\n")
        if not shown:
            say("no such messages")


@campaign_app.command()
def rejected(campaign: Id, data: Data = None) -> None:
    """Rows that are no recipients, as CSV: line, address, reason."""
    with session(data=data) as postroom:
        key = postroom.records.get(_home(campaign)).source.rejected_key
        if key is None:
            say("no row was rejected, or the import is not done")
            return
        with postroom.objects.open(key) as report:
            shutil.copyfileobj(report, sys.stdout.buffer)


@campaign_app.command()
def export(campaign: Id, state: State = None, data: Data = None) -> None:
    """Every message as CSV: line, address, state, attempts, last reply, and the row's own cells."""
    with session(data=data) as postroom:
        sys.stdout.writelines(exports(postroom).messages_csv(_home(campaign), _states(state)))


@campaign_app.command()
def delete(
    campaign: Id,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = None,
) -> None:
    """Forget an ended campaign: its messages, template and recipients. It cannot be undone."""
    with session(data=data) as postroom:
        record = postroom.records.get(_home(campaign))
        if not yes:
            typer.confirm(f"Delete {record.name} ({campaign}) and all its messages for good?", abort=True)
        postroom.campaigns.delete(record.home)
    say("deleted")


def _line(status: Status) -> tuple[str, ...]:
    campaign, counts = status.campaign, status.counts
    created = shown_time(campaign.created_at)
    return campaign.home.campaign, campaign.state.value, f"{counts.total:,}", f"{status.done:,}", created, campaign.name


def _home(campaign: str) -> Home:
    return Home(DEFAULT_TENANT, campaign)


def _states(state: str | None) -> set[MessageState]:
    if state is None:
        return set()
    by_label = {each.label: each for each in MessageState}
    if state not in by_label:
        raise Invalid(f"--state {state}: one of {', '.join(by_label)}")
    return {by_label[state]}


def _as_dict(campaign: Campaign, message: Message) -> dict[str, object]:
    return {
        "line": message.line,
        "address": message.address,
        "name": message.name,
        "state": message.state.label,
        "attempts": message.attempt,
        "at": rfc3339(message.at),
        "due": rfc3339(message.due),
        "code": message.code or None,
        "reply": message.reply or None,
        "provider_id": message.provider_id,
        "values": dict(zip(campaign.source.columns, orjson.loads(message.values), strict=False)),
    }


def _say_who_works(postroom: Postroom, campaign: str) -> None:
    with postroom.run_lock(_home(campaign)) as nobody:
        if nobody:
            say(f"nobody is working on it now: postroom send --resume {campaign}")
