"""`postroom sender dkim`: keys are made, published, verified, replaced and removed at the machine, and every change is in the trail."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from postroom.entrypoints.cli import app
from postroom.entrypoints.cli.session import session
from postroom.errors import Conflict, NotFound
from postroom.platform.mail.resolver import Resolver


@pytest.fixture(autouse=True)
def zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What the DNS holds."""
    texts: dict[str, list[str]] = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTROOM_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(Resolver, "txt", lambda _self, name: texts.get(name, []))
    monkeypatch.setattr(Resolver, "mx", lambda _self, name: [])
    monkeypatch.setattr(Resolver, "has_address", lambda _self, name: False)
    return texts


def run(line: str, *, code: int = 0) -> tuple[str, str]:
    """What it printed and what it said; an error as it is raised."""
    done = CliRunner().invoke(app, line.split())
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.stderr
    return done.stdout, done.stderr


def publish(zone: dict[str, list[str]], printed: str) -> None:
    """As a zone file's reader understands the lines."""
    for name, text in re.findall(r"^(\S+)\. IN TXT (.+)$", printed, re.MULTILINE):
        strings = re.findall(r'"([^"]*)"', text)
        assert all(len(each) <= 255 for each in strings)
        zone[name] = ["".join(strings)]


def shown(domain: str = "shop.example") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(f"sender dkim show {domain} --json")[0])
    return found


def findings(options: str = "--domain shop.example", code: int = 0) -> dict[str, tuple[str, str]]:
    """The doctor's about DKIM."""
    found = json.loads(run(f"doctor {options} --json", code=code)[0])
    return {each["subject"]: (each["level"], each["text"]) for each in found if "DKIM" in each["subject"]}


def test_a_key_signs_once_what_was_printed_is_published(zone: dict[str, list[str]]) -> None:
    printed, said = run("sender dkim add Shop.Example --ed25519")
    assert "postroom sender dkim verify shop.example" in said
    assert "signs nothing yet" in run("sender dkim verify shop.example", code=1)[1]
    assert [key["status"] for key in shown()] == ["waiting", "waiting"]
    publish(zone, printed)
    run("sender dkim verify shop.example")
    assert [(key["algorithm"], key["status"]) for key in shown()] == [("rsa", "active"), ("ed25519", "active")]


def test_keys_are_replaced_and_removed(zone: dict[str, list[str]]) -> None:
    publish(zone, run("sender dkim add shop.example")[0])
    run("sender dkim verify shop.example")
    publish(zone, run("sender dkim rotate shop.example")[0])
    run("sender dkim verify shop.example")
    old, new = shown()
    assert (old["status"], new["status"]) == ("retired", "active")
    assert "no longer" not in run(f"sender dkim remove shop.example {old['selector']}")[1]
    assert "no longer signed" in run(f"sender dkim remove shop.example {new['selector']}")[1]
    assert shown() == []


def test_an_operator_may_do_without_the_dns() -> None:
    run("sender dkim add shop.example")
    run("sender dkim verify shop.example --without-check")
    assert [(key["status"], key["unchecked"]) for key in shown()] == [("active", True)]


def test_what_is_shown_can_be_copied() -> None:
    printed, _ = run("sender dkim add shop.example")
    assert run("sender dkim show shop.example")[0].endswith(printed)


def test_there_is_nothing_to_replace_or_to_verify_or_there_is_already() -> None:
    for command in ("rotate", "verify"):
        with pytest.raises(NotFound, match="dkim add"):
            run(f"sender dkim {command} shop.example")
    run("sender dkim add shop.example")
    with pytest.raises(Conflict, match="rotate"):
        run("sender dkim add shop.example")


def test_a_tenants_keys_are_its_own() -> None:
    run("tenant add acme")
    run("sender dkim add shop.example --tenant acme")
    assert shown() == []
    with pytest.raises(NotFound):
        run("sender dkim add shop.example --tenant nobody")


def test_every_change_is_in_the_trail(zone: dict[str, list[str]]) -> None:
    publish(zone, run("sender dkim add shop.example")[0])
    (selector,) = [key["selector"] for key in shown()]
    run("sender dkim verify shop.example")
    run(f"sender dkim remove shop.example {selector}")
    with session() as postroom:
        entries = [(entry.action, entry.target, entry.status) for entry in reversed(postroom.audit.list("default").items)]
    target = f"dkim/shop.example/{selector}"
    assert entries == [(f"postroom sender dkim {word}", target, 200) for word in ("add", "verify", "remove")]


# The doctor.


def test_the_doctor_holds_the_keys_against_the_dns(zone: dict[str, list[str]]) -> None:
    publish(zone, run("sender dkim add shop.example")[0])
    run("sender dkim verify shop.example")
    (key,) = shown()
    subject = f"DKIM key {key['selector']} of shop.example"
    assert findings() == {subject: ("ok", f"active, published at {key['record_name']}")}
    assert findings("") == findings()
    below = findings("--domain news.shop.example")
    assert below == findings()
    zone.clear()
    assert findings(code=1)[subject][0] == "fail"
    assert findings("--domain other.example") == {"DKIM of other.example": ("skipped", "the key's selector is not known")}


def test_the_doctor_finds_a_key_that_cannot_be_opened(tmp_path: Path) -> None:
    run("sender dkim add shop.example")
    run("sender dkim verify shop.example --without-check")
    (tmp_path / "data" / "master.key").unlink()
    assert any("cannot be opened" in text for level, text in findings("", code=1).values() if level == "fail")


def test_the_doctor_opens_nothing_that_is_not_there(tmp_path: Path) -> None:
    run("doctor --json")
    assert not (tmp_path / "data").exists()
