"""The pages people see: sign-in, second factor, account, errors. Without scripts; every value is escaped.

A policy in each answer forbids scripts, frames and foreign content, and lets forms go to this site only, and on to the
application that the person comes from (browsers apply `form-action` to redirects too).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import segno
from fastapi import Response
from fastapi.responses import HTMLResponse
from minijinja import Environment

_PAGES = Path(__file__).parent / "pages"


def page(name: str, *, status: int = 200, leads_to: str | None = None, **values: object) -> Response:
    """The page of that file. `leads_to`: where a form may end up besides here."""
    text = _environment().render_template(f"{name}.html", **values)
    return HTMLResponse(text, status, headers=_headers(leads_to))


def style() -> Response:
    """What all pages share."""
    headers = {"Cache-Control": "public, max-age=3600", "X-Content-Type-Options": "nosniff"}
    return Response(_text("style.css"), media_type="text/css", headers=headers)


def qr_code(text: str) -> str:
    """An SVG element, safe to stand in a page."""
    return segno.make(text, error="m", micro=False).svg_inline(
        omitsize=True, border=4, dark="#000", light="#fff", title="QR code"
    )


def _headers(leads_to: str | None) -> dict[str, str]:
    policy = (
        f"default-src 'none'; style-src 'self'; form-action 'self'{_origin(leads_to)}; frame-ancestors 'none'; base-uri 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }


def _origin(url: str | None) -> str:
    if url is None:
        return ""
    parts = urlsplit(url)
    return f" {parts.scheme}://{parts.netloc}"


@cache
def _environment() -> Environment:
    return Environment(loader=_text)


@cache
def _text(name: str) -> str:
    return (_PAGES / name).read_text("utf-8")
