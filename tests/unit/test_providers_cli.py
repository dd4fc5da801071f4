"""`postroom provider` and `postroom secrets`: what operators do at the machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from postroom.entrypoints.cli import provider, secrets, tenant
from postroom.entrypoints.cli.doctor import doctor_command
from postroom.errors import Conflict, Invalid, NotFound, Unsupported
from tests.fakes.smtp_sink import Options, SmtpSink

app = typer.Typer()
app.add_typer(provider.app, name="provider")
app.add_typer(secrets.app, name="secrets")
app.add_typer(tenant.app, name="tenant")
app.command("doctor")(doctor_command)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTROOM_DATA", str(tmp_path / "data"))
    return tmp_path


def run(line: str, *, code: int = 0, typed: str | None = None) -> str:
    """What it printed to standard output; an error as it is raised."""
    done = CliRunner().invoke(app, line.split(), input=typed)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.stderr
    return done.stdout


def test_providers_are_added_listed_shown_changed_and_removed() -> None:
    run("tenant add acme")
    run("provider add relay smtp://news@10.1.2.3?tls=starttls --password-file - --per-second 14", typed="s3cret\nnot this\n")
    run("provider add own smtp://relay.example --tenant acme --stream transactional")
    shared = json.loads(run("provider show relay --json"))
    assert (shared["url"], shared["has_password"], shared["tenant"]) == ("smtp://news@10.1.2.3?tls=starttls", True, None)
    assert (shared["per_second"], shared["streams"]) == (14.0, ["bulk", "transactional"])
    listed = json.loads(run("provider list --tenant acme --json"))
    assert [one["name"] for one in listed] == ["own", "relay", "default"]
    assert [one["name"] for one in json.loads(run("provider list --json"))] == ["relay", "default"]
    assert "s3cret" not in run("provider list") + run("provider show relay") + json.dumps(listed)
    run("provider add relay smtp://news@10.1.2.3?tls=starttls --replace --per-day 100")
    changed = json.loads(run("provider show relay --json"))
    assert (changed["per_second"], changed["per_day"], changed["has_password"]) == (None, 100, True)
    run("provider remove own --tenant acme")
    with pytest.raises(NotFound):
        run("provider show own --tenant acme")


def test_with_a_tenant_a_shared_one_is_neither_changed_nor_removed() -> None:
    run("tenant add acme")
    run("provider add relay smtp://10.1.2.3")
    for line in ("provider remove relay --tenant acme", "provider add relay smtp://10.1.2.4 --replace --tenant acme"):
        with pytest.raises(Invalid, match="--tenant"):
            run(line)
    assert "10.1.2.3" in run("provider list")


def test_what_is_wrong_is_said() -> None:
    run("provider add relay smtp://10.1.2.3")
    for line, kind in {
        "provider add relay smtp://10.1.2.3": Conflict,
        "provider add other http://example.com": Invalid,
        "provider add other smtp://10.1.2.3 --tenant nobody": NotFound,
        "provider add missing smtp://10.1.2.3 --replace": NotFound,
        "provider add other smtp://u@10.1.2.3 --password-file missing": Invalid,
        "provider remove default": Conflict,
        "provider test missing": NotFound,
    }.items():
        with pytest.raises(kind):
            run(line)


def test_a_test_logs_in_and_its_exit_code_says_whether_it_works() -> None:
    with SmtpSink(options=Options(users={"news": "s3cret"})) as sink:
        run(f"provider add good smtp://news@127.0.0.1:{sink.port} --password-file -", typed="s3cret")
        run(f"provider add bad smtp://news@127.0.0.1:{sink.port} --password-file -", typed="wrong")
        assert "logged in" in run("provider test good")
        assert "refused" in run("provider test bad", code=1)


def test_the_master_key_is_rotated_and_the_older_one_is_kept_for_a_day() -> None:
    assert run("secrets show --json").strip() == "[]"
    run("provider add relay smtp://news:s3cret@10.1.2.3?tls=starttls")
    (first,) = json.loads(run("secrets show --json"))
    resealed = json.loads(run("secrets rotate --json"))
    assert {"owner": "providers", "done": 1, "left": 0} in resealed
    assert [key["id"] for key in json.loads(run("secrets show --json"))][1:] == [first["id"]]
    assert {one["done"] for one in json.loads(run("secrets reseal --json"))} == {0}
    with pytest.raises(Conflict, match="in 25 h"):
        run("secrets drop-old")


def test_what_cannot_be_opened_any_more_is_said_with_exit_code_1(home: Path) -> None:
    run("provider add relay smtp://news:s3cret@10.1.2.3?tls=starttls")
    (home / "data" / "master.key").unlink()
    resealed = json.loads(run("secrets rotate --json", code=1))
    assert {"owner": "providers", "done": 0, "left": 1} in resealed


def test_keys_of_a_setting_are_changed_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROOM_MASTER_KEY", "A" * 43 + "=")
    run("provider add relay smtp://news:s3cret@10.1.2.3?tls=starttls")
    with pytest.raises(Unsupported, match="POSTROOM_MASTER_KEY"):
        run("secrets rotate")
    assert len(json.loads(run("secrets show --json"))) == 1


def test_a_warm_up_is_shown_with_the_number_of_today() -> None:
    run("provider add relay smtp://10.1.2.3 --warm-up 200x1.5-50000@2020-01-01 --per-day 70000")
    over = json.loads(run("provider show relay --json"))
    assert (over["warm_up"], over["today"]) == ("200x1.5-50000@2020-01-01", 70_000)
    run("provider add relay smtp://10.1.2.3 --replace --warm-up 200x1.5@2999-01-01")
    shown = json.loads(run("provider show relay --json"))
    assert (shown["warm_up"], shown["today"]) == ("200x1.5@2999-01-01", 200)
    assert "200 today" in run("provider list")
    found = CliRunner().invoke(app, ["doctor"]).stdout
    assert "200 recipients today, by the warm-up 200x1.5@2999-01-01" in found
    with pytest.raises(Invalid, match="no warm-up"):
        run("provider add other smtp://10.1.2.3 --warm-up fast")
