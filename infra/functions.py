"""Every function: its handler, its size, and exactly what it may do. What is not here, it may not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.names import MACHINES
from infra.permissions import (
    DOCUMENTS,
    LEDGER,
    RATES,
    Files,
    Follows,
    Indexes,
    LooksAtSes,
    Mails,
    Never,
    Permission,
    Reads,
    Rows,
    Runs,
    Schedules,
    Seals,
    Sends,
    Takes,
)

_HANDLERS = "postroom.entrypoints.lambdas"
_ACCESS = ("T#*#keys", "T##keys", "T#*#members", "T##memberships")
"""Who may come in, and as what: written by the function that is for it, and by no other."""
_KNOWN = Never(_ACCESS)
_DOCUMENTS = Rows(DOCUMENTS)
_ALL = Rows((*DOCUMENTS, *LEDGER))
_SENDS = Rows((*DOCUMENTS, *LEDGER, *RATES))
_DOOR = ("audit", "*%23idempotency")
"""Secrets of every service: the audit trail's key, and answers that are kept for whoever asks again."""
_LOOKS = Rows(LEDGER, write=False)
_CONTENT = ("*/templates/*", "*/campaigns/*", "*/contents/*")
_LAMBDA_MOST_S = 900


@dataclass(frozen=True, slots=True)
class Function:
    """One function."""

    name: str
    handler: str
    """File and function, below `postroom.entrypoints.lambdas`."""
    permissions: Sequence[Permission]
    timeout_s: int = 30
    step: bool = False
    """It computes: a whole processor for it."""
    at_once: int | None = None
    """How many may run; None: as many as are called."""
    in_network: bool = False

    @property
    def path(self) -> str:
        return f"{_HANDLERS}.{self.handler}"


API = (
    Function(
        "template-api",
        "api.templates",
        (_DOCUMENTS, _KNOWN, Files(("*/templates/*",)), Files(("*/uploads/*",), write=False), Seals(_DOOR)),
    ),
    Function("upload-api", "api.uploads", (_DOCUMENTS, _KNOWN, Files(("*/uploads/*",), purge=True), Seals(_DOOR))),
    Function(
        "email-api",
        "api.email",
        (
            _SENDS,
            _KNOWN,
            Files((*_CONTENT, "exports/*"), purge=True),
            Files(("*/uploads/*",), write=False),
            Sends(("scheduler", "feedback")),
            Runs(MACHINES),
            Schedules(),
            Seals((*_DOOR, "provider", "dkim")),
            LooksAtSes(),
        ),
    ),
    Function(
        "status-api",
        "api.status",
        (
            _DOCUMENTS,
            _LOOKS,
            _KNOWN,
            Files(("exports/*",)),
            Files(("*/campaigns/*", "readiness"), write=False),
            Seals((*_DOOR, "readiness")),
        ),
    ),
    Function(
        "callback-api",
        "api.callbacks",
        (_DOCUMENTS, _LOOKS, _KNOWN, Sends(("callbacks",)), Seals((*_DOOR, "callback", "callback-answer"))),
    ),
    Function("access-api", "api.access", (_DOCUMENTS, Seals((*_DOOR, "key")))),
)
"""Behind the API; the same application each, with its own routes."""

DOOR = (
    Function("authorizer", "authorizer.handler", (_DOCUMENTS, _KNOWN), timeout_s=10),
    Function(
        "tracking",
        "tracking.handler",
        (_DOCUMENTS, _LOOKS, _KNOWN, Files(_CONTENT, write=False), Sends(("feedback",))),
        timeout_s=10,
    ),
)

