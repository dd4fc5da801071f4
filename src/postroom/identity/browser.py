"""What a browser brings along and takes away: the session's cookie, and the secret that ties a form to the browser.

Each form carries a token made from that secret and the session (so it changes with every sign-in); a form without it, or
from another site, is refused. With https the cookies carry the `__Host-` prefix: no other host, nor plain http, can set
them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fastapi import Request, Response

from postroom.clock import Clock
from postroom.identity.opaque import new_token
from postroom.identity.refusals import PageRefused
from postroom.identity.sessions import FULL_S

FIELD = "form_token"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_FORM, _SESSION = "postroom-form", "postroom-session"


@dataclass(frozen=True, slots=True)
class Browser:
    """One request's."""

    secure: bool
    secret: str = field(repr=False)
    known: bool
    """Whether it brought the secret along."""
    session: str | None = field(repr=False)
    address: str

    @property
    def form_token(self) -> str:
        """For every form that is shown."""
        return hmac.new(self.secret.encode(), f"form {self.session or ''}".encode(), hashlib.sha256).hexdigest()

    def check(self, form: Mapping[str, str]) -> None:
        """That the form was shown in this browser, in this session. `PageRefused`."""
        given = form.get(FIELD, "").encode(errors="replace")
        if not self.known or not hmac.compare_digest(given, self.form_token.encode()):
            raise PageRefused(
                "This page was open for too long, or cookies are off. Go back, reload it, and try again.", status=403
            )

    def remember(self, response: Response) -> None:
        """Give the browser the secret that the page's forms were made with."""
        if not self.known:
            self._set(response, _FORM, self.secret, None)

    def sign_in(self, response: Response, token: str) -> None:
        """Hand over a session."""
        self._set(response, _SESSION, token, FULL_S)

    def sign_out(self, response: Response) -> None:
        """Take the session's cookie away."""
        self._set(response, _SESSION, "", 0)

    def _set(self, response: Response, name: str, value: str, lasts_s: int | None) -> None:
        full = _named(name, self.secure)
        response.set_cookie(full, value, max_age=lasts_s, path="/", secure=self.secure, httponly=True, samesite="lax")


def browser_of(request: Request, clock: Clock, *, url: str) -> Browser:
    """Whoever asks. `PageRefused`: a form that another site sent."""
    secure = url.startswith("https:")
    if request.method == "POST":
        _check_origin(request, url)
    secret = request.cookies.get(_named(_FORM, secure), "")
    session = request.cookies.get(_named(_SESSION, secure), "")
    known = _TOKEN.fullmatch(secret) is not None
    return Browser(
        secure=secure,
        secret=secret if known else new_token(clock),
        known=known,
        session=session if _TOKEN.fullmatch(session) else None,
        address=request.client.host if request.client else "",
    )


def _check_origin(request: Request, url: str) -> None:
    """Browsers name the site that a form was on. A proxy may have replaced `Host`, so the issuer's own is fine too."""
    origin = request.headers.get("origin")
    if origin is not None and _site(origin) not in {urlsplit(url).netloc, request.headers.get("host")}:
        raise PageRefused("The form came from another site. Nothing was done.", status=403)


def _site(origin: str) -> str:
    """Its host and port; empty for what is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _named(name: str, secure: bool) -> str:
    return f"__Host-{name}" if secure else name
