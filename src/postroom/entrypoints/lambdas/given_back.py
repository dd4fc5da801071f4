"""Which items of a batch a function did not manage: Lambda hands those out again, and no others (partial batch responses)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

GivenBack = dict[str, list[dict[str, str]]]
"""What a function answers that is called with a batch of SQS's."""


def given_back(records: Iterable[Any]) -> GivenBack:
    """These of SQS's records."""
    return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in records]}


def queue_of(record: Any) -> str:
    """The queue's name as the port has it: of `…:postroom-<stage>-q-<queue>`."""
    return str(record["eventSourceARN"]).rpartition("-q-")[2]
