"""The kinds of error Postroom raises, a dozen, and a few subclasses that an API client must tell apart.

Each adapter turns what its library raises into one of these.

`Temporary` and `Permanent` are the types that matter: a temporary error may be tried again as it is, a permanent
one will fail the same way until something is changed. What is not known to be permanent is temporary.
The text is a sentence for the person who can act on it: what happened, where, and what to do.
"""

from __future__ import annotations


class PostroomError(Exception):
    """The base of all errors that Postroom raises on purpose."""


class Temporary(PostroomError):
    """Trying the same again later may succeed."""


class Permanent(PostroomError):
    """Trying the same again will fail until something changes."""


class Invalid(Permanent):
    """The input is wrong; the text says what, where and what to do. The command line exits with 2."""


class NotFound(Permanent):
    """The thing asked for does not exist (or belongs to another tenant, which is the same answer)."""


class Conflict(Permanent):
    """A conditional write was refused: the record was changed by another writer, or has another status than required."""


class LeaseLost(Conflict):
    """A worker wrote under an outdated fence: another worker has the lease. The work must be dropped without writing anything."""


class Unauthenticated(Permanent):
    """No credentials, or invalid ones; the text does not say which."""


class Denied(Permanent):
    """The caller is known but not allowed to do this."""


class InvalidAddress(Invalid):
    """An email address is not valid."""


class MissingVariable(Invalid):
    """A template needs a variable that the request does not set."""


class RecipientSuppressed(Invalid):
    """The recipient is on the tenant's suppression list."""


class UnverifiedSender(Denied):
    """The From address or its domain is not a verified sender of the tenant."""


class QuotaExceeded(Conflict):
    """The tenant has as many records of this kind as it may have."""


class TooLarge(Invalid):
    """The input exceeds a documented limit."""


class Unsupported(Permanent):
    """The other side does not support what was asked."""


class Corrupt(Permanent):
    """Stored data is damaged; nothing was changed."""


class Unavailable(Temporary):
    """A store, relay or service did not answer, or answered that it is busy."""


class StorageFull(Temporary):
    """No room, no write permission, or a read-only disk: nothing was changed; make room and go on."""
