"""A person who was sent to and is erased is not in one byte of the data directory any more."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from postroom.entrypoints import cli

ADDRESS, NAME = "anna.forgotten@mail.example", "Annabella"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("POSTROOM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTROOM_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.app, words)


def holding(data: Path, text: str) -> list[str]:
    """Files with the text, in any case."""
    files = (path for path in data.rglob("*") if path.is_file())
    return sorted(path.name for path in files if text.lower().encode() in path.read_bytes().lower())


def test_nothing_of_an_erased_person_is_on_the_disk(data: Path) -> None:
    Path("letter.html").write_text("<p>Hello {{ name }}</p>")
    Path("people.csv").write_text(f"email,name\n{ADDRESS},{NAME}\nbob@mail.example,Bob\n{ADDRESS.upper()},{NAME}\n")
    sent = run("send", "--template=letter.html", "--recipients=people.csv", "--from=a@shop.example", "--subject=Hi", "--json")
    campaign = json.loads(sent.stdout)["id"]
    assert run("suppress", "add", ADDRESS, "--note", f"{NAME} called").exit_code == 0
    assert set(holding(data, ADDRESS)) == {"control.db", f"{campaign}.db", "objects.db"}  # those not encrypted
    erased = run("erase", f"{NAME} <{ADDRESS}>", "--json")
    assert erased.exit_code == 0
    told = json.loads(erased.stdout)
    assert (told["complete"], told["campaigns"], told["mails"], told["files"]) == (True, [campaign], 1, [campaign])
    assert (holding(data, ADDRESS), holding(data, NAME)) == ([], [])
    assert holding(data, "bob@mail.example") != []
    counts = json.loads(run("campaign", "show", campaign, "--json").stdout)["counts"]
    assert (counts["rows"], counts["sent"], counts["duplicate"]) == (3, 2, 1)
    assert json.loads(run("suppress", "list", "--address", ADDRESS, "--json").stdout)["suppressions"][0]["address"] == ""


def test_what_is_not_erased_yet_is_said(data: Path) -> None:
    assert run("erase", ADDRESS).exit_code == 0
    assert run("erase", ADDRESS, "--forget-suppression").exit_code == 0
    assert run("erase", "nobody").exit_code == 1  # raised: the process ends with 2
    assert run("erase", ADDRESS, "--tenant", "absent").exit_code == 1
