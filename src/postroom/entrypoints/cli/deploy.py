"""`postroom deploy`: create or update the whole platform on AWS."""

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
"""Prefix of a stack output that is a setting."""


def deploy_command(
    stage: Annotated[
        str, typer.Option(help="Stage name: 2 to 10 lower-case letters and digits. `prod` protects its data from deletion.")
    ] = "dev",
    given: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Parameter of the stage; see docs/reference/aws-stack.md. Repeatable."),
    ] = None,
    work: Annotated[Path, typer.Option(help="Build directory for templates and code.")] = Path("postroom-deploy"),
    check: Annotated[
        bool, typer.Option("--check", help="Build the templates and show what would change; change nothing.")
    ] = False,
    bootstrap: Annotated[
        bool, typer.Option("--bootstrap", help="Bootstrap the account and region for the CDK first; needed once.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before permissions are broadened.")] = False,
) -> None:
    """Deploy to the AWS account and region of your environment (AWS_PROFILE, AWS_REGION). Writes postroom.STAGE.toml with
    the settings for the command line."""
    if not _STAGE.fullmatch(stage):
        raise Invalid(f"--stage {stage!r}: must be 2 to 10 lower-case letters and digits, starting with a letter")
    context = {"stage": stage, **_context(given or [])}
    deployment.demand_tools()
    steps = Steps(deployment.infra_directory(), (work / stage).resolve(), os.environ)
    steps.work.mkdir(parents=True, exist_ok=True)
    _step("the function code", lambda: deployment.bundle(steps))
    _step("the templates", lambda: deployment.synthesise(steps, context))
    if check:
        deployment.cdk(steps, "diff")
        return
    if bootstrap:
        deployment.cdk(steps, "bootstrap")
    approval = "never" if yes else "broadening"
    deployment.cdk(steps, "deploy", "--all", "--require-approval", approval, "--outputs-file", str(steps.outputs))
    stack_outputs = deployment.outputs(steps)
    file = Path(f"postroom.{stage}.toml")
    file.write_text(settings_of(stack_outputs), "utf-8")
    say(f"deployed. Copy {file} to postroom.toml where you run `postroom`, then add the first user:")
    say("  postroom user add you@example.com --role admin --operator")
    if "ApiUrl" in stack_outputs:
        typer.echo(stack_outputs["ApiUrl"])


def _context(given: list[str]) -> dict[str, str]:
    for pair in given:
        if not _OURS.fullmatch(pair):
            raise Invalid(f"--set {pair!r} must be NAME=VALUE")
    return dict(pair.split("=", 1) for pair in given)


def settings_of(stack_outputs: dict[str, str]) -> str:
    """Return the stack outputs that are settings, as the text of a `postroom.toml`."""
    kept = {
        name: stack_outputs[output] for name in SETTINGS if (output := _SETTING + name.title().replace("_", "")) in stack_outputs
    }
    return "".join(f'{name} = "{value}"\n' for name, value in kept.items())


def _step(what: str, work: Callable[[], None]) -> None:
    say(f"building {what} …")
    work()
