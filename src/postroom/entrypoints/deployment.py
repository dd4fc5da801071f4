"""A stack on AWS, made from this program: the functions' code bundled, the templates synthesised, both handed to AWS's own tool.

    bundle   the program and what it needs, for the processor that functions run on; no compiler and no Docker
    synth    `infra` (CDK) writes the templates, and AWS's rules (cdk-nag) are held against them
    deploy   the CDK's command line uploads both and changes the stacks, one after the other; what fails is rolled back by
             CloudFormation, and the same command goes on from there

Nothing is changed on AWS before the last step. Each may be repeated.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from postroom.errors import Invalid, PostroomError, Unsupported

CDK: Final = "aws-cdk@2.1148.1"
"""AWS's command line, from npm. Its numbers are not those of the library; a newer major refuses what ours writes."""
LEAST_NODE: Final = 20
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The functions run what this program runs on: so their code can be compiled here, and no cold start has to."""
_WHEELS: Final = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
"""Newest first: Lambda's machines have the C library 2.34, and 2.26 under Python 3.11. Not arm64, which costs a fifth less:
css-inline has no wheel for it."""
_OLD_GLIBC: Final = "3.11"
_SILENT: Final = {"JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1"}
_QUOTED: Final = 4_000


class DeploymentFailed(PostroomError):
    """One of the tools could not go on; the text is what it said last."""


class Steps(NamedTuple):
    """Where a deployment works."""

    infra: Path
    """The directory that the package `infra` is in."""
    work: Path
    environ: Mapping[str, str]

    @property
    def code(self) -> Path:
        return self.work / "code"

    @property
    def assembly(self) -> Path:
        return self.work / "assembly"

    @property
    def outputs(self) -> Path:
        return self.work / "outputs.json"


def infra_directory() -> Path:
    """Where the stack is described: beside the program in a wheel, at the root of a clone. `Unsupported`: nowhere."""
    package = Path(__file__).resolve().parents[1]
    for directory in (package / "_deploy", package.parents[1]):
        if (directory / "infra" / "app.py").is_file():
            return directory
    raise Unsupported("the description of the stack (infra/) is not with this program: deploy from a clone, or a wheel")


def demand_tools() -> None:
    """`Unsupported`: what is missing, and how to get it."""
    if importlib.util.find_spec("aws_cdk") is None:
        raise Unsupported("the CDK is not installed: pip install 'postroom[deploy]'")
    node = shutil.which("node")
    if node is None or shutil.which("npx") is None:
        raise Unsupported(f"Node.js is missing, which AWS's CDK runs on: install version {LEAST_NODE} or newer")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    major = said.removeprefix("v").partition(".")[0]
    if not major.isdecimal() or int(major) < LEAST_NODE:
        raise Unsupported(f"Node.js {said or 'of an unknown version'} is too old for AWS's CDK: install {LEAST_NODE} or newer")


def bundle(steps: Steps) -> None:
    """The functions' code. Wheels only: what would have to be compiled here could not run there."""
    shutil.rmtree(steps.code, ignore_errors=True)
    source = steps.infra if (steps.infra / "pyproject.toml").is_file() else None
    wanted = f"{source}[aws]" if source else f"postroom[aws]=={_version()}"
    if source is not None:
        made = steps.work / "wheel"
        shutil.rmtree(made, ignore_errors=True)
        _run(steps, [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(made), str(source)])
        wanted = f"{next(made.glob('postroom-*.whl'))}[aws]"
    wheels = _WHEELS[2:] if PYTHON == _OLD_GLIBC else _WHEELS
    platforms = [word for each in wheels for word in ("--platform", each)]
    target = ["--target", str(steps.code), "--no-compile", *platforms, "--only-binary=:all:", "--python-version", PYTHON]
    _run(steps, [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", *target, wanted])
    for needless in ("boto3", "botocore", "s3transfer"):  # Lambda's runtime brings its own, which AWS keeps up to date
        shutil.rmtree(steps.code / needless, ignore_errors=True)
    # By hash and unchecked: the CDK gives every file one date, and what is compiled for another date is compiled anew.
    _run(steps, [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(steps.code)])


def synthesise(steps: Steps, context: Mapping[str, str]) -> None:
    """The templates, held against the rules. `DeploymentFailed`: they are broken, or the context is not understood."""
    shutil.rmtree(steps.assembly, ignore_errors=True)
    given = {
        "CDK_OUTDIR": str(steps.assembly),
        "CDK_CONTEXT_JSON": json.dumps({**context, "bundle": str(steps.code), "python": PYTHON}),
    }
    _run(steps, [sys.executable, "-m", "infra.app"], more={**_SILENT, **given})


def cdk(steps: Steps, verb: str, *options: str) -> None:
    """AWS's command line, talking to the terminal itself. `DeploymentFailed`: it said why."""
    words = ["npx", "--yes", CDK, verb, "--app", str(steps.assembly), *options]
    code = subprocess.run(words, env={**steps.environ, **_SILENT}, check=False).returncode
    if code:
        raise DeploymentFailed(
            f"`cdk {verb}` ended with {code}; what it said above tells why. Nothing is left half-changed: run it again"
        )


def outputs(steps: Steps) -> dict[str, str]:
    """What the stacks tell, by name, whichever stack tells it."""
    if not steps.outputs.is_file():
        raise Invalid(f"{steps.outputs} is not there: nothing was deployed from here")
    told: dict[str, dict[str, str]] = json.loads(steps.outputs.read_text("utf-8"))
    return {name: value for stack in told.values() for name, value in stack.items()}


def _run(steps: Steps, words: Sequence[str], more: Mapping[str, str] | None = None) -> None:
    environ = {**steps.environ, **(more or {})}
    ended = subprocess.run(
        words, env=environ, cwd=steps.infra, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if ended.returncode:
        raise DeploymentFailed(f"{' '.join(words[1:4])} failed:\n{ended.stdout[-_QUOTED:].strip()}")


def _version() -> str:
    from importlib.metadata import version

    return version("postroom")
