"""What Lambda says of the process it started: its own variables, which are no settings of ours."""

from __future__ import annotations

import os


def function_name() -> str | None:
    """None: this is no function's process."""
    return os.environ.get("AWS_LAMBDA_FUNCTION_NAME")


def handler_name() -> str:
    """`module.function` of the handler that it was started for; empty outside of Lambda."""
    return os.environ.get("_HANDLER", "")


def is_untraced() -> bool:
    """Whether traces are switched off (powertools' own variable)."""
    return os.environ.get("POWERTOOLS_TRACE_DISABLED", "").lower() in {"1", "true"}