STEPS = (
    Function(
        "import-plan",
        "importing.plan",
        (_ALL, _KNOWN, Files(("*/campaigns/*",)), Files(("*/uploads/*",), write=False)),
        timeout_s=_LAMBDA_MOST_S,
        step=True,
    ),
    Function(
        "import-range",
        "importing.range_",
        (_DOCUMENTS, _KNOWN, Files(("*/campaigns/*",)), Files(("*/uploads/*",), write=False)),
        timeout_s=_LAMBDA_MOST_S,
        step=True,
    ),
    Function("import-reduce", "importing.reduce", (_ALL, _KNOWN, Files(("*/campaigns/*",))), timeout_s=_LAMBDA_MOST_S, step=True),
    Function(
        "import-finish",
        "importing.finish",
        (_ALL, _KNOWN, Files(("*/campaigns/*",), purge=True), Sends(("scheduler",)), Runs(MACHINES), Schedules()),
        timeout_s=_LAMBDA_MOST_S,
        step=True,
    ),
    Function(
        "import-failed",
        "importing.failed",
        (_ALL, _KNOWN, Files(("*/campaigns/*",), purge=True), Sends(("scheduler",))),
        timeout_s=60,
    ),
    Function(
        "send-round",
        "sending.round_",
        (
            _SENDS,
            _KNOWN,
            Files(("*/campaigns/*",), purge=True),
            Sends(("scheduler",)),
            Runs(MACHINES),
            Seals(("provider", "dkim")),
            LooksAtSes(),
        ),
        timeout_s=_LAMBDA_MOST_S,
        step=True,
    ),
    Function(
        "sender",
        "sending.batches",
        (
            _SENDS,
            _KNOWN,
            Files(_CONTENT, write=False),
            Sends(("scheduler",)),
            Runs(("send",)),
            Mails(),
            LooksAtSes(),
            Seals(("provider", "dkim")),
        ),
        timeout_s=_LAMBDA_MOST_S,
        step=True,
    ),
    Function(
        "stream-sender",
        "sending.stream",
        (
            _SENDS,
            _KNOWN,
            Files(_CONTENT, write=False),
            Sends(("scheduler",)),
            Runs(("stream",)),
            Mails(),
            LooksAtSes(),
            Seals(("provider", "dkim")),
        ),
        timeout_s=_LAMBDA_MOST_S,
        step=True,
    ),
    Function(
        "work",
        "work.handler",
        (
            _ALL,
            _KNOWN,
            Files((*_CONTENT, "*/uploads/*", "exports/*"), purge=True),
            Sends(("scheduler", "callbacks")),
            Runs(MACHINES),
            Schedules(),
            Seals(("audit", "provider", "dkim", "callback")),
        ),
        timeout_s=_LAMBDA_MOST_S,
        step=True,
    ),
)
"""Of the state machines."""

BACKGROUND = (
    Function(
        "scheduler",
        "scheduling.handler",
        (_ALL, _KNOWN, Takes(("scheduler",)), Sends(("scheduler",)), Runs(MACHINES), Schedules()),
        timeout_s=60,
    ),
    Function(
        "chores",
        "chores.handler",
        (
            _ALL,
            _KNOWN,
            Files((*_CONTENT, "*/uploads/*", "exports/*"), purge=True),
            Sends(("scheduler", "callbacks")),
            Runs(MACHINES),
            Schedules(),
            Seals(("audit",)),
        ),
        timeout_s=300,
        step=True,
        at_once=1,
    ),
    Function(
        "events",
        "events.handler",
        (_ALL, _KNOWN, Takes(("notices", "feedback")), Files(("*/campaigns/*",), write=False)),
        timeout_s=60,
        step=True,
    ),
    Function(
        "callbacks-stream",
        "callbacks.stream",
        (_DOCUMENTS, _LOOKS, _KNOWN, Follows(), Sends(("callbacks",))),
        timeout_s=60,
    ),
    Function(
        "callbacks-sender",
        "callbacks.send",
        (_DOCUMENTS, _LOOKS, _KNOWN, Takes(("callbacks",)), Sends(("callbacks",)), Seals(("callback",))),
        timeout_s=120,
    ),
    Function("indexer", "indexing.handler", (Follows(), Indexes()), timeout_s=60, in_network=True),
    Function("alarms", "alarms.handler", (Reads(),)),
)
"""That nobody calls."""

ALL = (*API, *DOOR, *STEPS, *BACKGROUND)
