"""Who the command line acts as: whoever can open the installation's data may do everything."""

from __future__ import annotations

import getpass

from postroom.model.access import Kind, Principal, Role


def operator(tenant: str) -> Principal:
    """The person at the machine, in that tenant."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container without a user of that number
        name = "operator"
    return Principal(Kind.OPERATOR, name, name, tenant, Role.ADMIN, operator=True)
