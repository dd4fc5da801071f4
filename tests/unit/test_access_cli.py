"""`postroom tenant` and `postroom key`: what operators do at the machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from postroom.entrypoints.cli import key, tenant
from postroom.errors import Conflict, Invalid, NotFound
from postroom.model import access

app = typer.Typer()
app.add_typer(tenant.app, name="tenant")
app.add_typer(key.app, name="key")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTROOM_DATA", str(tmp_path / "data"))


def run(line: str) -> str:
    """What it printed to standard output; an error as it is raised."""
    done = CliRunner().invoke(app, line.split())
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_tenants_are_made_listed_disabled_and_enabled() -> None:
    run("tenant add newsroom --name News")
    with pytest.raises(Conflict):
        run("tenant add newsroom")
    run("tenant disable newsroom")
    listed = {one["id"]: one for one in json.loads(run("tenant list --json"))}
    assert set(listed) == {"default", "newsroom"}
    assert (listed["newsroom"]["name"], listed["newsroom"]["disabled"]) == ("News", True)
    run("tenant enable newsroom")
    assert "disabled" not in run("tenant list")


@pytest.mark.parametrize("line", ["tenant add News", "tenant add a --name " + "x" * 201])
def test_what_cannot_be_done_with_a_tenant_is_bad_input(line: str) -> None:
    with pytest.raises(Invalid):
        run(line)


def test_a_keys_text_is_printed_once_and_alone() -> None:
    text = run("key add shop --role sender --scope messages --scope search --days 30").rstrip("\n")
    assert access.parse_key(text) is not None
    (listed,) = json.loads(run("key list --json"))
    assert (listed["id"], listed["name"], listed["role"]) == (text[3:19], "shop", "sender")
    assert listed["scopes"] == ["messages", "search"]
    assert listed["expires_at"] is not None
    assert text not in run("key list") + run("key list --json")


def test_a_key_is_revoked_in_its_own_tenant_only() -> None:
    run("tenant add newsroom")
    made = run("key add shop --role viewer --tenant newsroom")[3:19]
    with pytest.raises(NotFound):
        run(f"key revoke {made}")
    run(f"key revoke {made} --tenant newsroom")
    assert json.loads(run("key list --tenant newsroom --json")) == []


def test_no_key_for_a_tenant_that_is_not_there() -> None:
    with pytest.raises(NotFound):
        run("key add shop --role viewer --tenant nobody")


def test_a_key_without_a_name_is_refused() -> None:
    with pytest.raises(Invalid):
        run("key add " + "x" * 101 + " --role viewer")
