"""`postroom send`: one campaign through the pipeline to completion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from postroom.entrypoints.cli import making
from postroom.entrypoints.cli.dry_run import dry_run
from postroom.entrypoints.cli.operating import recorded
from postroom.entrypoints.cli.options import OfTenant
from postroom.entrypoints.cli.report import print_status, result_code
from postroom.entrypoints.cli.session import session
from postroom.entrypoints.cli.watching import run_and_watch
from postroom.errors import Invalid
from postroom.model.campaign import CampaignRef, CampaignSpec, Content, MissingPolicy, UnknownPolicy
from postroom.model.tenant import DEFAULT_TENANT
from postroom.services.campaign_creation import CampaignParts
from postroom.wiring import Container

_BESIDE_RESUME = frozenset({"resume", "tenant", "as_json", "data", "workers", "mail"})
_NEEDED = ("template", "recipients", "from", "subject")


def send_command(
    context: typer.Context,
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
    inline: Annotated[
        list[Path] | None, typer.Option(help="Picture shown by the template as cid:<its file name>; again for more.")
    ] = None,
    track_opens: Annotated[bool, typer.Option(help="With a public URL: a pixel that tells of opens.")] = True,
    track_clicks: Annotated[bool, typer.Option(help="With a public URL: links that tell of clicks.")] = True,
    topic: Annotated[
        str | None,
        typer.Option(help="What kind of mail it is: people may unsubscribe from this alone, and who did gets none of it."),
    ] = None,
    callback_url: Annotated[
        str | None, typer.Option(help="Where events of this campaign are told, besides the tenant's callbacks.")
    ] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this campaign: after a pause, a crash, a kill.")] = None,
    dry_run_: Annotated[
        bool, typer.Option("--dry-run", help="Check template and recipients, compose every message, send nothing.")
    ] = False,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
    data: Annotated[Path | None, typer.Option(help="Data directory; POSTROOM_DATA.")] = None,
    workers: Annotated[int | None, typer.Option(help="Sender processes; POSTROOM_WORKERS.")] = None,
    mail: Annotated[str | None, typer.Option(help="Where mail leaves: inbox:, smtp://… or ses://…; POSTROOM_MAIL.")] = None,
) -> None:
    """Send a template to the recipients of a CSV, and see it through.

    Ctrl-C pauses cleanly, a second one abandons; --resume goes on. Exit code: 0 everybody was sent to, 3 finished but some
    were not, 2 bad input, 1 anything else.
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
                raise Invalid(f"missing {', '.join(absent)} (or --resume ID to go on with a campaign)")
            parts = CampaignParts(
                html=making.read_template(template),
                text=making.read_text(text) if text is not None else None,
                attachments=tuple(
                    [making.attached(path) for path in attach or []] + [making.inline(path) for path in inline or []]
                ),
            )
            spec = CampaignSpec(
                name=(name or template.stem) + (" (dry run)" if dry_run_ else ""),
                content=Content(
                    from_=from_,
                    subject=subject,
                    reply_to=reply_to,
                    variables=tuple(making.variables(set_ or []).items()),
                    missing=missing,
                    track_opens=track_opens,
                    track_clicks=track_clicks,
                    topic=making.topic(topic),
                ),
                schedule=making.schedule(at, timezone, postroom) if at else None,
                policies=making.policies(postroom.settings, rate, unknown),
                email_column=email_column,
                callback_url=making.callback_url(callback_url, postroom.settings),
            )
            if dry_run_:
                raise typer.Exit(dry_run(postroom, spec, parts, recipients, tenant=tenant, as_json=as_json))
            with recorded(postroom, "send", tenant=tenant) as change:
                ref = making.create(postroom, spec, parts, recipients, tenant=tenant)
                change.target = f"campaign/{ref.campaign}"
        finish(postroom, ref, as_json=as_json)


def _refuse_beside_resume(context: typer.Context) -> None:
    """A campaign goes on as it was made: what else is asked for would be silently ignored."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name not in _BESIDE_RESUME and source is not None and source.name == "COMMANDLINE":
            raise Invalid(f"{parameter.opts[0]} cannot be changed beside --resume: a campaign goes on as it was made")


def finish(postroom: Container, ref: CampaignRef, *, as_json: bool) -> None:
    """See it through, print the result, exit."""
    status = run_and_watch(postroom, ref)
    print_status(status, as_json=as_json)
    raise typer.Exit(result_code(status))
