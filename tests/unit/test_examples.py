"""The examples are what a newcomer sees first: they compile, every good row of the file makes a message, and the dirt is there."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from postroom.delivery.compose import variables
from postroom.model import address
from postroom.templates.mjml import compile_mjml
from tests.unit.composing import PUBLIC_URL, compile_it, compose_it, opened, part_of

EXAMPLES = Path(__file__).parents[2] / "examples"
TEMPLATES = {"newsletter": "newsletter.mjml", "invoice": "invoice.html"}
SUBJECTS = {"newsletter": "The Roast Letter, autumn", "invoice": "Invoice {{ invoice_no }}"}


def html_of(name: str) -> str:
    source = (EXAMPLES / TEMPLATES[name]).read_text(encoding="utf-8")
    return compile_mjml(source) if name == "newsletter" else source


def rows() -> list[dict[str, str]]:
    with (EXAMPLES / "recipients.csv").open(encoding="utf-8-sig", newline="") as file:
        lines = [cells for cells in csv.reader(file, delimiter=";") if any(cell.strip() for cell in cells)]
    header = [name.lower().replace(" ", "_") for name in lines[0]]
    return [dict(zip(header, (cell.strip() for cell in cells), strict=False)) for cells in lines[1:]]


def parsed(row: dict[str, str]) -> address.Address | None:
    try:
        return address.parse_address(row["e-mail"])
    except address.AddressError:
        return None


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("public_url", [None, PUBLIC_URL])
def test_every_good_row_makes_a_message(name: str, public_url: str | None) -> None:
    composer = compile_it(html_of(name), text=None, subject=SUBJECTS[name], public_url=public_url)
    for row in rows():
        if who := parsed(row):
            assert compose_it(composer, row, address=who.mailbox, name=who.name).content


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_asks_only_for_columns_the_file_has(name: str) -> None:
    assert variables(html=html_of(name), text=None, subject=SUBJECTS[name]) <= set(rows()[0])


@pytest.mark.parametrize("name", TEMPLATES)
def test_both_parts_can_be_read_and_left(name: str) -> None:
    composer = compile_it(html_of(name), text=None, subject=SUBJECTS[name], public_url=PUBLIC_URL)
    row = {"first_name": "Anna", "invoice_no": "LH-1", "amount": "1.00", "due_date": "2026-10-01"}
    message = opened(compose_it(composer, row))
    text, html = part_of(message, "plain"), part_of(message, "html")
    assert "Hello Anna," in text
    assert "Hello Anna," in html
    assert f"{PUBLIC_URL}/u/" in text
    assert f'href="{PUBLIC_URL}/u/' in html
    assert not re.search(r"\n{4}|<|&\w+;|\{", text)
    assert "prefers-color-scheme: dark" in html
    assert re.search(r"display:\s?none", html)


def test_the_file_is_as_dirty_as_its_readme_says() -> None:
    raw = (EXAMPLES / "recipients.csv").read_bytes()
    text = raw.decode("utf-8-sig")
    assert raw.startswith(b"\xef\xbb\xbf")
    for dirt in (
        "\u00a0",
        "\u200b",
        "mailto:",
        " <",
        '""',
        "\nbut not before ten",
        "bücher.example",
        "ünal@example.com",
        "\r\n\r\n",
        ";;extra;",
    ):
        assert dirt in text, dirt
    everybody = rows()
    good = [who for row in everybody if (who := parsed(row))]
    distinct = {who.normalised for who in good}
    assert len(everybody) >= 1_200
    assert len(distinct) >= 1_000
    assert len(everybody) - len(good) == 20
    assert len(good) - len(distinct) >= 30
    for who in good:
        assert re.search(r"(?:^|\.)(?:example|xn--[a-z0-9-]+\.example)(?:\.(?:com|net|org))?$", who.mailbox.rpartition("@")[2]), (
            who
        )
