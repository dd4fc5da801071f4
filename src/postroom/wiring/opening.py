"""An installation, opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from postroom.errors import Invalid
from postroom.model.provider import INBOX
from postroom.settings import Settings
from postroom.wiring.postroom import Postroom
from postroom.wiring.stores import open_stores


@contextmanager
def open_postroom(settings: Settings) -> Iterator[Postroom]:
    """The installation that the settings describe; at the end what waits in memory is written, and its files are closed.
    `Invalid`: mail cannot leave as they say, or tokens would be taken that are for nobody in particular."""
    _check(settings)
    with open_stores(settings) as stores:
        postroom = Postroom(settings, stores)
        try:
            yield postroom
        finally:
            postroom.close()


def _check(settings: Settings) -> None:
    if settings.issuer and not settings.audience:
        raise Invalid("POSTROOM_ISSUER needs POSTROOM_AUDIENCE: else tokens for any other application would be taken too")
    if settings.mail != INBOX:
        from postroom.platform.mail.provider_url import parse_provider_url

        parse_provider_url(settings.mail, trusted=True)
