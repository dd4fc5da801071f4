"""The only package that knows the adapters: Settings → Postroom.

stores.py     the adapters, opened
ledger.py     the ledger over the stores
postroom.py   all that an installation offers, in one place
opening.py    the services, put together on ledger and stores
people.py     who comes in, and what is kept under the master key
campaigns.py  campaigns: ordered, by which rules, and a person erased from them
singles.py    single messages
sending.py    what sends
mail.py       how mail leaves
ses.py        how it leaves through Amazon SES, and what that reports
feedback.py   what comes back: heard, taken into the records, watched
way_back.py   how mail comes back
callbacks.py  whom tenants want told, and who tells them
checks.py     what `doctor` examines, and backups: they open nothing
"""

from postroom.wiring.campaigns import usual_policies
from postroom.wiring.checks import backups, demand_secrets, doctor
from postroom.wiring.mail import DEFAULT_PROVIDER, INBOX
from postroom.wiring.opening import open_postroom
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
