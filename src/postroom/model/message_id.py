"""A message's id on the wire: its campaign or stream, and its key, so that it is found without an index.

`<16 characters of base32>-<20 of base32>`: letters, digits and one `-`, in lower case, whatever the reader's case folding. One
message has one spelling: anything else is no id.
"""

from __future__ import annotations

import re

from postroom.errors import NotFound
from postroom.model.campaign import CampaignRef
from postroom.model.ids import CAMPAIGN_ID_LENGTH, decode, encode
from postroom.model.shard import KEY_BYTES, Key

KEY_LENGTH = 20
"""Characters of a key: 100 bits, of which 96 are used."""
MESSAGE_ID_LENGTH = CAMPAIGN_ID_LENGTH + 1 + KEY_LENGTH
PATTERN = f"^[2-7a-z]{{{CAMPAIGN_ID_LENGTH}}}-[2-7a-z]{{{KEY_LENGTH}}}$"
"""What an id looks like, for documents; not all that look so are ids."""

_SHAPE = re.compile(PATTERN.replace("$", r"\Z"))


def message_id(ref: CampaignRef, key: Key) -> str:
    """The id of the message `key` of a campaign or stream."""
    return f"{ref.campaign}-{encode(int.from_bytes(key, 'big'), KEY_LENGTH)}"


def parse_message_id(text: str) -> tuple[str, Key]:
    """The campaign or stream, and the key. `NotFound`: it is the id of no message, the same answer as for one that nobody has."""
    number = decode(text[-KEY_LENGTH:]) if _SHAPE.match(text) else -1
    if number < 0 or number >> (8 * KEY_BYTES):
        raise NotFound(f"there is no message {text[:MESSAGE_ID_LENGTH]!r}")
    return text[:CAMPAIGN_ID_LENGTH], Key(number.to_bytes(KEY_BYTES, "big"))
