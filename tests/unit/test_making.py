"""A campaign from what the user typed: each error names its option."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.entrypoints.cli import send
from postroom.errors import Invalid


def test_an_inline_picture_is_shown_by_its_file_name(tmp_path: Path) -> None:
    (tmp_path / "logo.png").write_bytes(b"png")
    file = send.read_inline_file(tmp_path / "logo.png")
    assert (file.filename, file.content_type, file.content, file.content_id) == ("logo.png", "image/png", b"png", "logo.png")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"gone\.pdf cannot be read"):
        send.read_attachment(tmp_path / "gone.pdf")


@pytest.mark.parametrize("given", ["city", "=Oslo", "two words=x"])
def test_a_variable_is_a_name_and_a_value(given: str) -> None:
    with pytest.raises(Invalid, match="name=value"):
        send.parse_variables([given])


def test_a_value_may_hold_anything() -> None:
    assert send.parse_variables(["sum=1=1", "empty="]) == {"sum": "1=1", "empty": ""}
