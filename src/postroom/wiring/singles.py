"""Single messages, put together: taken in, and deleted when their day is over."""

from __future__ import annotations

from postroom.delivery.transactional import ContentStore, TransactionalCompiler
from postroom.services.message_acceptance import MessageAcceptance
from postroom.services.messages import MessageService, MessageSources
from postroom.services.retention import StreamRetention
from postroom.services.templates import TemplateService
from postroom.services.uploads import UploadService
from postroom.wiring.ledger import Ledger
from postroom.wiring.stores import Stores


def message_service(
    stores: Stores, ledger: Ledger, sources: MessageSources, *, contents: ContentStore, singles: TransactionalCompiler
) -> MessageService:
    """Who takes them in."""
    return MessageService(
        sources,
        MessageAcceptance(stores.messages, ledger.streams, stores.clock),
        contents=contents,
        singles=singles,
        messages=stores.messages,
        suppression=ledger.suppression,
        tenants=ledger.tenants,
        clock=stores.clock,
    )


def sources_of(ledger: Ledger, templates: TemplateService, uploads: UploadService) -> MessageSources:
    """Where what they name is found."""
    return MessageSources(contents=templates.content, check_sender=ledger.senders.check, ready=uploads.ready)


def stream_retention(stores: Stores, ledger: Ledger, contents: ContentStore) -> StreamRetention:
    """Who deletes them."""
    return StreamRetention(
        stores.tables,
        ledger.tenants,
        ledger.streams,
        contents=contents,
        messages=stores.messages,
        journals=stores.journals,
        workflows=stores.workflows,
    )
