"""Requests for single messages, and storing accepted ones durably in groups.

Template variables of a single message become text, because the bounds of rendering are proven for text (templates.safety):
`true` is the word; `false` and null count as absent, so that `{% if … %}` works as expected.

A write to the ledger costs one disk sync for one message or a hundred. Calls that arrive while a store is running wait; the
first of them then stores for all. No call waits for more than two stores, there is no background task, and no call is answered
before its rows are durable, due, and watched (ledger.streams).

After a crash: before `store`, nothing is left. After `store`, messages that are not due until their batch is next counted;
repeating the call finds them. After `recount`, messages that are due; the repeated call, or the tenant's next one, wakes the
workers.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from postroom.clock import Clock
from postroom.errors import Invalid, TooLarge, Unavailable
from postroom.ledger.streams import DailyStreams
from postroom.model.campaign import CampaignRef
from postroom.model.ids import Key
from postroom.model.message import MessageRow
from postroom.platform.ports.messages import Messages

MAX_REQUESTS = 100
"""Per call."""
MAX_VARIABLES = 200
MAX_VALUES = 32_768
"""Characters of all variables that the template uses: they are stored with the message."""
MAX_ATTACHMENTS = 20
MAX_ATTACHED_BYTES = 10_000_000
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,99}$"
_VARIABLE = re.compile(VARIABLE_PATTERN)


@dataclass(frozen=True, slots=True)
class AttachedUpload:
    upload_id: str
    filename: str | None = None
    """None: the upload's own name."""
    content_id: str | None = None
    """Set for an inline image; the template refers to it as `cid:<content_id>`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRequest:
    """A message from a template, or from HTML and a subject."""

    to: str
    """An address, or `Name <address>`."""
    from_: str
    reply_to: str | None = None
    template_id: str | None = None
    template_version: int | None = None
    """None: the newest."""
    subject: str | None = None
    """Overrides the template's."""
    html: str | None = None
    text: str | None = None
    """None: derived from the HTML."""
    variables: Mapping[str, object] = field(default_factory=dict)
    attachments: tuple[AttachedUpload, ...] = ()
    track_opens: bool = False
    track_clicks: bool = False
    unsubscribe: bool = False
    topic: str | None = None


@dataclass(frozen=True, slots=True)
class AcceptedMessage:
    """It is stored and will be sent."""

    id: str
    ref: CampaignRef
    key: Key


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """It will not be sent."""

    index: int
    error: Exception
    """For example `Invalid`, `Denied`, `NotFound`, `RecipientSuppressed`."""


def texts(variables: Mapping[str, object]) -> dict[str, str]:
    """Variables as the template gets them, without absent and false ones. Raises `Invalid`."""
    if len(variables) > MAX_VARIABLES:
        raise TooLarge(f"there are {len(variables)} variables; a message may have {MAX_VARIABLES}")
    made: dict[str, str] = {}
    for name, value in variables.items():
        if not _VARIABLE.match(name):
            raise Invalid(f"variables: {name[:60]!r} is no name: letters, digits and '_', not beginning with a digit")
        text = _text(name, value)
        if text:
            made[name] = text
    return made


def _text(name: str, value: object) -> str:
    match value:
        case None | False:
            return ""
        case True:
            return "true"
        case str():
            return value
        case int():
            return str(value)
        case float() if math.isfinite(value):
            return str(value)
        case list() | dict():
            raise Invalid(
                f"variables: {name} is a list or an object; a single message takes text, numbers, true and false: "
                "give the parts names of their own"
            )
        case _:
            raise Invalid(f"variables: {name} is neither text nor a number")


_MOST_ROWS = 1_000
"""Rows of several calls in one store; one call has at most a hundred."""
_PATIENCE_S = 20.0
"""Less than a request's time limit (gateway.limits)."""


class _Call:
    """One caller's rows."""

    def __init__(self, rows: Sequence[MessageRow]) -> None:
        self.rows = rows
        self.done = False
        self.error: BaseException | None = None


class _StreamQueue:
    """Calls waiting for one stream."""

    def __init__(self) -> None:
        self.storing = threading.Lock()
        self.waiting: list[_Call] = []
        self.callers = 0


class MessageAcceptance:
    """One per process; thread-safe."""

    def __init__(self, messages: Messages, streams: DailyStreams, clock: Clock) -> None:
        self._messages = messages
        self._streams = streams
        self._clock = clock
        self._guard = threading.Lock()
        self._queues: dict[CampaignRef, _StreamQueue] = {}

    def store(self, ref: CampaignRef, rows: Sequence[MessageRow]) -> None:
        """Returns when the rows are durable and will be sent. Idempotent under the same keys.

        After `Unavailable` or another error of the store, the rows may be stored all the same: repeat the call."""
        call = _Call(rows)
        with self._queue(ref, call) as queue:
            if not queue.storing.acquire(timeout=_PATIENCE_S):
                raise Unavailable("the messages could not be stored in time: the disk is busy")
            try:
                while not call.done:
                    self._store_for(ref, self._take(queue))
            finally:
                queue.storing.release()
        if call.error is not None:
            raise call.error

    @contextmanager
    def _queue(self, ref: CampaignRef, call: _Call) -> Iterator[_StreamQueue]:
        with self._guard:
            queue = self._queues.setdefault(ref, _StreamQueue())
            queue.callers += 1
            queue.waiting.append(call)
        try:
            yield queue
        finally:
            with self._guard:
                queue.callers -= 1
                if not queue.callers:
                    del self._queues[ref]

    def _take(self, queue: _StreamQueue) -> list[_Call]:
        """The calls that waited longest, as many as one store takes."""
        with self._guard:
            rows = count = 0
            for call in queue.waiting:
                rows += len(call.rows)
                if count and rows > _MOST_ROWS:
                    break
                count += 1
            taken, queue.waiting = queue.waiting[:count], queue.waiting[count:]
        return taken

    def _store_for(self, ref: CampaignRef, calls: Sequence[_Call]) -> None:
        try:
            self._store(ref, [row for call in calls for row in call.rows])
        except BaseException as error:
            for call in calls:
                call.error = error
            if not isinstance(error, Exception):  # the thread is being ended
                raise
        finally:
            for call in calls:
                call.done = True

    def _store(self, ref: CampaignRef, rows: Sequence[MessageRow]) -> None:
        self._streams.make(ref)
        self._messages.store(ref, rows, self._clock.now())
        self._messages.recount(ref, {row.batch for row in rows})
        self._streams.wake(ref)
