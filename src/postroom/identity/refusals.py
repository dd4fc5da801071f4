"""What the protocol's endpoints answer when they refuse (RFC 6749 §5.2, RFC 6750 §3), and what a page says."""

from __future__ import annotations

from postroom.errors import Permanent


class Refused(Permanent):
    """An error of the protocol. `code` is the RFC's word, the text is for the developer of the client."""

    def __init__(self, code: str, text: str, *, status: int = 400, challenge: str | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.status = status
        self.challenge = challenge
        """The `WWW-Authenticate` field of the answer."""


class PageRefused(Permanent):
    """For a person in a browser, where nothing can be trusted to be redirected to. The text says what to do."""

    def __init__(self, text: str, *, status: int = 400) -> None:
        super().__init__(text)
        self.status = status
