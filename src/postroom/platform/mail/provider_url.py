"""Where a relay may be. An operator may name any; a tenant's must be on the public Internet, and names no file of this machine.
Amazon SES is there by its nature; a tenant's brings its own access key, and names no other endpoint (ses_url).

Otherwise whoever may name a relay could make this machine speak to its own network (server-side request forgery), and learn from
the errors what is there. The rule holds for what the name resolves to, and is applied to the very addresses that are connected
to: a name may resolve to something else the next time.
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
    """What a provider's URL stands for, whichever way mail leaves. `Invalid`: nothing, or what who is not `trusted` must not
    name. Resolves nothing."""
    return parse_ses_url(url, trusted=trusted) if is_ses(url) else parse_relay(url, trusted=trusted)


def parse_relay(url: str, *, trusted: bool) -> SmtpConfig:
    """The relay that a URL stands for. `Invalid`: none, or one that who is not `trusted` must not name. Resolves nothing."""
    config = parse_smtp_url(url)
    if trusted:
        return config
    if config.ca_file is not None:
        raise Invalid("ca_file= names a file of the server, which only its operator may: use a relay with a public certificate")
    if config.is_local or _is_private_literal(config.host):
        raise Invalid(f"{config.host} is not on the public Internet: only an operator may name such a relay")
    return replace(config, public_only=True)


def check_provider_url(url: str, *, trusted: bool) -> None:
    """As `means_of`, and where a relay may not be anywhere, whether what its name resolves to now is public. A name that resolves
    to nothing now is taken: it is looked at again before each connection."""
    config = parse_provider_url(url, trusted=trusted)
    if not trusted and isinstance(config, SmtpConfig):
        with suppress(OSError, UnicodeError):
            resolve_relay(config)


def resolve_relay(config: SmtpConfig) -> list[str]:
    """Resolve the relay's name, and say where to connect. `Invalid`: `public_only`, and not all of it is public. `OSError`."""
    return allowed_addresses(config, socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM))


def allowed_addresses(config: SmtpConfig, resolved: Sequence[tuple[Any, ...]]) -> list[str]:
    """The addresses of what `getaddrinfo` found, in its order. `Invalid` as of `addresses`."""
    found = list(dict.fromkeys(str(entry[4][0]) for entry in resolved))
    if config.public_only and not all(is_public(address) for address in found):
        raise Invalid(f"{config.host} is not on the public Internet: only an operator may name such a relay")
    return found


def _is_private_literal(host: str) -> bool:
    try:
        return not is_public(host)
    except ValueError:  # a name
        return False
