"""Which message a provider's report is about, as tags that the provider repeats in each of its reports (SES message tags).

Four tags of letters, digits, `-` and `_` (all that SES takes, up to 256 characters each), so that a report finds its message
without an index. They are not sealed: nobody but the provider sees them, and its reports come signed (events.ses.sns).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from postroom.errors import Invalid
from postroom.model.ids import CAMPAIGN_ID_LENGTH
from postroom.model.shard import KEY_BYTES, Key
from postroom.model.wire import MAX_ATTEMPT, MAX_BATCH, MAX_TENANT, MessageRef

TENANT = "postroom-tenant"
CAMPAIGN = "postroom-campaign"
MESSAGE = "postroom-message"
ATTEMPT = "postroom-attempt"

_NUMBER = r"(0|[1-9][0-9]{0,7})"
_WHOLE = re.compile(
    rf"{_NUMBER}\n([2-7a-z]{{{CAMPAIGN_ID_LENGTH}}})\n{_NUMBER}-([0-9a-f]{{{2 * KEY_BYTES}}})\n([1-9][0-9]?)", re.ASCII
)


def tags_of(ref: MessageRef) -> tuple[tuple[str, str], ...]:
    """Names and values."""
    return (
        (TENANT, str(ref.tenant)),
        (CAMPAIGN, ref.campaign),
        (MESSAGE, f"{ref.batch}-{ref.key.hex()}"),
        (ATTEMPT, str(ref.attempt)),
    )


def read_tags(tags: Mapping[str, Sequence[str]]) -> MessageRef:
    """The way back, from each tag's values. `Invalid`: they are of no message of ours."""
    values = [tags.get(name) or ("",) for name in (TENANT, CAMPAIGN, MESSAGE, ATTEMPT)]
    match = _WHOLE.fullmatch("\n".join(value[0] for value in values)) if all(len(value) == 1 for value in values) else None
    if match is None:
        raise Invalid("The report carries no tags of a message of ours.")
    tenant, campaign, batch, key, attempt = match.groups()
    ref = MessageRef(int(tenant), campaign, int(batch), Key(bytes.fromhex(key)), int(attempt))
    if ref.tenant > MAX_TENANT or ref.batch > MAX_BATCH or ref.attempt > MAX_ATTEMPT:
        raise Invalid("The report's tags name a message that cannot be ours.")
    return ref
