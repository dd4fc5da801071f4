"""Who we are, told to a relay: SASL PLAIN (RFC 4616), LOGIN and XOAUTH2 inside SMTP AUTH (RFC 4954).

A mechanism is a generator of what to send: each reply 334 resumes it with the next line. Nothing here is ever logged.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator

from postroom.errors import Unsupported
from postroom.platform.mail.url import Auth, SmtpConfig


def choose(config: SmtpConfig, offered: frozenset[str]) -> Auth:
    """The mechanism to use among those `offered` (upper case). Raises `Unsupported` if there is none in common."""
    wanted = (Auth.PLAIN, Auth.LOGIN) if config.auth is Auth.AUTO else (config.auth,)
    for mechanism in wanted:
        if mechanism.upper() in offered:
            return mechanism
    raise Unsupported(
        f"{config.host} does not offer {' or '.join(name.upper() for name in wanted)} to log in with, "
        f"only {', '.join(sorted(offered)) or 'nothing'}: set auth= or tls= in the mail provider's URL"
    )


def exchange(mechanism: Auth, *, user: str, password: str) -> Iterator[bytes]:
    """The lines to send, without their line ends, the AUTH command first."""
    match mechanism:
        case Auth.LOGIN:
            yield b"AUTH LOGIN"
            yield b64encode(user.encode())
            yield b64encode(password.encode())
        case Auth.XOAUTH2:
            yield b"AUTH XOAUTH2 " + b64encode(f"user={user}\x01auth=Bearer {password}\x01\x01".encode())
            yield b""  # the 334 that refuses a token carries details and wants an empty line before it says 535
        case _:
            yield b"AUTH PLAIN " + b64encode(f"\0{user}\0{password}".encode())
