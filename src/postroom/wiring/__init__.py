"""The only package that knows the adapters: Settings → Postroom.

stores.py     the adapters, opened
postroom.py   all that an installation offers, in one place
opening.py    the services, put together on the stores
mail.py       how mail leaves
feedback.py   what comes back, from its queue into the records
way_back.py   how mail comes back
checks.py     what `doctor` examines, and backups: they open nothing
"""

from postroom.wiring.checks import backups, demand_secrets, doctor
from postroom.wiring.mail import DEFAULT_PROVIDER, INBOX
from postroom.wiring.opening import open_postroom, usual_policies
from postroom.wiring.postroom import Postroom
from postroom.wiring.way_back import check_way_back, collecting, listener

__all__ = [
    "DEFAULT_PROVIDER",
    "INBOX",
    "Postroom",
    "backups",
    "check_way_back",
    "collecting",
    "demand_secrets",
    "doctor",
    "listener",
    "open_postroom",
    "usual_policies",
]
