"""The documentation is tested: every command, option, setting and dependency appears, and no link leads nowhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import typer.main

from postroom.entrypoints.cli import app
from postroom.entrypoints.cli import reference as cli_reference
from postroom.settings import SETTINGS
from postroom.settings.reference import reference
from postroom.telemetry import reference as logs_reference

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]*)?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


COMMANDS = dict(cli_reference.commands(typer.main.get_command(app)))


def text(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def test_the_command_line_page_is_made_from_the_code() -> None:
    """`make docs` makes it."""
    page = text("docs/reference/command-line.md")
    assert page == cli_reference.reference()
    assert all(f"## {name}\n" in page for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert all(getattr(parameter, "help", None) for parameter in command.params if parameter.name != "help")


def test_the_settings_page_is_made_from_the_code() -> None:
    """`make docs` makes it."""
    page = text("docs/reference/settings.md")
    assert page == reference()
    assert all(f"### POSTROOM_{name.upper()}" in page for name in SETTINGS)


def test_the_page_of_log_events_is_made_from_the_code() -> None:
    """`make docs` makes it."""
    assert text("docs/reference/logs.md") == logs_reference.reference()


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads(text("pyproject.toml"))
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    wanted += [line for lines in project["project"]["optional-dependencies"].values() for line in lines]
    names = {re.split(r"[\[<>=;~! ]", line)[0] for line in wanted}
    explained = set(re.findall(r"^\| `([^`]+)`", text("docs/reference/dependencies.md"), re.MULTILINE))
    assert explained == names


def anchors(page: Path) -> set[str]:
    headings = _HEADING.findall(page.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_link_leads_nowhere(page: Path) -> None:
    for target, anchor in _LINK.findall(page.read_text("utf-8")):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), target
        if anchor and linked.suffix == ".md":
            assert anchor[1:] in anchors(linked), target + anchor


def test_the_readme_opens_with_the_two_commands() -> None:
    first = text("README.md").split("\n## ")[0]
    assert first.index("make demo") < first.index("make test")


def test_every_make_target_is_explained_by_help() -> None:
    makefile = text("Makefile")
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony
    assert set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE)) == set(phony[1].split()) - {"postfix"}


def test_decisions_are_numbered_and_listed() -> None:
    records = sorted((DOCS / "adr").glob("*.md"))
    assert [path.name[:4] for path in records] == [f"{number:04}" for number in range(1, len(records) + 1)]
    for path in records:
        lines = path.read_text("utf-8").splitlines()
        assert lines[0].startswith(f"# {path.name[:4]}: ")
        assert re.fullmatch(r"Status: (accepted|superseded by \[\d{4}\]\(\S+\)), \d{4}-\d\d-\d\d", lines[2]), path.name
        assert {"## Context", "## Decision", "## Consequences"} <= set(lines), path.name
        assert f"adr/{path.name}" in text("ARCHITECTURE.md"), path.name


def test_the_changelog_has_the_present_version() -> None:
    version = tomllib.loads(text("pyproject.toml"))["project"]["version"]
    headings = re.findall(r"^## \[(.+?)\]", text("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert "Unreleased" in headings or version in headings
