"""`postroom send`: create one campaign from files and options, and run it to completion.

Options are checked before anything is created, and each error names its option. `--dry-run` imports the recipients and composes
every message, sends nothing, and deletes the campaign again.
"""

from __future__ import annotations

import json
import mimetypes
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from postroom.delivery.compose import Composer, RowError
from postroom.entrypoints.cli.output import Data, OfTenant
from postroom.entrypoints.cli.progress import print_status, result_code, run_and_watch
from postroom.entrypoints.cli.session import DONE, NOT_ALL_SENT, recorded, say, session
from postroom.errors import Conflict, Invalid
from postroom.model.callback import check_callback_url
from postroom.model.campaign import (
    Campaign,
    CampaignRef,
    CampaignSpec,
    CampaignStatus,
    Content,
    MissingPolicy,
    Policies,
    Schedule,
    UnknownPolicy,
)
from postroom.model.message import Message, Recipient
from postroom.model.tenant import DEFAULT_TENANT
from postroom.model.tokens import MAX_TOPIC_BYTES
from postroom.services.campaign_creation import AttachedFile, CampaignParts, FieldNames, parse_schedule
from postroom.settings import Settings
from postroom.wiring import Container
from postroom.wiring.services import campaign_defaults

_OPTIONS = FieldNames("--at", "--timezone")


def create_campaign(
    postroom: Container,
    spec: CampaignSpec,
    parts: CampaignParts,
    recipients: Path,
    *,
    tenant: str = DEFAULT_TENANT,
    start: bool = True,
) -> CampaignRef:
    """Create the campaign and print its id on standard error: from here on it can be resumed after a kill."""
    try:
        with recipients.open("rb") as upload:
            creator = postroom.campaign_creator
            ref = creator.create(tenant, spec, parts, upload, filename=recipients.name, start=start).ref
    except OSError as error:
        raise Invalid(f"--recipients {recipients} cannot be read: {error.strerror}") from error
    say(f"campaign {ref.campaign}")
    return ref


def read_template(path: Path) -> str:
    """Read a template file as HTML; MJML is compiled."""
    source = read_text(path)
    named = path.suffix.lower() == ".mjml"
    if not named and "<mjml" not in source:
        return source
    from postroom.templates.mjml import compile_mjml, is_mjml  # loads a compiler that most campaigns do not need

    return compile_mjml(source) if named or is_mjml(source) else source


def read_text(path: Path) -> str:
    """Read a UTF-8 file. Raises `Invalid` if it cannot be read or is not UTF-8."""
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error


