"""`postroom send`: one campaign through the pipeline to completion."""

from __future__ import annotations

import mimetypes
from datetime import datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from postroom.clock import Instant
from postroom.entrypoints.cli.dry_run import dry_run
from postroom.entrypoints.cli.report import print_status, result_code
from postroom.entrypoints.cli.session import say, session
from postroom.entrypoints.cli.watching import run_and_watch
from postroom.errors import Invalid
from postroom.model.campaign import Home, MissingPolicy, Policies, Schedule, UnknownPolicy
from postroom.model.tenant import DEFAULT_TENANT
from postroom.services.campaigns import AttachedFile, Draft
from postroom.settings import Settings
from postroom.wiring import DEFAULT_PROVIDER, Postroom

_NEEDED = ("template", "recipients", "from", "subject")


def send_command(
    template: Annotated[Path | None, typer.Option(help="HTML or MJML (*.mjml) template, Jinja2 syntax.")] = None,
    recipients: Annotated[Path | None, typer.Option(help="CSV of recipients; each column is a variable.")] = None,
    from_: Annotated[str, typer.Option("--from", help="Sender: an address, or 'Name <address>'.")] = "",
    subject: Annotated[str, typer.Option(help="Subject; may use variables.")] = "",
    text: Annotated[Path | None, typer.Option(help="Text template; derived from the HTML when not given.")] = None,
    reply_to: Annotated[str | None, typer.Option(help="Where answers go.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the campaign; the template's file name when not given.")] = None,
    rate: Annotated[float | None, typer.Option(help="Recipients a second, at most, over all workers.")] = None,
    at: Annotated[
        str | None, typer.Option(help="Start then: 2026-12-01T09:00[+01:00], with --timezone when it has no offset.")
    ] = None,
    timezone: Annotated[str, typer.Option(help="IANA zone of --at, e.g. Europe/Paris.")] = "UTC",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Variable for everybody, k=v; a column of the same name wins.")
    ] = None,
    email_column: Annotated[
        str | None, typer.Option(help="Column with the addresses; recognised by its heading when not given.")
    ] = None,
    unknown: Annotated[
        UnknownPolicy, typer.Option(help="A message whose answer was never seen: report it, or send it again.")
    ] = UnknownPolicy.NEVER_TWICE,
    missing: Annotated[
        MissingPolicy, typer.Option(help="A row without a value the template needs: an error, or empty text.")
    ] = MissingPolicy.ERROR,
    attach: Annotated[list[Path] | None, typer.Option(help="File for every message; again for more.")] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this campaign: after a pause, a crash, a kill.")] = None,
    dry_run_: Annotated[
        bool, typer.Option("--dry-run", help="Check template and recipients, compose every message, send nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
    data: Annotated[Path | None, typer.Option(help="Data directory; POSTROOM_DATA.")] = None,
    workers: Annotated[int | None, typer.Option(help="Sender processes; POSTROOM_WORKERS.")] = None,
    mail: Annotated[str | None, typer.Option(help="Where mail leaves: inbox: or smtp://…; POSTROOM_MAIL.")] = None,
) -> None:
    """Send a template to the recipients of a CSV, and see it through.

    Ctrl-C pauses cleanly, a second one abandons; --resume goes on. Exit code: 0 everybody was sent to, 3 finished but some
    were not, 2 bad input, 1 anything else.
    """
    with session(data=data, workers=workers, mail=mail) as postroom:
        if resume is not None:
            home = Home(DEFAULT_TENANT, resume)
            postroom.campaigns.resume(home)
        else:
            given = dict(zip(_NEEDED, (template, recipients, from_, subject), strict=True))
            absent = [f"--{option}" for option, value in given.items() if not value]
            if absent or template is None or recipients is None:
                raise Invalid(f"missing {', '.join(absent)} (or --resume ID to go on with a campaign)")
            draft = Draft(
                name=name or template.stem,
                html=read_template(template),
                text=read_text(text) if text is not None else None,
                subject=subject,
                from_=from_,
                reply_to=reply_to,
                variables=_variables(set_ or []),
                missing=missing,
                attachments=tuple(_attached(path) for path in attach or []),
                provider=DEFAULT_PROVIDER,
                schedule=_schedule(at, timezone, postroom) if at else None,
                policies=_policies(postroom.settings, rate, unknown),
                email_column=email_column,
                start=not dry_run_,
            )
            if dry_run_:
                raise typer.Exit(dry_run(postroom, draft, recipients, as_json=as_json))
            home = create(postroom, draft, recipients)
        finish(postroom, home, as_json=as_json)


def create(postroom: Postroom, draft: Draft, recipients: Path) -> Home:
    """Make the campaign and say its id, so that whoever is killed from here on can be resumed."""
    try:
        with recipients.open("rb") as upload:
            home = postroom.campaigns.create(DEFAULT_TENANT, draft, upload, recipients.name).home
    except OSError as error:
        raise Invalid(f"--recipients {recipients} cannot be read: {error.strerror}") from error
    say(f"campaign {home.campaign}")
    return home


def finish(postroom: Postroom, home: Home, *, as_json: bool) -> None:
    """See it through, print the result, exit."""
    status = run_and_watch(postroom, home, quiet=False)
    print_status(status, as_json=as_json)
    raise typer.Exit(result_code(status))


def read_template(path: Path) -> str:
    """HTML, compiled from MJML where the file is that."""
    source = read_text(path)
    if path.suffix.lower() != ".mjml":
        return source
    from postroom.delivery.mjml import compile_mjml  # loads a compiler that most campaigns do not need

    return compile_mjml(source)


def read_text(path: Path) -> str:
    """A UTF-8 file; `Invalid`."""
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error


def _attached(path: Path) -> AttachedFile:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Invalid(f"--attach {path} cannot be read: {error.strerror}") from error
    kind, encoding = mimetypes.guess_type(path.name)
    return AttachedFile(path.name, kind if kind and not encoding else "application/octet-stream", content)


def _variables(given: list[str]) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in given]
    for name, equals, _ in pairs:
        if not equals or not name.isidentifier():
            raise Invalid(f"--set {name}{equals}: write name=value, the name in letters, digits and _")
    return {name: value for name, _, value in pairs}


