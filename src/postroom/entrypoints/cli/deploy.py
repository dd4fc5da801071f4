"""`postroom deploy`: the whole platform on AWS, made or changed by one command."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from postroom.entrypoints import deployment
from postroom.entrypoints.cli.session import say
from postroom.entrypoints.deployment import Steps
from postroom.errors import Invalid
from postroom.settings import SETTINGS

_STAGE = re.compile(r"[a-z][a-z0-9]{1,9}")
_OURS = re.compile(r"[a-z][a-z0-9_]*=.+", re.DOTALL)
_SETTING = "Setting"
"""What an output is called that is a setting of the command line, before the setting's name."""


def deploy_command(
    stage: Annotated[
        str, typer.Option(help="Which installation: 2 to 10 letters and digits. `prod` keeps data whatever happens.")
    ] = "dev",
    given: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A size or choice of the stage; docs/reference/aws-stack.md."),
    ] = None,
    work: Annotated[Path, typer.Option(help="Where templates and code are made.")] = Path("postroom-deploy"),
    check: Annotated[
        bool, typer.Option("--check", help="Make the templates, show what would change, and change nothing.")
    ] = False,
    bootstrap: Annotated[
        bool, typer.Option("--bootstrap", help="Prepare the account and region for the CDK first: once each.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before permissions change.")] = False,
) -> None:
    """Deploy to the AWS account and region of your environment (AWS_PROFILE, AWS_REGION). Writes postroom.STAGE.toml: the
    settings by which the command line works on that installation."""
    if not _STAGE.fullmatch(stage):
        raise Invalid(f"{stage!r} names no stage: 2 to 10 lower-case letters and digits, a letter first")
    context = {"stage": stage, **_context(given or [])}
    deployment.demand_tools()
    steps = Steps(deployment.infra_directory(), (work / stage).resolve(), os.environ)
    steps.work.mkdir(parents=True, exist_ok=True)
    _step("the functions' code", lambda: deployment.bundle(steps))
    _step("the templates", lambda: deployment.synthesise(steps, context))
    if check:
        deployment.cdk(steps, "diff")
        return
    if bootstrap:
        deployment.cdk(steps, "bootstrap")
    approval = "never" if yes else "broadening"
    deployment.cdk(steps, "deploy", "--all", "--require-approval", approval, "--outputs-file", str(steps.outputs))
    told = deployment.outputs(steps)
    file = Path(f"postroom.{stage}.toml")
    file.write_text(settings_of(told), "utf-8")
    say(f"deployed. Copy {file} to postroom.toml where you run `postroom`, then let the first person in:")
    say("  postroom user add you@example.com --role admin --operator")
    if "ApiUrl" in told:
        typer.echo(told["ApiUrl"])


def _context(given: list[str]) -> dict[str, str]:
    for pair in given:
        if not _OURS.fullmatch(pair):
            raise Invalid(f"--set {pair!r} is not NAME=VALUE")
    return dict(pair.split("=", 1) for pair in given)


def settings_of(told: dict[str, str]) -> str:
    """The outputs that are settings, as `postroom.toml`."""
    kept = {name: told[output] for name in SETTINGS if (output := _SETTING + name.title().replace("_", "")) in told}
    return "".join(f'{name} = "{value}"\n' for name, value in kept.items())


def _step(what: str, work: Callable[[], None]) -> None:
    say(f"making {what} …")
    work()