def read_attachment(path: Path) -> AttachedFile:
    """Read a file that is attached to every message. Raises `Invalid` if it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error
    kind, encoding = mimetypes.guess_type(path.name)
    return AttachedFile(path.name, kind if kind and not encoding else "application/octet-stream", content)


def read_inline_file(path: Path) -> AttachedFile:
    """Read an image that the template shows as `cid:<file name>`. Raises `Invalid` if it cannot be read."""
    return replace(read_attachment(path), content_id=path.name)


def parse_variables(given: list[str]) -> dict[str, str]:
    """Parse `--set name=value` options. Raises `Invalid`."""
    pairs = [pair.partition("=") for pair in given]
    for name, equals, _ in pairs:
        if not equals or not name.isidentifier():
            raise Invalid(f"--set {name}{equals}: write name=value, the name in letters, digits and _")
    return {name: value for name, _, value in pairs}


def parse_start(at: str, timezone: str, postroom: Container) -> Schedule:
    """Parse `--at` and `--timezone`. Raises `Invalid` for a time that cannot be read, has passed, or is too far ahead."""
    grace_ms = round(postroom.settings.schedule_grace * 1000)
    return parse_schedule(at, timezone, now=postroom.clock.now(), grace_ms=grace_ms, names=_OPTIONS)


def parse_topic(text: str | None) -> str | None:
    """Check `--topic`. Raises `Invalid` if it is empty or too long for an unsubscribe link."""
    if text is not None and not 0 < len(text.encode(errors="replace")) <= MAX_TOPIC_BYTES:
        raise Invalid(f"--topic {text}: from 1 to {MAX_TOPIC_BYTES} bytes")
    return text


def parse_callback_url(text: str | None, settings: Settings) -> str | None:
    """Check `--callback-url`. Raises `Invalid`."""
    try:
        return None if text is None else check_callback_url(text, settings.callback_networks)
    except Invalid as error:
        raise Invalid(f"--callback-url: {error}") from error


def campaign_policies(settings: Settings, rate: float | None, unknown: UnknownPolicy) -> Policies:
    """Return the policies from settings and options. Raises `Invalid`."""
    if rate is not None and not 0.1 <= rate <= 1_000_000:
        raise Invalid(f"--rate {rate:g}: from 0.1 to 1000000 recipients a second")
    return campaign_defaults(settings).with_options(rate=rate, unknown=unknown)


_SHOWN = 20


def run_dry(
    postroom: Container, spec: CampaignSpec, parts: CampaignParts, recipients: Path, *, tenant: str, as_json: bool
) -> int:
    """Return the exit code: 0, or 3 if some message could not be composed. Raises `Invalid` if the upload cannot be imported."""
    ref = create_campaign(postroom, spec, parts, recipients, tenant=tenant, start=False)
    try:
        campaign = _imported(postroom, ref)
        return _compose_all(postroom, campaign, as_json=as_json)
    finally:
        _delete(postroom, ref)


def _imported(postroom: Container, ref: CampaignRef) -> Campaign:
    postroom.splitter.run(ref, alive=lambda: True)
    campaign = postroom.records.get(ref)
    if campaign.status is CampaignStatus.FAILED:
        raise Invalid(campaign.reason or "the recipients cannot be imported")
    return campaign


def _compose_all(postroom: Container, campaign: Campaign, *, as_json: bool) -> int:
    composer = postroom.compiler.load(campaign)
    first: bytes | None = None
    problems: list[str] = []
    accepted = largest = 0
    for message in postroom.exports.every_message(campaign.ref):
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
            "The first message as it would be sent:\n\n" + first.decode("utf-8", "replace").replace("\r\n", "\n") + "\n"
        )
    for name, value in result.items():
        if name != "problems":
            sys.stdout.write(f"{name.replace('_', ' ')}: {value:,}\n")
    for problem in problems[:_SHOWN]:
        say(problem)
    if len(problems) > _SHOWN:
        say(f"… and {len(problems) - _SHOWN:,} more")
    say("dry run: nothing was sent and nothing is kept")


def _delete(postroom: Container, ref: CampaignRef) -> None:
    try:
        postroom.campaigns.delete(ref)
    except Conflict:  # interrupted in the middle of its import
        postroom.campaigns.cancel(ref)
        postroom.campaigns.delete(ref)


_BESIDE_RESUME = frozenset({"resume", "tenant", "as_json", "data", "workers", "mail"})
_NEEDED = ("template", "recipients", "from", "subject")


def send_command(
    context: typer.Context,
    template: Annotated[Path | None, typer.Option(help="HTML or MJML (*.mjml) template with Jinja2 syntax.")] = None,
    recipients: Annotated[Path | None, typer.Option(help="CSV file of recipients; each column is a variable.")] = None,
    from_: Annotated[str, typer.Option("--from", help="Sender: an address, or 'Name <address>'.")] = "",
    subject: Annotated[str, typer.Option(help="Subject line; may use variables.")] = "",
    text: Annotated[Path | None, typer.Option(help="Text template. Default: derived from the HTML.")] = None,
    reply_to: Annotated[str | None, typer.Option(help="Address for replies.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the campaign. Default: the template's file name.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Maximum rate over all workers, in recipients per second. Default: POSTROOM_RATE.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(help="Start at this time, e.g. 2026-12-01T09:00[+01:00]; --timezone applies if it has no offset."),
    ] = None,
    timezone: Annotated[str, typer.Option(help="IANA time zone of --at, e.g. Europe/Paris.")] = "UTC",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Variable for all recipients; a column of the same name wins. Repeatable."
        ),
    ] = None,
    email_column: Annotated[
        str | None, typer.Option(help="Column with the addresses. Default: recognised by its heading.")
    ] = None,
    unknown: Annotated[
        UnknownPolicy, typer.Option(help="Report a message whose reply was never seen as unknown, or send it again.")
    ] = UnknownPolicy.NEVER_TWICE,
    missing: Annotated[
        MissingPolicy, typer.Option(help="Treat a missing template variable as an error for that row, or as empty text.")
    ] = MissingPolicy.ERROR,
    attach: Annotated[list[Path] | None, typer.Option(help="File attached to every message. Repeatable.")] = None,
    inline: Annotated[
        list[Path] | None, typer.Option(help="Image that the template shows as cid:<file name>. Repeatable.")
    ] = None,
    track_opens: Annotated[bool, typer.Option(help="Track opens with a pixel; needs a public URL.")] = True,
    track_clicks: Annotated[bool, typer.Option(help="Track clicks with rewritten links; needs a public URL.")] = True,
    topic: Annotated[
        str | None,
        typer.Option(help="Topic of the mail; recipients who unsubscribed from it are skipped."),
    ] = None,
    callback_url: Annotated[
        str | None, typer.Option(help="URL that receives this campaign's events, besides the tenant's callbacks.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="ID", help="Resume this campaign after a pause, a crash or a kill.")
    ] = None,
    dry_run_: Annotated[
        bool, typer.Option("--dry-run", help="Check the template and recipients and compose every message; send nothing.")
    ] = False,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    data: Data = None,
    workers: Annotated[int | None, typer.Option(help="Number of sender processes. Default: POSTROOM_WORKERS.")] = None,
    mail: Annotated[str | None, typer.Option(help="Mail server: inbox:, smtp://… or ses://… Default: POSTROOM_MAIL.")] = None,
) -> None:
    """Send a template to the recipients of a CSV file, and wait until the campaign has ended.

    Ctrl-C pauses the campaign and drains messages in flight; a second one kills the workers; --resume continues. Exit code: 0 all
    messages were sent, 3 some were not, 2 bad input, 1 otherwise.
    """
    with session(data=data, workers=workers, mail=mail) as postroom:
        postroom.tenants.read(tenant)
        if resume is not None:
            _refuse_beside_resume(context)
            ref = CampaignRef(tenant, resume)
            with recorded(postroom, "send --resume", tenant=tenant, target=f"campaign/{resume}"):
                postroom.campaigns.resume(ref)
        else:
            given = dict(zip(_NEEDED, (template, recipients, from_, subject), strict=True))
            absent = [f"--{option}" for option, value in given.items() if not value]
            if absent or template is None or recipients is None:
                raise Invalid(f"missing {', '.join(absent)} (or --resume ID to resume a campaign)")
            parts = CampaignParts(
                html=read_template(template),
                text=read_text(text) if text is not None else None,
                attachments=tuple(
                    [read_attachment(path) for path in attach or []] + [read_inline_file(path) for path in inline or []]
                ),
            )
            spec = CampaignSpec(
                name=(name or template.stem) + (" (dry run)" if dry_run_ else ""),
                content=Content(
                    from_=from_,
                    subject=subject,
                    reply_to=reply_to,
                    variables=tuple(parse_variables(set_ or []).items()),
                    missing=missing,
                    track_opens=track_opens,
                    track_clicks=track_clicks,
                    topic=parse_topic(topic),
                ),
                schedule=parse_start(at, timezone, postroom) if at else None,
                policies=campaign_policies(postroom.settings, rate, unknown),
                email_column=email_column,
                callback_url=parse_callback_url(callback_url, postroom.settings),
            )
            if dry_run_:
                raise typer.Exit(run_dry(postroom, spec, parts, recipients, tenant=tenant, as_json=as_json))
            with recorded(postroom, "send", tenant=tenant) as change:
                ref = create_campaign(postroom, spec, parts, recipients, tenant=tenant)
                change.target = f"campaign/{ref.campaign}"
        finish(postroom, ref, as_json=as_json)


def _refuse_beside_resume(context: typer.Context) -> None:
    """Raise `Invalid` for options that would be ignored: a campaign resumes as it was created."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name not in _BESIDE_RESUME and source is not None and source.name == "COMMANDLINE":
            raise Invalid(f"{parameter.opts[0]} cannot be used with --resume: a campaign resumes as it was created")


def finish(postroom: Container, ref: CampaignRef, *, as_json: bool) -> None:
    """Run the campaign to its end, print its result and exit."""
    status = run_and_watch(postroom, ref)
    print_status(status, as_json=as_json)
    raise typer.Exit(result_code(status))
