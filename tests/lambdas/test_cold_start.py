"""The first caller of a function waits for what it needs, and for nothing else."""

from __future__ import annotations

import pytest
from bench.cold_start import FUNCTIONS, MOST_S, started

NEVER = ("argon2", "uvloop", "uvicorn", "aiosmtpd", "pyotp", "segno", "rich", "typer", "httpx2", "sqlite3")
"""Libraries of what only an installation on one machine has, or of what no call needs before it is known who calls."""
NOT_OURS = ("postroom.platform.embedded", "postroom.identity", "postroom.pipeline.splitter", "postroom.platform.mail.smtp")
RENDERING = ("mjml", "css_inline", "dns")


@pytest.mark.parametrize(
    ("name", "also_never"),
    [("email-api", ()), ("upload-api", RENDERING), ("tracking", RENDERING), ("authorizer", (*RENDERING, "fastapi", "pydantic"))],
)
def test_a_function_imports_what_it_needs_and_starts_in_time(name: str, also_never: tuple[str, ...]) -> None:
    function = next(each for each in FUNCTIONS if each.name == name)
    start = started(function)
    assert start.answer in {401, 200, "Unauthorized"}
    assert start.modules.isdisjoint((*NEVER, *NOT_OURS, *also_never))
    assert start.cpu_s < MOST_S
