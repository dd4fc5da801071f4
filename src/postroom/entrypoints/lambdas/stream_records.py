"""What a batch of the table's stream tells of messages.

A record that cannot be read is left out, with a line and a metric (`RecordsNotRead`): the stream hands a batch out again until
its function ends well, and nothing after it may wait for that.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from postroom.entrypoints.lambdas.observing import count
from postroom.errors import Permanent
from postroom.platform.ports.feed import MessageChange
from postroom.wiring.streams import changes_of

_log = logging.getLogger(__name__)


def changes_in(event: Any) -> list[MessageChange]:
    """In the stream's order."""
    records: Sequence[Any] = event["Records"]
    try:
        return changes_of(records)
    except (Permanent, ValueError, LookupError) as error:
        _log.warning("a batch of the stream cannot be read together: %s", error)
    return [change for record in records for change in _of(record)]


def _of(record: Any) -> Sequence[MessageChange]:
    try:
        return changes_of([record])
    except (Permanent, ValueError, LookupError):
        _log.exception("a record of the stream cannot be read: %s", record.get("eventID", "") if isinstance(record, dict) else "")
        count("RecordsNotRead")
        return []
