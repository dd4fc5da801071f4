"""Whose rows the table's documents are, in groups that functions need together. A name that begins with `#` is the
installation's, any other a tenant's; `*` ends a name with more behind it.

What they hold is said by the files of `postroom` that keep them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

IDENTITY = ("#keys", "#memberships", "#tenants")
"""Where a caller is looked up."""
ACCESS = ("keys", "#keys", "members", "#memberships", "access", "key-uses", "tenants", "#tenants", "#tenant-numbers")
TRAIL = ("audit", "#audit-open")
CALLS = (*TRAIL, "idempotency", "key-uses")
"""What each call of the API leaves behind."""
SEALED_TRAIL = (*TRAIL, "audit-seals", "#audit-key")
TEMPLATES = ("templates", "template-versions#*")
UPLOADS = ("uploads", "#uploads-by-expiry")
CAMPAIGNS = ("campaigns", "#unfinished-campaigns", "#heard-of-campaigns")
IMPORTS = ("imports", "imports#*")
STREAMS = ("streams", "streams#*")
SUPPRESSION = ("suppression", "suppression#*")
CALLBACKS = ("callbacks", "callback-secrets", "#callback-seals")
LANES = ("deliveries#*", "deliveries-due#*", "#callback-lanes", "#callback-turns")
PROVIDERS = ("providers", "#providers", "#provider-seals")
SENDERS = ("senders", "dkim", "#dkim-domains")
ERASURES = ("erasures", "turns")
WATCHED = ("#tallies/*", "#guard")
WORK = ("#workflows/*", "#workflows-running/*")
HEARD = ("soft-bounces", *SUPPRESSION, "#heard-of-campaigns", *WATCHED)


def keys_of(names: Iterable[str]) -> Iterator[str]:
    """As `dynamodb:LeadingKeys` has them; each once."""
    for name in dict.fromkeys(names):
        yield f"T#{name}" if name.startswith("#") else f"T#*#{name}"
