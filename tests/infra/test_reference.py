"""The page about the stack says what the stack is."""

from __future__ import annotations

from pathlib import Path

import pytest


def test_the_page_is_made_from_the_description() -> None:
    pytest.importorskip("aws_cdk", reason="no CDK here: `make test` installs it")
    from infra.reference import page

    written = Path(__file__).resolve().parents[2] / "docs" / "reference" / "aws-stack.md"
    assert written.read_text("utf-8") == page(), "make it anew: python -m infra.reference"
