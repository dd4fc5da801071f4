"""Who erases a person, put together."""

from __future__ import annotations

from postroom.ledger.bulk_update import MessageEraser
from postroom.services.erasure import ErasureService, ErasureStores
from postroom.services.uploads import UploadService
from postroom.wiring.ledger import Ledger
from postroom.wiring.stores import Stores


def erasure(stores: Stores, ledger: Ledger, uploads: UploadService) -> ErasureService:
    """Who looks for a person everywhere."""
    places = ErasureStores(
        campaigns=ledger.campaigns,
        messages=stores.messages,
        objects=stores.objects,
        uploads=uploads,
        suppression=ledger.suppression,
        workflows=stores.workflows,
        erasing=MessageEraser(stores.messages, ledger.bulk_update, stores.clock),
        callbacks=ledger.callbacks,
        deliveries=ledger.deliveries,
    )
    return ErasureService(places, tables=stores.tables, tenants=ledger.tenants, audit=ledger.audit, clock=stores.clock)
