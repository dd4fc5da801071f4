"""What Lambda calls handlers with, and an installation that they open: the embedded one, as far as they can tell."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from postroom.settings import Settings
from postroom.wiring import Container, open_app

PREFIX = "arn:aws:sqs:eu-west-1:123456789012:postroom-test-"
MASTER = base64.b64encode(bytes(32)).decode()


class Context(NamedTuple):
    """Of a call."""

    left_ms: int = 60_000
    aws_request_id: str = "request"
    function_name: str = "postroom-test-x"

    def get_remaining_time_in_millis(self) -> int:
        return self.left_ms


@contextmanager
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *handlers: Any, **settings: str) -> Iterator[Container]:
    """What `postroom()` gives in these modules."""
    environ = {"POSTROOM_DATA": str(tmp_path / "data"), "POSTROOM_MASTER_KEY": MASTER, **settings}
    with open_app(Settings.load(environ, None, {})) as opened:
        for module in handlers:
            monkeypatch.setattr(module, "container", lambda: opened)
        yield opened


def from_queue(queue: str, *bodies: str) -> dict[str, Any]:
    """The event of a batch of SQS's; ids are `0`, `1` and so on."""
    return {
        "Records": [
            {
                "messageId": str(number),
                "receiptHandle": "x",
                "body": body,
                "attributes": {"ApproximateReceiveCount": "1"},
                "eventSource": "aws:sqs",
                "eventSourceARN": f"{PREFIX}q-{queue}",
            }
            for number, body in enumerate(bodies)
        ]
    }


def returned(answer: Any) -> Sequence[str]:
    """The items that were given back."""
    return [each["itemIdentifier"] for each in answer["batchItemFailures"]]
