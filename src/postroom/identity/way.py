"""Where a sign-in leads on to: back to the authorization request it came from, or to the account page. Nowhere else.

The way travels through the browser as text, so it is read anew each time and put together from its parts: whatever was
written into it, it stays on one of the two pages.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

AUTHORIZE = "/oauth2/authorize"
ACCOUNT = "/oauth2/account"
SIGN_IN = "/oauth2/sign-in"
_MAX = 8_192


def checked_way(text: str) -> str:
    """The way, or the account page for anything that is none."""
    path, _, query = text[:_MAX].partition("?")
    return f"{AUTHORIZE}?{urlencode(parse_qsl(query, keep_blank_values=True))}" if path == AUTHORIZE else ACCOUNT


def asked_in(way: str) -> list[tuple[str, str]]:
    """The parameters of the authorization request that the way leads to; none for the account page."""
    return parse_qsl(way.partition("?")[2], keep_blank_values=True)


def sign_in_url(base: str, way: str, *, hint: str = "") -> str:
    """The sign-in page, on that way. `hint`: an address to begin with."""
    return f"{base}{SIGN_IN}?{urlencode({'next': way} | ({'hint': hint} if hint else {}))}"
