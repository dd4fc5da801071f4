"""Every function: its handler, its size, and exactly what it may do. What is not here, it may not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra import partitions as of
from infra.names import MACHINES
from infra.permissions import (
    CAMPAIGN_RECORDS,
    MESSAGES,
    RATES,
    Files,
    Follows,
    Indexes,
    LooksAtSes,
    Mails,
    Permission,
    Reads,
    Rows,
    Runs,
    Schedules,
    Seals,
    Sends,
    Takes,
    documents,
)

_HANDLERS = "postroom.entrypoints.lambdas"
_LEDGER = (*CAMPAIGN_RECORDS, *MESSAGES)
_CALL = "*%23idempotency"
"""The purpose of responses stored for an Idempotency-Key; KMS sees the first part of a purpose, escaped."""
_FILES = ("*/templates/*", "*/campaigns/*", "*/streams/*")
_CAMPAIGN = (*of.CAMPAIGNS, *of.IMPORTS, *of.CALLBACKS, *of.LANES, *of.UPLOADS, *of.WORK)
"""What a campaign has, and is swept with it."""
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
    storage_mb: int = 512
    """For temporary files."""
    at_once: int | None = None
    """How many may run; None: as many as are called."""
    in_network: bool = False

    @property
    def path(self) -> str:
        return f"{_HANDLERS}.{self.handler}"


def _door(*, sees: Sequence[str] = (), keeps: Sequence[str] = (), ledger: Sequence[str] = ()) -> Rows:
    """Rows behind the API: who calls is looked up, and each call leaves its trail. `ledger`: seen."""
    return Rows(
        sees=(*documents(*of.IDENTITY, *sees), *ledger),
        keeps=documents(*of.CALLS, *keeps),
    )


API = (
    Function(
        "template-api",
        "api.templates",
        (
            _door(sees=("uploads",), keeps=of.TEMPLATES),
            Files(("*/templates/*",)),
            Files(("*/uploads/*",), write=False),
            Seals((_CALL,)),
        ),
    ),
    Function(
        "upload-api",
        "api.uploads",
        (_door(sees=("campaigns",), keeps=of.UPLOADS), Files(("*/uploads/*",), purge=True), Seals((_CALL,))),
    ),
    Function(
        "email-api",
        "api.email",
        (
            Rows(
                sees=documents(*of.IDENTITY, *of.TEMPLATES, "soft-bounces", *of.WATCHED),
                keeps=(
                    *documents(*of.CALLS, *_CAMPAIGN, *of.STREAMS, *of.SUPPRESSION, *of.PROVIDERS, *of.SENDERS, *of.ERASURES),
                    *_LEDGER,
                    *RATES,
                ),
            ),
            Files(("*/templates/*", "*/uploads/*"), write=False),
            Files(("*/campaigns/*", "*/streams/*", "exports/*"), purge=True),
            Sends(("scheduler", "feedback")),
            Runs(MACHINES),
            Schedules(),
            Seals((_CALL, "provider", "dkim")),
            LooksAtSes(),
        ),
    ),
    Function(
        "status-api",
        "api.status",
        (
            _door(
                sees=(*of.CAMPAIGNS, *of.STREAMS, *of.SUPPRESSION, "uploads", "callbacks", "deliveries#*", *of.WATCHED),
                keeps=(*of.SEALED_TRAIL, "#tenants"),
                ledger=(*_LEDGER, *RATES),
            ),
            Files(("exports/*",)),
            Files(("*/campaigns/*", "readiness"), write=False),
            Seals((_CALL, "audit", "readiness")),
        ),
    ),
    Function(
        "callback-api",
        "api.callbacks",
        (
            _door(sees=("campaigns",), keeps=(*of.CALLBACKS, *of.LANES), ledger=_LEDGER),
            Sends(("callbacks",)),
            Seals((_CALL, "callback", "callback-answer")),
        ),
    ),
    Function("access-api", "api.access", (_door(keeps=of.ACCESS), Seals((_CALL, "key")))),
)
"""Behind the API; the same application each, with its own routes."""

DOOR = (
    Function(
        "authorizer",
        "authorizer.handler",
        (Rows(sees=documents(*of.IDENTITY), keeps=documents("key-uses")),),
        timeout_s=10,
    ),
    Function(
        "tracking",
        "api.tracking",
        (
            Rows(
                sees=(*documents("#tenants", "#tenant-numbers", "campaigns", "senders", *of.STREAMS), *_LEDGER),
                keeps=documents(*of.SUPPRESSION),
            ),
            Files(("*/campaigns/*", "*/streams/*"), write=False),
            Sends(("feedback",)),
        ),
        timeout_s=10,
    ),
)


def _imports(
    name: str, handler: str, rows: Rows, *more: Permission, timeout_s: int = _LAMBDA_MOST_S, storage_mb: int = 512
) -> Function:
    permissions = (rows, *more)
    path = f"import_steps.{handler}"
    return Function(f"import-{name}", path, permissions, timeout_s=timeout_s, step=True, storage_mb=storage_mb)


_ENDS_IMPORT = Rows(
    sees=documents("#tenants", "uploads", *of.SUPPRESSION),
    keeps=(*documents(*of.CAMPAIGNS, *of.IMPORTS, *of.WORK), *_LEDGER),
)
_SENDS_FROM = documents("#tenants", "suppression", "suppression#*", "providers", "#providers", "senders", "dkim", "callbacks")

STEPS = (
    _imports(
        "plan",
        "plan",
        Rows(
            sees=documents("#tenants", "uploads", *of.SUPPRESSION),
            keeps=(*documents(*of.CAMPAIGNS, *of.IMPORTS), *_LEDGER),
        ),
        Files(("*/campaigns/*",)),
        Files(("*/uploads/*",), write=False),
    ),
    _imports(
        "range",
        "range_",
        Rows(sees=documents("#tenants", "campaigns", *of.SUPPRESSION), keeps=documents(*of.IMPORTS)),
        Files(("*/campaigns/*",)),
        Files(("*/uploads/*",), write=False),
    ),
    _imports(
        "reduce",
        "reduce",
        Rows(sees=documents("#tenants", "campaigns", *of.SUPPRESSION), keeps=(*documents(*of.IMPORTS), *_LEDGER)),
        Files(("*/campaigns/*",)),
    ),
    _imports(
        "finish",
        "finish",
        _ENDS_IMPORT,
        Files(("*/campaigns/*",), purge=True),
        Sends(("scheduler",)),
        storage_mb=2_048,  # a report of ten million rejected rows is spooled before it is stored
    ),
    _imports("failed", "failed", _ENDS_IMPORT, Files(("*/campaigns/*",), purge=True), timeout_s=60),
    Function(
        "send-round",
        "send_steps.round_",
        (
            Rows(sees=_SENDS_FROM, keeps=(*documents(*of.CAMPAIGNS, *of.WATCHED, *of.WORK), *_LEDGER, *RATES)),
            Files(("*/campaigns/*",), purge=True),
            Sends(("scheduler",)),
            Runs(("send",)),
            Seals(("provider", "dkim")),
            LooksAtSes(),
        ),
        timeout_s=_LAMBDA_MOST_S,
        step=True,
    ),
    *(
        Function(
            name,
            f"send_steps.{handler}",
            (
                Rows(sees=_SENDS_FROM, keeps=(*documents(*of.CAMPAIGNS, *of.HEARD, *more), *_LEDGER, *RATES)),
                Files(_FILES, write=False),
                Sends(("scheduler",)),
                *starts,
                Mails(),
                LooksAtSes(),
                Seals(("provider", "dkim")),
            ),
            timeout_s=_LAMBDA_MOST_S,
            step=True,
        )
        for name, handler, more, starts in (
            ("sender", "batches", (), ()),
            ("stream-sender", "stream", (*of.STREAMS, *of.WORK), (Runs(("stream",)),)),
        )
    ),
    Function(
        "work",
        "workflow.handler",
        (
            Rows(
                sees=documents("#tenants", *of.TEMPLATES),
                keeps=(
                    *documents(*of.TRAIL, *_CAMPAIGN, *of.STREAMS, *of.SUPPRESSION, "soft-bounces", *of.ERASURES, *of.SENDERS),
                    *_LEDGER,
                    *RATES,
                ),
            ),
            Files(("*/campaigns/*", "*/streams/*", "*/uploads/*", "exports/*"), purge=True),
            Sends(("scheduler", "callbacks")),
            Runs(MACHINES),
            Schedules(),
        ),
        timeout_s=_LAMBDA_MOST_S,
        step=True,
    ),
)
"""Of the state machines."""

BACKGROUND = (
    Function(
        "scheduler",
        "maintenance.schedule",
        (
            Rows(sees=documents("#tenants", *of.STREAMS), keeps=(*documents(*of.CAMPAIGNS, *of.WORK), *_LEDGER)),
            Takes(("scheduler",)),
            Sends(("scheduler",)),
            Runs(MACHINES),
            Schedules(),
        ),
        timeout_s=60,
    ),
    Function(
        "maintenance",
        "maintenance.run_jobs",
        (
            Rows(
                sees=documents("providers", "#providers", *of.SUPPRESSION, *of.TEMPLATES),
                keeps=(*documents(*of.SEALED_TRAIL, "#tenants", *_CAMPAIGN, *of.STREAMS, *of.WATCHED), *_LEDGER, *RATES),
            ),
            Files(("*/campaigns/*", "*/streams/*", "*/uploads/*"), purge=True),
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
        (
            Rows(
                sees=documents("#tenants", "#tenant-numbers", "campaigns", *of.STREAMS), keeps=(*documents(*of.HEARD), *_LEDGER)
            ),
            Takes(("notices", "feedback")),
            Files(("*/campaigns/*", "*/streams/*"), write=False),
        ),
        timeout_s=60,
        step=True,
    ),
    Function(
        "callbacks-stream",
        "streams.enqueue_callbacks",
        (
            Rows(sees=(*documents("callbacks", "campaigns"), *_LEDGER), keeps=documents(*of.LANES)),
            Follows(),
            Sends(("callbacks",)),
        ),
        timeout_s=60,
    ),
    Function(
        "callbacks-sender",
        "streams.send_callbacks",
        (
            Rows(
                sees=documents("#tenants", "campaigns"),
                # Disables dead endpoints, with an audit record; creates the secret of campaigns' callbacks when first needed.
                keeps=documents(*of.CALLBACKS, *of.LANES, *of.TRAIL),
            ),
            Takes(("callbacks",)),
            Sends(("callbacks",)),
            Seals(("callback",)),
        ),
        timeout_s=120,
    ),
    Function("indexer", "streams.index_messages", (Follows(), Indexes()), timeout_s=60, in_network=True),
    Function("alarms", "alarms.handler", (Reads(),)),
)
"""Triggered by queues, streams and schedules."""

ALL = (*API, *DOOR, *STEPS, *BACKGROUND)
