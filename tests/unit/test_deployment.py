"""`postroom deploy`: what it demands, what it hands to AWS's tool, and what it writes. The tool itself is a stand-in here."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from postroom.entrypoints import deployment
from postroom.entrypoints.cli import app
from postroom.entrypoints.deployment import DeploymentFailed, Steps
from postroom.errors import Invalid, Unsupported
from postroom.settings import Settings

_TOLD = {
    "postroom-dev-data": {"SettingAwsTable": "postroom-dev", "SettingPlatform": "aws"},
    "postroom-dev-api": {"ApiUrl": "https://api.example/dev", "SettingApiUrl": "https://api.example/dev"},
}
_NPX = f"""#!{sys.executable}
import json, pathlib, sys
words = sys.argv[1:]
pathlib.Path("asked").write_text(json.dumps(words))
if "--outputs-file" in words:
    pathlib.Path(words[words.index("--outputs-file") + 1]).write_text('''{json.dumps(_TOLD)}''')
sys.exit(int(pathlib.Path("code").read_text()) if pathlib.Path("code").exists() else 0)
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to deploy from, with a Node that is new enough and the stand-in for the CDK's command line."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"node": "#!/bin/sh\necho v22.1.0\n", "npx": _NPX}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(deployment, "infra_directory", lambda: tmp_path)
    monkeypatch.setattr(deployment, "bundle", lambda steps: None)
    monkeypatch.setattr(deployment, "synthesise", lambda steps, context: (tmp_path / "context").write_text(json.dumps(context)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def deploy(*words: str) -> None:
    CliRunner().invoke(app, ["deploy", *words], catch_exceptions=False)


def test_it_deploys_every_stack_and_writes_the_settings_for_the_command_line(tools: Path) -> None:
    deploy("--stage", "dev", "--set", "domain=mail.example", "--yes")
    asked = json.loads((tools / "asked").read_text())
    assert asked[:3] == ["--yes", deployment.CDK, "deploy"]
    assert asked[asked.index("--require-approval") + 1] == "never"
    assert json.loads((tools / "context").read_text()) == {"stage": "dev", "domain": "mail.example"}
    settings = Settings.load({}, tools / "postroom.dev.toml", {})
    assert (settings.platform, settings.aws_table, settings.api_url) == ("aws", "postroom-dev", "https://api.example/dev")


def test_permissions_that_grow_are_asked_about(tools: Path) -> None:
    deploy()
    asked = json.loads((tools / "asked").read_text())
    assert asked[asked.index("--require-approval") + 1] == "broadening"


def test_a_check_changes_nothing(tools: Path) -> None:
    deploy("--check")
    assert json.loads((tools / "asked").read_text())[2] == "diff"
    assert not (tools / "postroom.dev.toml").exists()


def test_what_the_tool_could_not_do_is_an_error(tools: Path) -> None:
    (tools / "code").write_text("3")
    with pytest.raises(DeploymentFailed, match="run it again"):
        deploy()
    assert not (tools / "postroom.dev.toml").exists()


@pytest.mark.parametrize("words", [("--stage", "Prod"), ("--stage", "a-b"), ("--set", "domain"), ("--set", "Domain=x")])
def test_what_cannot_be_meant_is_refused_before_anything_is_made(tools: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(Invalid):
        deploy(*words)
    assert not (tools / "context").exists()


@pytest.mark.parametrize(("version", "said"), [("v18.20.0", "too old"), ("", "unknown version")])
def test_an_old_node_is_named(tools: Path, version: str, said: str) -> None:
    (tools / "bin" / "node").write_text(f"#!/bin/sh\necho {version}\n")
    with pytest.raises(Unsupported, match=said):
        deployment.demand_tools()


def test_a_missing_node_is_named(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(Unsupported, match=r"Node\.js is missing"):
        deployment.demand_tools()


def test_a_tool_that_fails_is_quoted(tmp_path: Path) -> None:
    """Synthesis in a place without a stack: Python's own words reach the person."""
    steps = Steps(tmp_path, tmp_path, {"PATH": os.environ["PATH"]})
    with pytest.raises(DeploymentFailed, match="infra"):
        deployment.synthesise(steps, {})


def test_outputs_of_nothing_deployed(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="nothing was deployed"):
        deployment.outputs(Steps(tmp_path, tmp_path, {}))
