"""The function `indexer`: messages as they stand, into the search index.

Called with a batch of the table's stream. A document of an older change never replaces a newer one, so a batch may come again as
often as it likes; where the index does not answer, it does. What the index refuses for good is left out, with a metric.

Metrics: `DocumentsIndexed`, `DocumentsRefused`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from postroom.entrypoints.lambdas.observing import count, observed
from postroom.entrypoints.lambdas.opened import postroom
from postroom.entrypoints.lambdas.stream_records import changes_in
from postroom.wiring.streams import SearchIndex, search_index


@observed("indexer")
def handler(event: Any, _context: Any) -> None:
    """A batch of the table's stream."""
    changes = changes_in(event)
    if changes:
        refused = _index().put(changes)
        count("DocumentsIndexed", len(changes) - refused)
        count("DocumentsRefused", refused)


@cache
def _index() -> SearchIndex:
    return search_index(postroom().settings)
