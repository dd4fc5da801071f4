"""A template and its versions: every save is a new one, and none ever changes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TemplateContent:
    """One version, ready to be composed: what a campaign or a single message is made from."""

    template_id: str
    version: int
    """From 1."""
    subject: str
    html: str
    """MJML compiled, style sheets inlined."""
    text: str | None
    """None: derived from the HTML when it is composed."""
