"""A thousand recipients and the dirt between them, and what SES makes of each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Final

from tests.fakes.ses_simulator.api import Accepted

GROUPS: Final = {"fine": 900, "gone": 40, "spam": 20, "full": 10, "slow": 10, "taken": 10, "returned": 10}
"""The answers for the last two are lost. How many of each."""
FATES: Final = {
    "gone": ("send", "bounce"),
    "spam": ("send", "delivery", "complaint"),
    "full": ("send", "mailbox_full"),
    "slow": ("send", "delay", "delivery"),
    "returned": ("send", "bounce"),
}
ENDS: Final = {
    "fine": "delivered",
    "gone": "bounced",
    "spam": "complained",
    "full": "bounced",
    "slow": "delivered",
    "taken": "delivered",
    "returned": "bounced",
    "later": "delivered",
}
PEOPLE: Final = [f"{group}{number}@x.example" for group, size in GROUPS.items() for number in range(size)]
LATER: Final = [f"later{number}@y.example" for number in range(60)]
"""Of another campaign."""
DUPLICATES: Final = 25
INVALID: Final = [
    "nobody",
    "two@@x.example",
    "spa ce@x.example",
    "@x.example",
    "no-domain@",
    "a@-bad-.example",
    "",
    "dot.@x.example",
]
NBSP = "\xa0"


def group_of(address: str) -> str:
    return address.partition("@")[0].rstrip("0123456789")


def fate(message: Accepted) -> Iterable[str]:
    """What SES tells of it."""
    return FATES.get(group_of(message.recipient), ("send", "delivery"))


def listed() -> dict[str, str]:
    """Who is on the suppression list at the end, and why."""
    reasons = {"gone": "bounce", "returned": "bounce", "spam": "complaint"}
    return {address: reasons[group_of(address)] for address in PEOPLE if group_of(address) in reasons}


def dirty_sheet() -> bytes:
    """As people export it: a byte order mark, names over two lines, blanks that do not break, the same person twice."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["name", "email"])
    for number, address in enumerate(PEOPLE):
        name = f'Zoë "Zed", the {number}th\nof her name' if number % 50 == 0 else f"N {number}"
        writer.writerow([name, f"{NBSP}{address}{NBSP}" if number % 40 == 0 else address])
        if number % 125 == 0:
            writer.writerow(["Nobody", INVALID[number // 125]])
    for number in range(DUPLICATES):
        writer.writerow(["Again", PEOPLE[number * 7].upper() if number % 2 else f" {PEOPLE[number * 7]}"])
    return b"\xef\xbb\xbf" + text.getvalue().encode()


def sheet(people: Iterable[str]) -> bytes:
    """Clean."""
    return ("email,name\n" + "".join(f"{address},N\n" for address in people)).encode()
