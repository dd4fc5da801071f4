"""A thread of a worker that carries out one kind of workflow: each is computing for long, and none must wait for another's."""

from __future__ import annotations

import threading

from postroom.platform.ports.workflows import Handler
from postroom.wiring import Postroom

_LOOK_S = 0.05


class Handling:
    """Takes executions by lease, one at a time."""

    def __init__(
        self, postroom: Postroom, workflow: str, handler: Handler, *, owner: str, group: str, only: str | None = None
    ) -> None:
        """`group`: the journal under which workers prove that they live. `only`: one execution alone."""
        self._postroom = postroom
        self._workflows = postroom.stores.on_one_machine("a worker").workflows
        self._workflow = workflow
        self._handler = handler
        self._owner = owner
        self._group = group
        self._only = only
        self._lease_ms = round(postroom.settings.lease * 1000)

    def run(self, stopped: threading.Event) -> None:
        """Until stopped. Errors of the stores are raised."""
        while not stopped.is_set():
            if not self.once():
                stopped.wait(_LOOK_S)

    def once(self) -> bool:
        """Carry out what is due; whether there was something."""
        return self._workflows.run_due(
            self._workflow,
            self._handler,
            self._owner,
            lease_ms=self._lease_ms,
            dead=self._postroom.journals.dead(self._group),
            only=self._only,
        )
