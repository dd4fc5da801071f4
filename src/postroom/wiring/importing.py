"""What imports in parallel steps, put together. A file of its own: a function that does one of them loads nothing that sends."""

from __future__ import annotations

from postroom.pipeline.splitter.parallel import ParallelImport
from postroom.wiring.ledger import Ledger
from postroom.wiring.stores import Stores


def parallel_import(stores: Stores, ledger: Ledger) -> ParallelImport:
    """Rows to messages, in steps."""
    return ParallelImport(
        campaigns=ledger.campaigns,
        messages=stores.messages,
        objects=stores.objects,
        suppression=ledger.suppression,
        tables=stores.tables,
        tenants=ledger.tenants,
        clock=stores.clock,
    )
