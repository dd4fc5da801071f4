"""Writes down which rows of the table a function asks for (tests/aws_e2e/asked.py)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ACTIONS = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}
_SINGLE = {"GetItem": "Key", "PutItem": "Item", "UpdateItem": "Key", "DeleteItem": "Key", "ConditionCheckItem": "Key"}
_IN_BATCH = {"PutRequest": "Item", "DeleteRequest": "Key"}


class Rows:
    """Of one process."""

    def __init__(self, folder: Path, function: str) -> None:
        self._file = folder / f"{function}.{os.getpid()}"
        self._known: set[str] = set()

    def note(self, operation: str, parameters: Any) -> None:
        """Each kind of call once."""
        for action, rows in _asked(operation, parameters):
            line = json.dumps([action, sorted(set(rows))])
            if line not in self._known:
                self._known.add(line)
                with self._file.open("a") as file:
                    file.write(line + "\n")


def _asked(operation: str, parameters: Any) -> Iterator[tuple[str, list[str]]]:
    if operation in _SINGLE:
        yield operation, [parameters[_SINGLE[operation]]["pk"]["S"]]
    elif operation == "Query":
        yield operation, [_queried(parameters)]
    elif operation == "BatchGetItem":
        for table in parameters["RequestItems"].values():
            yield operation, [key["pk"]["S"] for key in table["Keys"]]
    elif operation == "BatchWriteItem":
        for requests in parameters["RequestItems"].values():
            yield operation, [each[kind][_IN_BATCH[kind]]["pk"]["S"] for each in requests for kind in each]
    elif operation == "TransactWriteItems":
        for verb, request in (pair for item in parameters["TransactItems"] for pair in item.items()):
            yield _ACTIONS[verb], [request[_SINGLE[_ACTIONS[verb]]]["pk"]["S"]]


def _queried(parameters: Any) -> str:
    names = dict(parameters.get("ExpressionAttributeNames", {}))
    for alias, value in re.findall(r"(#?\w+) = (:\w+)", parameters["KeyConditionExpression"]):
        if names.get(alias, alias) == "pk":
            return str(parameters["ExpressionAttributeValues"][value]["S"])
    raise AssertionError(parameters["KeyConditionExpression"])
