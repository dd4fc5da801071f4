"""What is changed on the command line stands in the audit trail, and every command is about the tenant that it is told."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from postroom.entrypoints.cli import app
from postroom.entrypoints.cli.session import recorded, session
from postroom.errors import Conflict, Invalid, NotFound
from postroom.model.campaign import CampaignRef

LATER = "2099-12-01T09:00:00Z"
HTML = "<p>Hello {{ first_name }}</p>"


@pytest.fixture(autouse=True)
def ref(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTROOM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LOGNAME", "olga")
    (tmp_path / "hello.html").write_text(HTML, "utf-8")
    (tmp_path / "people.csv").write_text("email,first_name\nanna@example.com,Anna\n", "utf-8")
    (tmp_path / "gone.csv").write_text("email\nbo@example.com\n", "utf-8")


def run(line: str, *, code: int = 0) -> str:
    """What it printed to standard output; an error as it is raised."""
    done = CliRunner().invoke(app, line.split())
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.stderr
    return done.stdout


def trail(tenant: str = "default") -> list[dict[str, Any]]:
    """Oldest first."""
    with session() as postroom:
        page = postroom.audit.list(tenant)
    return [
        {"actor": entry.actor, "action": entry.action, "target": entry.target, "status": entry.status}
        for entry in reversed(page.items)
    ]


def made_key() -> str:
    return run("key add shop --role viewer --tenant news")[3:19]


def made_client() -> str:
    client: str = json.loads(run("client add shop --tenant news --json"))["client_id"]
    return client


def nothing() -> str:
    return ""


def sender() -> str:
    run("sender add news@shop.example --tenant news")
    return "news@shop.example"


def user() -> str:
    run("user add ann@shop.example --tenant news")
    return "ann@shop.example"


def suppressed() -> str:
    run("suppress add bo@example.com --tenant news")
    return "bo@example.com"


def provider() -> str:
    run("provider add relay smtp://127.0.0.1:25 --tenant news")
    return "relay"


def callback() -> str:
    found: str = json.loads(run("callback add https://shop.example/hook --tenant news --json"))["id"]
    return found


def delivery() -> str:
    made = callback()
    return f"{made} {run(f'callback test {made} --tenant news')}".strip()


@pytest.mark.parametrize(
    ("before", "line", "action"),
    [
        (nothing, "key add shop --role viewer --tenant news", "key add"),
        (made_key, "key revoke {} --tenant news", "key revoke"),
        (nothing, "client add shop --tenant news", "client add"),
        (made_client, "client revoke {}", "client revoke"),
        (nothing, "sender add shop.example --tenant news", "sender add"),
        (nothing, "sender trust news@shop.example --tenant news", "sender trust"),
        (sender, "sender remove {} --tenant news", "sender remove"),
        (nothing, "user add ann@shop.example --tenant news", "user add"),
        (user, "user invite {}", "user invite"),
        (user, "user role {} sender", "user role"),
        (user, "user disable {}", "user disable"),
        (user, "user enable {}", "user enable"),
        (user, "user reset-totp {}", "user reset-totp"),
        (user, "user remove {}", "user remove"),
        (nothing, "suppress add bo@example.com --tenant news", "suppress add"),
        (suppressed, "suppress remove {} --tenant news", "suppress remove"),
        (nothing, "suppress import gone.csv --tenant news", "suppress import"),
        (nothing, "template push hello.html --tenant news", "template push"),
        (nothing, "provider add relay smtp://127.0.0.1:25 --tenant news", "provider add"),
        (provider, "provider add {} smtp://127.0.0.1:26 --replace --tenant news", "provider add --replace"),
        (provider, "provider remove {} --tenant news", "provider remove"),
        (nothing, "callback add https://shop.example/hook --tenant news", "callback add"),
        (callback, "callback change {} --disable --tenant news", "callback change"),
        (callback, "callback remove {} --tenant news", "callback remove"),
        (callback, "callback rotate-secret {} --tenant news", "callback rotate-secret"),
        (callback, "callback test {} --tenant news", "callback test"),
        (callback, "callback redeliver {} --tenant news", "callback redeliver"),
        (delivery, "callback redeliver {} --tenant news", "callback redeliver"),
        (nothing, "callback campaign-secret --rotate --tenant news", "callback campaign-secret --rotate"),
    ],
)
def test_a_change_stands_in_its_tenants_trail_with_who_made_it_and_of_what(
    before: Callable[[], str], line: str, action: str
) -> None:
    run("tenant add news")
    made = before()
    known = len(trail("news"))
    run(line.format(made))
    (entry,) = trail("news")[known:]
    assert (entry["actor"], entry["action"], entry["status"]) == ("operator:olga", f"postroom {action}", 200)
    assert "@" not in entry["target"] or action.startswith("sender"), "a person who is erased must not stay in the trail"
    assert entry["target"].startswith(action.partition(" ")[0].replace("suppress", "suppression"))
    assert trail() == []


def test_work_on_the_installation_stands_in_its_own_trail() -> None:
    run("tenant add news")
    run("tenant disable news")
    run("tenant enable news")
    run("provider add relay smtp://127.0.0.1:25")
    run("secrets rotate")
    assert [entry["action"] for entry in trail("")] == [
        "postroom tenant add",
        "postroom tenant disable",
        "postroom tenant enable",
        "postroom provider add",
        "postroom secrets rotate",
    ]
    assert trail("")[0]["target"] == "tenant/news"
    listed = CliRunner().invoke(app, ["audit", "list", "--tenant", ""]).stdout
    assert "olga\tthis machine\tpostroom tenant add\ttenant/news\t200" in listed


def test_what_was_refused_is_recorded_as_refused() -> None:
    run("tenant add news")
    with pytest.raises(Conflict):
        run("tenant add news")
    assert [entry["status"] for entry in trail("")] == [200, 409]


def test_a_campaign_and_what_is_done_with_it_stand_in_its_tenants_trail() -> None:
    run("tenant add news")
    campaign = json.loads(
        run(
            "send --template hello.html --recipients people.csv --from n@shop.example --subject Hi --tenant news --json --mail inbox:"
        )
    )
    assert (campaign["status"], campaign["counts"]["sent"]) == ("completed", 1)
    assert json.loads(run("campaign list --json")) == []
    with pytest.raises(NotFound):
        run(f"campaign show {campaign['id']}")
    assert json.loads(run(f"campaign show {campaign['id']} --tenant news --json"))["counts"]["sent"] == 1
    run(f"campaign retry-failed {campaign['id']} --tenant news")
    run(f"campaign delete {campaign['id']} --tenant news --yes")
    assert [(entry["action"], entry["target"]) for entry in trail("news")] == [
        (f"postroom {action}", f"campaign/{campaign['id']}") for action in ("send", "campaign retry-failed", "campaign delete")
    ]


def test_a_dry_run_changes_nothing_and_leaves_no_trail() -> None:
    run("send --template hello.html --recipients people.csv --from n@shop.example --subject Hi --dry-run")
    assert trail() == []


def test_what_was_killed_midway_stands_as_begun() -> None:
    def killed() -> None:
        with session() as postroom, recorded(postroom, "key add", tenant="default"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert [entry["status"] for entry in trail()] == [None]


def test_what_cannot_be_recorded_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    run("tenant add news")

    def full(*_: object, **__: object) -> None:
        raise Conflict("the trail is closed")

    with monkeypatch.context() as patched:
        patched.setattr("postroom.ledger.audit.AuditLog.write", full)
        with pytest.raises(Conflict, match="trail is closed"):
            run("sender trust news@shop.example --tenant news")
    assert json.loads(run("sender list --tenant news --json")) == []


@pytest.mark.parametrize(
    "line",
    [
        "campaign list",
        "campaign show aer7k222ki4nshvm",
        "suppress list",
        "suppress add bo@example.com",
        "template list",
        "key list",
        "client list",
        "sender list",
        "user list",
        "provider list",
        "audit list",
        "audit verify",
    ],
)
def test_a_tenant_that_is_not_there_is_said_to_be_missing_not_empty(line: str) -> None:
    with pytest.raises(NotFound, match="there is no tenant 'nwes'"):
        run(f"{line} --tenant nwes")


def test_a_time_that_is_none_is_no_empty_trail() -> None:
    with pytest.raises(Invalid, match="such as 2026-12-01"):
        run("audit list --when yesterday")
    assert run("audit list --when 2026-12-01T09:30") == ""


def test_what_is_to_be_done_next_names_the_tenant() -> None:
    run("tenant add news")
    said = CliRunner().invoke(app, ["sender", "add", "shop.example", "--tenant", "news"]).stderr
    assert "postroom sender verify shop.example --tenant news" in said


def test_an_address_is_suppressed_for_its_tenant_alone() -> None:
    run("tenant add news")
    run("suppress add bo@example.com --tenant news")
    assert run("suppress list") == ""
    assert run("suppress list --tenant news").startswith("bo@example.com\t")
    assert "bo@example.com" in run("suppress export --tenant news")


def test_who_left_a_topic_gets_no_campaign_of_it_from_the_command_line() -> None:
    run("suppress add bo@example.com --topic offers --reason unsubscribe")
    Path("people.csv").write_text("email,first_name\nbo@example.com,Bo\n")
    send = "send --template hello.html --recipients people.csv --from n@shop.example --subject Hi --json --mail inbox:"
    left = json.loads(run(f"{send} --topic offers --callback-url https://shop.example/hooks"))
    assert (left["counts"]["suppressed"], left["counts"]["sent"]) == (1, 0)
    assert json.loads(run(f"{send} --topic news"))["counts"]["sent"] == 1
    with session() as postroom:
        campaign = postroom.campaigns.get(CampaignRef("default", left["id"]))
    assert (campaign.spec.content.topic, campaign.spec.callback_url) == ("offers", "https://shop.example/hooks")


@pytest.mark.parametrize("option", [f"--topic {'t' * 65}", "--callback-url http://127.0.0.1/hooks"])
def test_a_topic_or_callback_that_cannot_be_makes_no_campaign(option: str) -> None:
    with pytest.raises(Invalid, match=option.split()[0]):
        run(f"send --template hello.html --recipients people.csv --from n@shop.example --subject Hi --mail inbox: {option}")
    assert json.loads(run("campaign list --json")) == []


def test_whoever_takes_somebody_off_the_list_is_told_how_to_undo_it() -> None:
    run("tenant add news")
    run("suppress add bo@example.com --topic offers --reason unsubscribe --tenant news")
    CliRunner().invoke(
        app, ["suppress", "add", "bo@example.com", "--note", "asked by phone", "--until", LATER, "--tenant", "news"]
    )
    before = json.loads(run("suppress list --json --tenant news"))["suppressions"]
    said = CliRunner().invoke(app, ["suppress", "remove", "bo@example.com", "--tenant", "news"]).stderr.splitlines()
    assert json.loads(run("suppress list --json --tenant news"))["suppressions"] == []
    assert said[1:] == [
        f"postroom suppress add bo@example.com --reason manual --note 'asked by phone' --until {LATER} --tenant news",
        "postroom suppress add bo@example.com --reason unsubscribe --topic offers --tenant news",
    ]
    for line in said[1:]:
        assert CliRunner().invoke(app, shlex.split(line)[1:]).exit_code == 0
    after = json.loads(run("suppress list --json --tenant news"))["suppressions"]
    told = ("address", "reason", "note", "topic", "expires_at")
    assert [[one[name] for name in told] for one in after] == [[one[name] for name in told] for one in before]


@pytest.mark.parametrize("until", ["soon", "2020-01-01T00:00:00Z"])
def test_an_entry_ends_at_a_time_to_come(until: str) -> None:
    with pytest.raises(Invalid):
        run(f"suppress add bo@example.com --until {until}")
    assert run("suppress list") == ""
