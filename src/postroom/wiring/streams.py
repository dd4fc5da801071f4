"""What follows the table's stream on AWS, put together: the stream's records as changes, and the search index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from postroom.errors import Invalid
from postroom.platform.aws import feed
from postroom.platform.aws.search import SearchIndex as SearchIndex
from postroom.platform.ports.feed import MessageChange
from postroom.settings import Settings


def changes_of(records: Iterable[Mapping[str, Any]]) -> list[MessageChange]:
    """In the stream's order; what is no change of a message is left out."""
    return feed.changes_of(records)


def search_index(settings: Settings) -> SearchIndex:
    """Where the settings say. `Invalid`: they do not."""
    if settings.aws_search is None:
        raise Invalid("POSTROOM_AWS_SEARCH is not set: it says where messages are indexed")
    return SearchIndex(settings.aws_search)
