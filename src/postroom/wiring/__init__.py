"""The only package that knows the adapters: Settings → Postroom.

stores.py     what the services stand on, whichever home keeps it
embedded.py   … on one machine
aws.py        … on AWS
ledger.py     the ledger over the stores
opening.py    an installation, opened
postroom.py   all that an installation offers, in one place: what it stands on (standing.py), its services (verbs.py), its workers
checks.py     what `doctor` examines, and backups: they open nothing

All other files put one topic together each. `Postroom` makes, and imports, a thing when it is first asked for: a function on AWS
serves one service, and whatever it imports its first caller waits for.
"""

from postroom.wiring.opening import open_postroom
from postroom.wiring.postroom import Postroom

__all__ = ["Postroom", "open_postroom"]
