"""A listing's cursor: the last key that was shown, made opaque."""

from __future__ import annotations

import base64
import binascii

from postroom.errors import Invalid


def cursor_at(key: str) -> str:
    """The cursor of a page that ends with `key`."""
    return base64.urlsafe_b64encode(key.encode()).decode()


def position_of(cursor: str) -> str:
    """The key of `cursor_at`; `Invalid` for anything else."""
    try:
        return base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError) as error:
        raise Invalid("This cursor was not given by a listing.") from error