def _schedule(at: str, timezone: str, postroom: Postroom) -> Schedule:
    try:
        when = datetime.fromisoformat(at)
    except ValueError as error:
        raise Invalid(f"--at {at}: write 2026-12-01T09:00 or 2026-12-01T09:00+01:00") from error
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise Invalid(f"--timezone {timezone} is no IANA time zone, such as Europe/Paris or UTC") from error
    try:
        instant = Instant(round((in_zone(when, zone) if when.tzinfo is None else when).timestamp() * 1000))
    except (ValueError, OverflowError) as error:  # the first and last days of the calendar, in some zones
        raise Invalid(f"--at {at} is outside the calendar") from error
    schedule = Schedule(instant, timezone, round(postroom.settings.schedule_grace * 1000))
    if instant + schedule.grace_ms < postroom.clock.now():
        raise Invalid(f"--at {at} ({timezone}) has passed: name a time to come, or leave --at away to send now")
    return schedule


def in_zone(when: datetime, zone: ZoneInfo) -> datetime:
    """A wall-clock time in a zone. `Invalid` for one that the zone's clocks skip; of a time they show twice, the first."""
    placed = when.replace(tzinfo=zone)
    if datetime.fromtimestamp(placed.timestamp(), zone).replace(tzinfo=None) != when:
        raise Invalid(f"--at {when.isoformat()} does not exist in {zone.key}: the clocks skip it")
    return placed


def _policies(settings: Settings, rate: float | None, unknown: UnknownPolicy) -> Policies:
    rate = settings.rate if rate is None else rate
    if rate is not None and not 0.1 <= rate <= 1_000_000:
        raise Invalid(f"--rate {rate:g}: from 0.1 to 1000000 recipients a second")
    return Policies(
        unknown=unknown,
        settle_after_ms=round(settings.settle_after * 1000),
        rate=rate,
        give_up_after_ms=round(settings.give_up_after * 1000),
        retry_after_ms=round(settings.retry_after * 1000),
    )
