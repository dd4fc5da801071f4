"""Where a call comes from: the peer, or what a trusted proxy says of it.

Every proxy appends the address it was called from to `X-Forwarded-For`, so only the right end can be believed, as far as trusted
proxies wrote it: the caller is the rightmost address that is none of them. What a caller wrote there itself stands left of it.
`X-Forwarded-Proto` counts only from a trusted peer. `Forwarded` and `X-Forwarded-Host` are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from starlette.types import Scope

_SCHEMES = {b"http": "http", b"https": "https"}


class Proxies:
    """Those in `networks`."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ip_network(network, strict=False) for network in networks]

    def apply(self, scope: Scope) -> None:
        """Put the caller's address and scheme into the scope, where the peer is a trusted proxy."""
        peer = scope.get("client")
        if not self._networks or peer is None or not self._trusts(_address(peer[0])):
            return
        hops: list[str] = []
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                hops += value.decode("latin-1").split(",")
            elif name == b"x-forwarded-proto":
                scope["scheme"] = _SCHEMES.get(value.rpartition(b",")[2].strip().lower(), scope["scheme"])
        caller = self._caller(hops)
        if caller is not None:
            scope["client"] = (str(caller), 0)

    def _caller(self, hops: list[str]) -> IPv4Address | IPv6Address | None:
        caller = None
        for hop in reversed(hops):
            address = _address(hop)
            if address is None:  # nonsense, such as "unknown": nothing left of it can be believed
                return caller
            caller = address
            if not self._trusts(address):
                return caller
        return caller

    def _trusts(self, address: IPv4Address | IPv6Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def origin(address: str) -> str:
    """What one caller can be counted by: an IPv4 address, or the /64 of an IPv6 address, which is one customer's."""
    found = _address(address)
    if isinstance(found, IPv6Address):
        return str(ip_network((found, 64), strict=False))
    return address if found is None else str(found)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address, perhaps with brackets, a port or a zone; IPv4 in IPv6 is IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
