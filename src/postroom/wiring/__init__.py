"""Builds everything from the settings: the only package that knows the backends.

container.py  the composition root: `open_app(settings)` yields the `Container`: workers, events, callbacks, locks
services.py   the part of the container that the API and the command line call
stores.py     the ports of a backend, and the repositories over them
embedded.py, aws.py   the two backends
providers.py  provider routes and mailers, SES accounts
doctor.py     checks of `doctor`, and backups: they open nothing
"""

from postroom.wiring.container import Container, open_app

__all__ = ["Container", "open_app"]
