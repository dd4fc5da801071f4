"""DNS look-ups with a short time-out, for checks of sending domains (`doctor`, senders)."""

from __future__ import annotations

import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.TXT import TXT

from postroom.errors import Invalid, Unavailable

_TIMEOUT_S = 4.0
"""For one name, all servers and retries included."""


class Resolver:
    """This machine's resolver. A name or type that does not exist is an empty list. Raises `Unavailable` if there is no answer,
    `Invalid` for a malformed name."""

    def __init__(self, resolver: dns.resolver.Resolver | None = None) -> None:
        """`resolver`: None for the machine's own, whose configuration is read at the first look-up."""
        self._resolver = resolver

    def txt(self, name: str) -> list[str]:
        """The TXT records of a name, each joined to one string."""
        return [
            b"".join(record.strings).decode("utf-8", "replace")
            for record in self._ask(name, dns.rdatatype.TXT)
            if isinstance(record, TXT)
        ]

    def mx(self, name: str) -> list[str]:
        """The MX hosts of a name, the preferred first; `.` for a null MX (RFC 7505)."""
        records = [record for record in self._ask(name, dns.rdatatype.MX) if isinstance(record, MX)]
        return [record.exchange.to_text(omit_final_dot=True) for record in sorted(records, key=lambda record: record.preference)]

    def has_address(self, name: str) -> bool:
        """Whether it has an IPv4 or IPv6 address."""
        return any(self._ask(name, kind) for kind in (dns.rdatatype.A, dns.rdatatype.AAAA))

    def _ask(self, name: str, kind: dns.rdatatype.RdataType) -> list[object]:
        try:
            if self._resolver is None:
                self._resolver = dns.resolver.Resolver()
            return list(self._resolver.resolve(name, kind, lifetime=_TIMEOUT_S, search=False))
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.name.LabelTooLong, dns.name.EmptyLabel, dns.name.NameTooLong, UnicodeError) as error:
            raise Invalid(f"{name!r} is not a valid DNS name: {error}") from error
        except (dns.exception.DNSException, OSError) as error:
            raise Unavailable(f"the DNS gave no answer about {name}") from error
