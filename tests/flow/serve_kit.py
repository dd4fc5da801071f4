"""`postroom serve` as a user runs it, on a port of its own, and somebody who talks to it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests
from authlib.integrations.requests_client import OAuth2Session  # type: ignore[import-untyped]  # ships no types

from tests.flow.campaign_kit import PATIENCE_S, Office, Run, until

PASSWORD = "seven quiet otters swim"
_CALLBACK = "http://127.0.0.1:43210/callback"
_VERIFIER = "v" * 50


class Served(Office):
    """An installation with a server."""

    def __init__(self, root: Path, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__(root, 1, connections=4, options="", **settings)
        self.environ |= {"POSTROOM_MAIL": settings.get("mail", "inbox:"), "POSTROOM_LISTEN": f"127.0.0.1:{self.port}"}

    def serve(self, *words: str, **settings: str) -> Run:
        """Start the server, and wait until it answers."""
        run = self.start("serve", *words, **settings)
        run.until(self.ready, "the door to be ready")
        return run

    def ready(self) -> bool:
        """Whether the door answers, and all behind it."""
        try:
            return requests.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except requests.RequestException:  # its socket listens before it does
            return False

    def key(self, role: str = "admin", *, tenant: str = "default") -> Caller:
        """A program with an API key."""
        code, out, err = self.command("key", "add", "test", "--role", role, "--tenant", tenant)
        assert code == 0, err
        return Caller(self.url, out.split()[-1])

    def role(self, word: str) -> list[int]:
        """The processes of that hidden command."""
        return [pid for pid in self.processes() if word in _words(pid)]


class Caller:
    """Somebody with a token."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, status: int, body: Any = None, **options: Any) -> Any:
        """The answer's JSON, or its text; an `AssertionError` for another status."""
        response = self._session.request(method, self.url + path, json=body, timeout=40, **options)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content and "json" in response.headers.get("content-type", "") else response.text

    def upload(self, content: bytes, *, kind: str = "recipients", filename: str = "people.csv") -> str:
        """Announce it, bring it, and its id."""
        what = {"kind": kind, "filename": filename, "content_type": "text/csv", "size": len(content)}
        announced = self.call("POST", "/v1/uploads", 201, what)
        sent = requests.request(announced["method"], announced["url"], data=content, headers=announced["headers"], timeout=60)
        assert sent.ok, sent.text
        found: str = announced["id"]
        return found

    def template(self, html: str, *, subject: str = "Hi {{ name }}") -> str:
        """A template's id."""
        found: str = self.call("POST", "/v1/templates", 201, {"name": "Hello", "subject": subject, "html": html})["id"]
        return found

    def settled(self, campaign: str, seconds: float = PATIENCE_S) -> Any:
        """The status, once the campaign is past sending."""
        seen: list[Any] = []

        def over() -> bool:
            seen.append(self.call("GET", f"/v1/campaigns/{campaign}/status?wait=2", 200))
            return seen[-1]["status"] in {"completed", "failed", "cancelled", "paused"}

        until(over, f"campaign {campaign} to end", seconds)
        return seen[-1]


def sign_in(url: str, invitation: str, email: str = "admin@localhost") -> str:
    """An access token, the way a browser gets it: password set by the link, signed in, code exchanged under PKCE."""
    browser = requests.Session()
    _submit(browser, browser.get(invitation, timeout=10), email=email, password=PASSWORD)
    client = OAuth2Session(
        "cli", redirect_uri=_CALLBACK, scope="openid", code_challenge_method="S256", token_endpoint_auth_method="none"
    )
    address, state = client.create_authorization_url(f"{url}/oauth2/authorize", code_verifier=_VERIFIER)
    page = browser.get(address, timeout=10)
    answer = _submit(browser, page, email=email, password=PASSWORD)
    while not answer.headers["location"].startswith(_CALLBACK):
        answer = browser.get(urljoin(answer.url, answer.headers["location"]), timeout=10, allow_redirects=False)
    token = client.fetch_token(
        f"{url}/oauth2/token", authorization_response=answer.headers["location"], code_verifier=_VERIFIER, state=state
    )
    return str(token["access_token"])


def _submit(browser: requests.Session, page: requests.Response, **values: str) -> requests.Response:
    """Fill in the page's first form, and send it."""
    form = re.search(r'<form method="post" action="([^"]+)">(.*?)</form>', page.text, re.DOTALL)
    assert form, page.text
    hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form[2])
    fields = {name: unescape(value) for name, value in hidden}
    asked = re.findall(r'<input (?!type="hidden")[^>]*name="(\w+)"', form[2])
    fields |= {name: values["email"] if name == "email" else values["password"] for name in asked}
    answer = browser.post(urljoin(page.url, unescape(form[1])), data=fields, timeout=10, allow_redirects=False)
    assert answer.ok, answer.text
    return answer


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
        return port


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


@contextmanager
def served(root: Path, **settings: str) -> Iterator[Served]:
    """An installation whose processes are all gone at the end."""
    office = Served(root, **settings)
    try:
        yield office
    finally:
        office.close()
