"""`postroom demo`: send the example campaign to the built-in inbox."""

from __future__ import annotations

import csv
import io
import tempfile
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from postroom.entrypoints.cli.progress import print_status, run_and_watch
from postroom.entrypoints.cli.send import create_campaign, read_template
from postroom.entrypoints.cli.session import DONE, FAILED, say, session
from postroom.errors import NotFound
from postroom.model.campaign import CampaignSpec, CampaignStatus, Content, MissingPolicy
from postroom.services.campaign_creation import CampaignParts

_DATA = Path("demo-data")


def demo_command(
    recipients: Annotated[
        int | None, typer.Option(min=1, help="Number of rows. Default: all of the example file, about 1,200.")
    ] = None,
    data: Annotated[Path, typer.Option(help="Data directory of the demo.")] = _DATA,
) -> None:
    """Send an example campaign to the built-in inbox, and print its result."""
    examples = _examples()
    with tempfile.TemporaryDirectory() as directory, session(data=data, mail="inbox:") as postroom:
        upload = examples / "recipients.csv"
        if recipients:
            upload = _resized(upload, Path(directory) / "recipients.csv", recipients)
        content = Content(
            from_="Postroom Demo <news@example.com>",
            subject="{{ first_name | default('Hello') }}, your autumn letter is here",
            missing=MissingPolicy.EMPTY,
        )
        parts = CampaignParts(html=read_template(examples / "newsletter.mjml"))
        ref = create_campaign(postroom, CampaignSpec(name="Demo newsletter", content=content), parts, upload)
        status = run_and_watch(postroom, ref)
        print_status(status, as_json=False)
    _say_next_steps(ref.campaign, data)
    raise typer.Exit(DONE if status.campaign.status is CampaignStatus.COMPLETED else FAILED)


def _say_next_steps(campaign: str, data: Path) -> None:
    commands = {
        f"postroom inbox list --data {data}": "received mail",
        f"postroom campaign show {campaign} --data {data}": "status and counts",
        f"postroom campaign rejected {campaign} --data {data}": "rejected rows and reasons",
        f"postroom campaign messages {campaign} --data {data}": "messages and replies",
        "postroom send --help": "send your own campaign",
    }
    width = max(map(len, commands))
    say("\nNext:\n" + "\n".join(f"  {command:{width}}   {what}" for command, what in commands.items()))


def _examples() -> Path:
    """Return the examples directory: in the installed package, or beside the sources in a checkout."""
    installed = Path(str(resources.files("postroom"))) / "examples"
    checkout = Path(str(resources.files("postroom"))).parent.parent / "examples"
    for place in (installed, checkout):
        if (place / "recipients.csv").exists():
            return place
    raise NotFound("the example campaign is not installed: run the demo in a checkout of Postroom")


def _resized(source: Path, target: Path, rows: int) -> Path:
    """Write the example file with that number of rows, generating more if needed."""
    text = source.read_text("utf-8-sig")
    header, *records = csv.reader(io.StringIO(text, newline=""), csv.Sniffer().sniff(text[:4_096], ",;\t|"))
    with target.open("w", encoding="utf-8", newline="") as resized:
        writer = csv.writer(resized)
        writer.writerow(header)
        writer.writerows(records[:rows])
        writer.writerows(_generated_row(header, number) for number in range(rows - len(records)))
    return target


def _generated_row(header: list[str], number: int) -> list[str]:
    return [f"person{number}@example.net" if "mail" in heading.lower() else f"{heading} {number}" for heading in header]
