"""Who comes in, put together: whose tokens are believed, and who keeps what under the master key."""

from __future__ import annotations

from postroom.errors import Invalid
from postroom.gateway.auth import TokenAuthenticator
from postroom.gateway.jwks import HttpJwks, LocalJwks
from postroom.issuer.issuer import Issuer
from postroom.issuer.tokens import AUDIENCE
from postroom.platform.embedded.secrets import KeyFile
from postroom.services.rotation import Rotation
from postroom.settings import Settings
from postroom.wiring.ledger import Ledger
from postroom.wiring.stores import Stores


def built_in_issuer(settings: Settings, stores: Stores) -> Issuer:
    """Also where another one is set: for its way back."""
    return Issuer(stores.tables, stores.secrets, stores.clock, url=settings.door_url)


def authenticator(settings: Settings, stores: Stores, ledger: Ledger, *, issuer: Issuer | None) -> TokenAuthenticator:
    """Believes the built-in issuer, or the one that the settings name; never both. `Invalid`: for nobody in particular."""
    if issuer is None and not settings.audience:
        raise Invalid("POSTROOM_ISSUER needs POSTROOM_AUDIENCE: else tokens for any other application would be taken too")
    clock = stores.clock
    return TokenAuthenticator(
        ledger.memberships,
        ledger.keys,
        ledger.tenants,
        HttpJwks(settings.issuer or "", clock) if issuer is None else LocalJwks(issuer.keys.published, clock),
        issuer=settings.issuer or settings.door_url,
        audiences=settings.audience if issuer is None else (AUDIENCE,),
        clock=clock,
        members_of=None if issuer is None else issuer.membership_issuer,
    )


def rotation(settings: Settings, stores: Stores, ledger: Ledger) -> Rotation:
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
    return Rotation(keys, owners, own=keys if isinstance(keys, KeyFile) else None)
