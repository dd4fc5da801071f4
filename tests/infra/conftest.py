"""The templates of a production stage."""

from __future__ import annotations

import pytest

from tests.infra.synthesis import synthesised
from tests.infra.templates import Templates

CONTEXT = {"stage": "prod", "domain": "mail.example.com", "alert_email": "oncall@example.com", "pagerduty": "true"}


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """Of all stacks."""
    return Templates(synthesised(tmp_path_factory, "production", CONTEXT))
