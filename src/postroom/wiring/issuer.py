"""The built-in issuer, and what is kept under the master key: for an installation on one machine."""

from __future__ import annotations

from postroom.identity.provider import OpenIdProvider
from postroom.platform.embedded.secrets import KeyFile
from postroom.services.key_rotation import KeyRotation
from postroom.settings import Settings
from postroom.wiring.ledger import Ledger
from postroom.wiring.stores import Stores


def built_in_issuer(settings: Settings, stores: Stores) -> OpenIdProvider:
    """Also where another one is set: for its way back."""
    return OpenIdProvider(stores.tables, stores.secrets, stores.clock, url=settings.api_base_url)


def rotation(settings: Settings, stores: Stores, ledger: Ledger) -> KeyRotation:
    """Everybody who keeps something under the master key; the built-in issuer also where another one is set."""
    machine = stores.on_one_machine("changing the master key")
    owners = [
        ("objects", machine.objects.reseal),
        ("providers", ledger.providers.reseal),
        ("DKIM keys", ledger.dkim.reseal),
        ("callbacks", ledger.callback_secrets.reseal),
        ("signed URLs", machine.transfers.reseal),
        ("audit", ledger.audit.reseal),
        ("sign-in", built_in_issuer(settings, stores).reseal),
    ]
    keys = machine.master_keys
    return KeyRotation(keys, owners, own=keys if isinstance(keys, KeyFile) else None)
