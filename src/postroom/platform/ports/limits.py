"""The ports' limits, checked once for both homes, before anything is touched.

Each function raises `Invalid` (or `TooLarge`, which is one; or what it says) with a sentence that names the rule.

A listing's cursor: the last key that was shown, made opaque.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from postroom.errors import Conflict, Invalid, TooLarge
from postroom.model.message import Message
from postroom.platform.ports import messages, objects, queues, tables, workflows

MAX_PAGE = 1_000
MAX_NAME = 60
MAX_EMAIL = 254
_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}")
_SEGMENT = re.compile(r"[A-Za-z0-9._=+@-]+")
_PREFIX = re.compile(r"[A-Za-z0-9._=+@/-]*")


def check_name(name: str, what: str) -> None:
    """The rule of queues, timers, workflows and executions."""
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name!r} cannot name a {what}: 1 to {MAX_NAME} letters, digits, '-' and '_'.")


def check_at_rest(message: Message) -> None:
    """Only what is no work any more may be erased. `Conflict`."""
    if message.is_work:
        raise Conflict(f"message {message.key.hex()} of batch {message.batch} is {message.status.label}: settle it first")


def check_events(reports: Sequence[messages.ReportedEvent]) -> None:
    """What one `report` may take."""
    if len(reports) > messages.MAX_EVENTS_PER_CALL:
        raise Invalid(f"{len(reports)} reports in one call are too many: up to {messages.MAX_EVENTS_PER_CALL}.")


def check_page(limit: int, most: int = MAX_PAGE) -> None:
    """A limit of 1 to `most`."""
    if not 1 <= limit <= most:
        raise Invalid(f"A limit of {limit} is out of range: 1 to {most}.")


def check_body(body: str) -> None:
    """The size of a queue's or timer's body."""
    size = len(utf8(body, "A body"))
    if size > queues.MAX_BODY_BYTES:
        raise TooLarge(f"A body of {size} bytes is too large: up to {queues.MAX_BODY_BYTES}. Store it and send its key.")


def check_input(text: str) -> None:
    """The size of a workflow's input."""
    size = len(utf8(text, "An input"))
    if size > workflows.MAX_INPUT_BYTES:
        raise TooLarge(f"An input of {size} bytes is too large: up to {workflows.MAX_INPUT_BYTES}. Store it and send its key.")


def check_bodies(bodies: Sequence[str]) -> None:
    """What one `send` may take."""
    if len(bodies) > queues.MAX_PER_CALL:
        raise Invalid(f"{len(bodies)} items in one call are too many: up to {queues.MAX_PER_CALL}.")
    for body in bodies:
        check_body(body)


def check_delay(delay_s: int) -> None:
    """A queue's delay in seconds."""
    if not 0 <= delay_s <= queues.MAX_DELAY_S:
        raise Invalid(f"A delay of {delay_s} s is out of range: 0 to {queues.MAX_DELAY_S} s. Use a timer for longer waits.")


def check_lease(lease_s: int) -> None:
    """A queue's lease in seconds."""
    if not 0 <= lease_s <= queues.MAX_LEASE_S:
        raise Invalid(f"A lease of {lease_s} s is out of range: 0 to {queues.MAX_LEASE_S} s.")


def check_object_key(key: str) -> None:
    """A key that can never leave the store's root."""
    segments = key.split("/")
    if len(key) > objects.MAX_KEY_BYTES:
        raise Invalid(f"An object key of {len(key)} characters is too long: up to {objects.MAX_KEY_BYTES}.")
    if not all(_SEGMENT.fullmatch(segment) and segment not in {".", ".."} for segment in segments):
        raise Invalid(
            f"{key!r} is no object key: segments of letters, digits and '._-=+@' joined by '/', none empty, '.' or '..'."
        )


def check_object_prefix(prefix: str) -> None:
    """A prefix that some key could begin with."""
    if len(prefix) > objects.MAX_KEY_BYTES or not _PREFIX.fullmatch(prefix):
        raise Invalid(f"{prefix!r} begins no object key: letters, digits and '._-=+@/' only.")


def check_item_key(key: tables.ItemKey) -> None:
    """Both parts of an item's key."""
    for part in key:
        check_key_part(part)


def check_key_part(part: str) -> bytes:
    """One part of an item's key; its UTF-8."""
    raw = utf8(part, "A key")
    if not 1 <= len(raw) <= tables.MAX_KEY_BYTES:
        raise Invalid(f"{part[:80]!r} cannot be part of a key: 1 to {tables.MAX_KEY_BYTES} bytes of UTF-8.")
    return raw


def check_writes(writes: Sequence[tables.Write]) -> None:
    """The number and the keys of one call's writes."""
    if len(writes) > tables.MAX_WRITES:
        raise Invalid(f"{len(writes)} writes in one call are too many: up to {tables.MAX_WRITES}.")
    seen: set[tables.ItemKey] = set()
    for write in writes:
        check_item_key(write.key)
        if write.key in seen:
            raise Invalid(f"One call writes {write.key} twice.")
        seen.add(write.key)


def item_json(data: Mapping[str, Any]) -> str:
    """An item's data as JSON text, at most 100 KB of UTF-8; `json.loads` gives the same back."""
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"An item's data must be a JSON object: {error}.") from error
    size = len(utf8(text, "An item's data"))
    if size > tables.MAX_ITEM_BYTES:
        raise TooLarge(f"An item of {size} bytes is too large: up to {tables.MAX_ITEM_BYTES}.")
    return text


def writes_json(writes: Sequence[tables.Write]) -> list[str]:
    """The JSON text of each write's data ("" where it has none), at most 3 MB in all."""
    texts = [item_json(write.data) if isinstance(write, tables.Put) else "" for write in writes]
    size = sum(len(text.encode()) for text in texts)
    if size > tables.MAX_CALL_BYTES:
        raise TooLarge(f"One call writes {size} bytes: up to {tables.MAX_CALL_BYTES}. Write it in several calls.")
    return texts


def normalized_email(email: str) -> str:
    """An address as a name to sign in with: trimmed and composed. Whether mail arrives there is not asked. `Invalid`."""
    text = unicodedata.normalize("NFC", email.strip())
    local, at, domain = text.rpartition("@")
    if not (local and at and domain) or len(text) > MAX_EMAIL or not all(_printable(letter) for letter in text):
        raise Invalid(f"{text[:80]!r} is no e-mail address")
    return text


def _printable(letter: str) -> bool:
    return letter.isprintable() and not letter.isspace()


def utf8(text: str, what: str) -> bytes:
    """`text` in UTF-8; a lone surrogate is refused."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Invalid(f"{what} is not Unicode text: {error.reason}.") from error


def cursor_after(key: str) -> str:
    """The cursor of a page that ends with `key`."""
    return base64.urlsafe_b64encode(key.encode()).decode()


def parse_cursor(cursor: str) -> str:
    """The key of `cursor_at`; `Invalid` for anything else."""
    try:
        return base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError) as error:
        raise Invalid("This cursor was not given by a listing.") from error
