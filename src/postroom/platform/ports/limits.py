"""Checks that several ports share: names, page sizes, text and cursors. They raise `Invalid` and name the rule."""

from __future__ import annotations

import base64
import binascii
import re

from postroom.errors import Invalid

MAX_PAGE = 1_000
MAX_NAME = 60
_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}")


def check_name(name: str, what: str) -> None:
    """Checks the name of a queue, timer, workflow or execution."""
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name!r} cannot name a {what}: 1 to {MAX_NAME} letters, digits, '-' and '_'.")


def check_page(limit: int, most: int = MAX_PAGE) -> None:
    """Checks that `limit` is 1 to `most`."""
    if not 1 <= limit <= most:
        raise Invalid(f"A limit of {limit} is out of range: 1 to {most}.")


def utf8(text: str, what: str) -> bytes:
    """`text` in UTF-8. Raises `Invalid` for a lone surrogate; `what` names the text in the error."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Invalid(f"{what} is not Unicode text: {error.reason}.") from error


def cursor_after(key: str) -> str:
    """The opaque cursor of a page that ends with `key`."""
    return base64.urlsafe_b64encode(key.encode()).decode()


def parse_cursor(cursor: str) -> str:
    """The key of a cursor. Raises `Invalid` if `cursor_after` did not make it."""
    try:
        return base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError) as error:
        raise Invalid("This cursor was not returned by a listing.") from error
