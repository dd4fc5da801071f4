"""`postroom deploy` with AWS's own command line, against the emulator: what it is handed deploys, and what it tells is read back."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import boto3
import pytest

from postroom.entrypoints import deployment
from postroom.entrypoints.cli.deploy import settings_of
from postroom.entrypoints.deployment import DeploymentFailed, Steps
from postroom.settings import Settings
from tests.aws.emulator import REGION, start
from tests.aws_e2e.synthesis import assembly

_BUCKET = f"cdk-hnb659fds-assets-000000000000-{REGION}"
"""What `cdk bootstrap` makes: the emulator has no account that could be bootstrapped."""


def test_the_cdks_command_line_deploys_what_it_is_handed(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    stub = tmp_path / "stub"
    stub.mkdir()
    (stub / "README").write_text("the emulator has the program itself\n")
    templates = assembly(tmp_path_factory, stub)
    _demand_cdk()
    emulator = start()
    try:
        environ = os.environ | {
            "AWS_ENDPOINT_URL": emulator.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "CI": "1",
        }
        session = boto3.Session("test", "test", region_name=REGION)
        session.client("ssm", endpoint_url=emulator.endpoint).put_parameter(
            Name="/cdk-bootstrap/hnb659fds/version", Value="30", Type="String"
        )
        session.client("s3", endpoint_url=emulator.endpoint).create_bucket(Bucket=_BUCKET)
        steps = Steps(tmp_path, tmp_path, environ)
        shutil.copytree(templates.folder, steps.assembly)
        deployment.cdk(steps, "deploy", "Data", "Identity", "--require-approval", "never", "--outputs-file", str(steps.outputs))
        written = tmp_path / "postroom.toml"
        written.write_text(settings_of(deployment.outputs(steps)))
        settings = Settings.load({}, written, {})
        assert (settings.platform, settings.aws_table) == ("aws", "postroom-test")
        assert settings.issuer is not None
        with pytest.raises(DeploymentFailed, match="run it again"):
            deployment.cdk(steps, "deploy", "Nowhere", "--require-approval", "never")
    finally:
        emulator.stop()


def _demand_cdk() -> None:
    try:
        subprocess.run(["npx", "--yes", deployment.CDK, "--version"], capture_output=True, timeout=120, check=True)
    except (subprocess.SubprocessError, OSError):
        pytest.skip("no CDK command line here: npx cannot get it")
