"""Whether an address is on the public Internet or in a private network."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_NAT64 = IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All IPv6 addresses assigned so far. `is_global` also accepts site-local addresses, IPv4 in `::/96` and one's own NAT64."""
_NOT_PUBLIC = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments (RFC 6890); 192.0.0.192 is Oracle Cloud's metadata service
    IPv4Network("168.63.129.16/32"),  # the same on Azure: a public address that is internal there
    IPv6Network("3fff::/20"),  # documentation (RFC 9637)
)
"""Networks that `is_global` accepts in some or all versions of Python."""


def is_public(address: str) -> bool:
    """Whether the address, or the IPv4 address embedded in it, is on the public Internet."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address) and not (ip in _GLOBAL_UNICAST or ip in _NAT64 or ip.ipv4_mapped):
        return False
    return all(_is_public(one) for one in (ip, *_wrapped(ip)))


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _NOT_PUBLIC)


def _wrapped(ip: IPv4Address | IPv6Address) -> list[IPv4Address]:
    if isinstance(ip, IPv4Address):
        return []
    inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    if ip in _NAT64:
        inner.append(IPv4Address(int(ip) & 0xFFFF_FFFF))
    return [one for one in inner if one is not None]
