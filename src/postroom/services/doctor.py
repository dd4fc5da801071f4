"""Examines an installation: settings, directories, mail server, the sending domain. Changes nothing.

Each check is given to it and stands alone: one that fails in a way of its own becomes a finding, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from postroom.errors import PostroomError
from postroom.model.finding import Finding, Level

Check = Callable[[], Iterable[Finding]]


class Doctor:
    """A list of named checks."""

    def __init__(self, checks: Sequence[tuple[str, Check]]) -> None:
        self._checks = checks

    def examine(self) -> Iterator[Finding]:
        """Every finding, as it is made."""
        for subject, check in self._checks:
            try:
                yield from check()
            except PostroomError as error:
                yield Finding(subject, Level.FAIL, str(error))


def healthy(findings: Iterable[Finding]) -> bool:
    """Whether nothing failed."""
    return all(finding.level is not Level.FAIL for finding in findings)
