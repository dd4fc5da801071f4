"""Parses any mail provider's URL, and restricts what tenants may name.

An operator may name any relay. A tenant's must be on the public Internet and must not name a file of this machine; its SES
account needs an access key of its own and must not name another endpoint (ses_url). Otherwise a tenant could make this machine
connect to its own network (server-side request forgery), and learn from the errors what is there. The rule holds for what a name
resolves to, and is applied to the very addresses that are connected to: a name may resolve to something else the next time.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from postroom.errors import Invalid
from postroom.model.networks import is_public
from postroom.platform.mail.ses_url import SesConfig, is_ses, parse_ses_url
from postroom.platform.mail.smtp_url import SmtpConfig, parse_smtp_url


def parse_provider_url(url: str, *, trusted: bool) -> SmtpConfig | SesConfig:
    """The configuration in a provider's URL. `trusted`: an operator wrote it.

    Raises `Invalid` if it is malformed, or names what only an operator may. Resolves no names.
    """
    return parse_ses_url(url, trusted=trusted) if is_ses(url) else parse_relay(url, trusted=trusted)


def parse_relay(url: str, *, trusted: bool) -> SmtpConfig:
    """As `parse_provider_url`, for SMTP relays only."""
    config = parse_smtp_url(url)
    if trusted:
        return config
    if config.ca_file is not None:
        raise Invalid("ca_file= names a file of the server, which only its operator may: use a relay with a public certificate")
    if config.is_local or _is_private_literal(config.host):
        raise Invalid(f"{config.host} is not on the public Internet: only an operator may name such a relay")
    return replace(config, public_only=True)


def check_provider_url(url: str, *, trusted: bool) -> None:
    """As `parse_provider_url`; in addition raises `Invalid` if a tenant's relay resolves to an address that is not public. A name
    that does not resolve now is accepted: it is checked again before each connection."""
    config = parse_provider_url(url, trusted=trusted)
    if not trusted and isinstance(config, SmtpConfig):
        with suppress(OSError, UnicodeError):
            resolve_relay(config)


def resolve_relay(config: SmtpConfig) -> list[str]:
    """The addresses of a relay. Raises `Invalid` if one is not public though it must be, `OSError` if it does not resolve."""
    return allowed_addresses(config, socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM))


def allowed_addresses(config: SmtpConfig, resolved: Sequence[tuple[Any, ...]]) -> list[str]:
    """The addresses in the result of `getaddrinfo`, in its order. Raises `Invalid` as `resolve_relay` does."""
    found = list(dict.fromkeys(str(entry[4][0]) for entry in resolved))
    if config.public_only and not all(is_public(address) for address in found):
        raise Invalid(f"{config.host} is not on the public Internet: only an operator may name such a relay")
    return found


def _is_private_literal(host: str) -> bool:
    try:
        return not is_public(host)
    except ValueError:  # a name
        return False
