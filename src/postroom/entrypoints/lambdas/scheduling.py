"""The function `scheduler`: notes about campaigns and streams, from the door and from schedules whose time has come.

A note that meets somebody else's write, or a store that does not answer, comes again; what can never be handled is dropped with a
line in the log, since the record is the truth and is looked at each minute (`chores`).
"""

from __future__ import annotations

from typing import Any

from postroom.entrypoints.house import House
from postroom.entrypoints.lambdas.given_back import GivenBack, given_back
from postroom.entrypoints.lambdas.observing import observed
from postroom.entrypoints.lambdas.opened import postroom


@observed("scheduler")
def handler(event: Any, _context: Any) -> GivenBack:
    """A batch of SQS's."""
    house = House(postroom())
    return given_back([record for record in event["Records"] if not house.handle_note(record["body"])])
