"""Pixels, links and unsubscribing: `/t/…` and `/u/…`, open to everybody. What is heard is on the queue before the answer."""

from __future__ import annotations

from typing import Any

from postroom.entrypoints.lambdas.api import Answer, door, open_early
from postroom.entrypoints.lambdas.observing import observed


@observed("tracking")
def handler(event: Any, context: Any) -> Answer:
    """A call by somebody who has a mail of ours."""
    return door("tracking")(event, context)


open_early(__name__, {"handler": "tracking"})
