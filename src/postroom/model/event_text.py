"""An event as stores keep it: a JSON array, its id first."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from postroom.clock import Instant
from postroom.errors import Corrupt
from postroom.model.event import Bounce, Event, EventKind

_Row = tuple[str, EventKind, int, int, str, Bounce | None, bool, str, str, str]
Cells = list[object]


def cells(event: Event) -> Cells:
    """The array, for whoever writes many as one value."""
    bounce = None if event.bounce is None else [event.bounce.type.value, event.bounce.category.value, event.bounce.code]
    return [
        event.id,
        event.kind.value,
        event.at,
        event.attempt,
        event.source,
        bounce,
        event.machine,
        event.detail,
        event.url,
        event.raw,
    ]


def event_text(event: Event) -> str:
    """The array as text."""
    return msgspec.json.encode(cells(event)).decode()


def parse_event(text: str) -> Event:
    """What `event_text` wrote; `Corrupt`."""
    try:
        return _event(msgspec.json.decode(text, type=_Row))
    except msgspec.DecodeError as error:
        raise Corrupt(f"an event cannot be read: {error}") from error


def event_of_cells(row: Sequence[object]) -> Event:
    """What `cells` made; `Corrupt`."""
    try:
        return _event(msgspec.convert(row, _Row))
    except msgspec.ValidationError as error:
        raise Corrupt(f"an event cannot be read: {error}") from error


def _event(row: _Row) -> Event:
    id_, kind, at, attempt, source, bounce, machine, detail, url, raw = row
    return Event(
        id=id_,
        kind=kind,
        at=Instant(at),
        attempt=attempt,
        source=source,
        bounce=bounce,
        machine=machine,
        detail=detail,
        url=url,
        raw=raw,
    )
