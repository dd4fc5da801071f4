"""What is asked for in a single message, and what a template may be given: text, numbers, true and false.

The bounds of rendering are proven for text (templates.safety), so every value becomes text: `true` is the word, `false` and null
are as good as absent, so that `{% if … %}` takes them as they are meant.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from postroom.errors import Invalid, TooLarge
from postroom.model.campaign import CampaignRef
from postroom.model.ids import Key

MAX_REQUESTS = 100
"""In one call."""
MAX_VARIABLES = 200
MAX_VALUES = 32_768
"""Characters of all variables of a message that its template uses: they are kept with its record."""
MAX_ATTACHMENTS = 20
MAX_ATTACHED_BYTES = 10_000_000
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,99}$"

_VARIABLE = re.compile(VARIABLE_PATTERN)


@dataclass(frozen=True, slots=True)
class AttachedUpload:
    """A stored upload that goes along."""

    upload_id: str
    filename: str | None = None
    """None: as it was uploaded."""
    content_id: str | None = None
    """Set for an inline image: the template refers to it as `cid:<content_id>`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRequest:
    """One message: from a template, or from HTML and a subject."""

    to: str
    """An address, or `Name <address>`."""
    from_: str
    reply_to: str | None = None
    template_id: str | None = None
    template_version: int | None = None
    """None: the newest."""
    subject: str | None = None
    """In place of the template's."""
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
class Accepted:
    """It is stored, and will be sent."""

    id: str
    ref: CampaignRef
    key: Key


@dataclass(frozen=True, slots=True)
class Refused:
    """It will not be sent."""

    index: int
    error: Exception
    """Such as `Invalid`, `Denied`, `NotFound`, `Suppressed`."""


class Suppressed(Invalid):
    """The address is on the tenant's suppression list."""


def texts(variables: Mapping[str, object]) -> dict[str, str]:
    """Variables as the template gets them; those that are absent or false are left out. `Invalid`."""
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
