"""The layout of a campaign's upload: which column feeds which variable, as its maker said or as the names tell."""

from __future__ import annotations

from postroom.errors import Invalid
from postroom.model.campaign import Import
from postroom.recipients_file.layout import Layout, recognise


def layout_for(source: Import, head: bytes, *, whole: bool) -> Layout:
    """As `recognise`. `Invalid` also for a heading that was named for a variable and does not exist: a typing error there
    must not become empty text in everybody's mail."""
    layout = recognise(head, whole=whole, asked_for=source.email_column, wanted=source.wanted)
    headings = dict(source.headings)
    for name, column in zip(source.columns, layout.columns, strict=True):
        if column is None and name in headings:
            raise Invalid(f"There is no column {headings[name]!r} for the variable {name!r} in {source.filename}.")
    return layout
