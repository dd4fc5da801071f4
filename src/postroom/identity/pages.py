"""Browser side of the provider: forms, cookies, return paths, HTML pages and error responses.

- The return path (where sign-in leads) travels through the browser as text, so it is parsed and rebuilt each time: it can
  only lead to an authorization request or to the account page.
- Each form carries a token made from a browser secret and the session; forms without it, or from another site, are refused
  (CSRF). With https, cookies have the `__Host-` prefix.
- Pages have no scripts, and all values are escaped. The policy forbids frames and foreign content, and lets forms lead only
  to this site and the requesting client (browsers apply `form-action` to redirects too).
- Errors: JSON at protocol endpoints (RFC 6749 5.2); pages or redirects elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import segno
from fastapi import Depends, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from fastapi.routing import APIRoute
from minijinja import Environment

from postroom.clock import Clock
from postroom.errors import Conflict, Invalid, NotFound, PostroomError, Temporary, TooLarge, Unauthenticated
from postroom.identity.credentials import new_token
from postroom.identity.login import FULL_S
from postroom.identity.login_throttle import TooManyAttempts
from postroom.identity.oauth import OAuthError, PageError, RedirectedError, answer_url

AUTHORIZE = "/oauth2/authorize"
ACCOUNT = "/oauth2/account"
SIGN_IN = "/oauth2/sign-in"
_MAX_RETURN_PATH = 8_192


def checked_return_path(text: str) -> str:
    """The way, or the account page for anything that is none."""
    path, _, query = text[:_MAX_RETURN_PATH].partition("?")
    return f"{AUTHORIZE}?{urlencode(parse_qsl(query, keep_blank_values=True))}" if path == AUTHORIZE else ACCOUNT


def return_path_parameters(return_path: str) -> list[tuple[str, str]]:
    """The parameters of the authorization request that the way leads to; none for the account page."""
    return parse_qsl(return_path.partition("?")[2], keep_blank_values=True)


def sign_in_url(base: str, return_path: str, *, hint: str = "") -> str:
    """The sign-in page, on that way. `hint`: an address to begin with."""
    return f"{base}{SIGN_IN}?{urlencode({'next': return_path} | ({'hint': hint} if hint else {}))}"


MAX_BYTES = 16_384
_TYPE = "application/x-www-form-urlencoded"


async def _read_form(request: Request) -> Mapping[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _TYPE:
        raise Invalid(f"the body must be {_TYPE}")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise TooLarge(f"the form is larger than {MAX_BYTES} bytes")
    return parse_form(bytes(body))


def parse_form(body: bytes) -> Mapping[str, str]:
    """By name. `Invalid`: a name twice (RFC 6749 §3.2), or not UTF-8."""
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError as error:
        raise Invalid("the form cannot be read") from error
    values = dict(pairs)
    if len(values) != len(pairs):
        raise Invalid("a parameter appears twice in the form")
    return values


Form = Annotated[Mapping[str, str], Depends(_read_form)]
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
        """That the form was shown in this browser, in this session. `PageError`."""
        given = form.get(FIELD, "").encode(errors="replace")
        if not self.known or not hmac.compare_digest(given, self.form_token.encode()):
            raise PageError("This page was open for too long, or cookies are off. Go back, reload it, and try again.", status=403)

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
        full = _cookie_name(name, self.secure)
        response.set_cookie(full, value, max_age=lasts_s, path="/", secure=self.secure, httponly=True, samesite="lax")


def read_browser(request: Request, clock: Clock, *, url: str) -> Browser:
    """The browser of a request. Raises `PageError` if another site sent the form."""
    secure = url.startswith("https:")
    if request.method == "POST":
        _check_origin(request, url)
    secret = request.cookies.get(_cookie_name(_FORM, secure), "")
    session = request.cookies.get(_cookie_name(_SESSION, secure), "")
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
        raise PageError("The form came from another site. Nothing was done.", status=403)


def _site(origin: str) -> str:
    """Its host and port; empty for what is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _cookie_name(name: str, secure: bool) -> str:
    return f"__Host-{name}" if secure else name


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


NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_NOT_DESCRIBING = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")  # RFC 6749 §5.2
_Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class ProtocolRoute(APIRoute):
    """For clients."""

    def get_route_handler(self) -> _Handle:
        return _guarded(super().get_route_handler(), _protocol_answer)


def page_route(url: str) -> type[APIRoute]:
    """For people, at that issuer."""

    class PageRoute(APIRoute):
        """See above."""

        def get_route_handler(self) -> _Handle:
            return _guarded(super().get_route_handler(), partial(_page_answer, url))

    return PageRoute


def _guarded(handle: _Handle, answer: Callable[[PostroomError], Response]) -> _Handle:
    async def guarded(request: Request) -> Response:
        try:
            return await handle(request)
        except PostroomError as error:
            return answer(error)

    return guarded


def _protocol_answer(error: PostroomError) -> Response:
    code, status, headers = "invalid_request", 400, dict(NO_STORE)
    if isinstance(error, OAuthError):
        code, status = error.code, error.status
        headers |= {"WWW-Authenticate": error.challenge} if error.challenge else {}
    elif isinstance(error, TooLarge):
        status = 413
    elif isinstance(error, Temporary | Conflict):
        code, status = "temporarily_unavailable", 503
        headers["Retry-After"] = "1"
    elif not isinstance(error, Invalid):
        raise error
    text = _NOT_DESCRIBING.sub("'", str(error))
    return JSONResponse({"error": code, "error_description": text}, status, headers=headers)


def _page_answer(url: str, error: PostroomError) -> Response:
    if isinstance(error, RedirectedError):
        text = _NOT_DESCRIBING.sub("'", str(error))
        answer = {"error": error.code, "error_description": text, "state": error.state, "iss": url}
        return RedirectResponse(answer_url(error.uri, answer), 303, headers=NO_STORE)
    status = refusal_status(error)
    response = page(
        "refused", status=status, base=urlsplit(url).path, text=str(error) if status != 503 else "Try again in a moment."
    )
    response.headers.update(retry_after(error))
    return response


def refusal_status(error: PostroomError) -> int:
    """The status of a page that says no."""
    if isinstance(error, PageError):
        return error.status
    kinds: tuple[tuple[type[PostroomError], int], ...] = (
        (TooManyAttempts, 429),
        (Temporary, 503),
        (Unauthenticated, 403),
        (NotFound, 404),
        (TooLarge, 413),
        (Invalid, 400),
        (Conflict, 409),
    )
    found = next((status for kind, status in kinds if isinstance(error, kind)), None)
    if found is None:
        raise error
    return found


def retry_after(error: PostroomError) -> dict[str, str]:
    """When to come again, where that is known."""
    return {"Retry-After": str(error.wait_s)} if isinstance(error, TooManyAttempts) else {}
