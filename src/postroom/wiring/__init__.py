"""Builds everything out of the settings: the only package that knows the backends.

container.py  the composition root: `open_app(settings)` yields the `Container`
services.py   stores, repositories and services of the container
stores.py     every port, kept by one backend: embedded.py or aws.py
ledger.py     the repositories over the stores
campaigns.py, sending.py, ses.py, callbacks.py, feedback.py   what needs many parts, by topic
doctor.py     checks of `doctor`, and backups: they open nothing
alerts.py     PagerDuty, for alarms of the stack
"""

from postroom.wiring.container import Container, open_app

__all__ = ["Container", "open_app"]
