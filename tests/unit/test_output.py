"""What was done is reported wherever standard output goes."""

from __future__ import annotations

import io
import json
import sys

import pytest

from postroom.entrypoints.cli.output import print_json, take_any_text

NAME = "Київ 🎉 été"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_a_file_gets_utf_8_whatever_the_locale_says(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding) as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        take_any_text()
        print_json({"name": NAME})
        stdout.flush()
        assert json.loads(raw.getvalue().decode("utf-8")) == {"name": NAME}


def test_where_the_encoding_is_another_s_json_is_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="latin-1") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        print_json({"name": NAME})
        stdout.flush()
        assert json.loads(raw.getvalue().decode("ascii")) == {"name": NAME}
