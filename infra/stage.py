"""What differs from stage to stage. Each field may be given as context of the same name (`postroom deploy --set name=value`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self

from aws_cdk import RemovalPolicy

PRODUCTION = "prod"
_NEW_TABLE_WRITES = 4_000
_NAME = re.compile(r"[a-z][a-z0-9]{1,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One installation."""

    stage: str = "dev"
    bundle: str = ""
    """A directory with the functions' code. Without one the templates are for reading only."""
    python: str = "3.12"
    """Lambda's; the functions' code is compiled for it."""

    # What people see
    domain: str = ""
    """That mail comes from: SES gets an identity for it."""
    console_origin: str = "http://localhost:5173"
    """Where the console is served: signing in leads back there, and its pages may bring files to the bucket."""

    # Sizes
    api_memory: int = 1_024
    """MB. A function gets one processor for 1,769 MB."""
    step_memory: int = 1_769
    """The same, of functions that compute."""
    burst: int = 400
    """Calls of the API at a moment."""
    rate: int = 200
    """Calls of the API a second."""
    counted: bool = False
    """Each call of the API counts under the stage's usage plan, by a key that the authorizer gives it."""
    senders: int = 50
    """Functions that send at the same time, at most."""
    warm_writes: int = 0
    """Writes a second that the table is made ready for; 0: what a new table has, about 4,000."""
    table: str = ""
    """A table that was restored, instead of the stage's own."""
    search: bool = True
    """Whether there is OpenSearch, which costs by the hour."""
    search_instance: str = "t3.small.search"
    """The kind of its nodes."""
    search_count: int = 2
    """Its nodes, over two zones; with one there are no replicas."""
    search_gb: int = 20
    """A node's disk."""

    # Watching
    alert_email: str = ""
    """Who is told of alarms."""
    pagerduty: bool = False
    """The secret `postroom-<stage>/pagerduty` holds a routing key."""
    log_days: int = 30
    """How long logs are kept."""
    cost_usd: int = 200
    """What the account may cost a month before an alarm rings."""
    careful: bool = False
    """New versions get a tenth of the calls first."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.stage):
            raise ValueError(f"{self.stage!r} names no stage: 2 to 10 lower-case letters and digits, a letter first")

    @classmethod
    def of(cls, context: Callable[[str], Any]) -> Self:
        """From the context, and by what the stage is for where that says nothing. `ValueError`."""
        given = {each.name: context(each.name) for each in fields(cls)}
        values = {
            name: _read(cls.__dataclass_fields__[name].type, str(value), name)
            for name, value in given.items()
            if value is not None
        }
        usual = _PRODUCTION if values.get("stage") == PRODUCTION else {}
        return cls(**{**usual, **values})

    @property
    def prefix(self) -> str:
        """What all names begin with."""
        return f"postroom-{self.stage}"

    @property
    def groups(self) -> int:
        """How many functions of an import store at the same time: each writes about 1,000 a second."""
        return max(_NEW_TABLE_WRITES, self.warm_writes) // 1_000

    @property
    def production(self) -> bool:
        """Whether its data outlives it."""
        return self.stage == PRODUCTION

    @property
    def removal(self) -> RemovalPolicy:
        """Of what holds data."""
        return RemovalPolicy.RETAIN if self.production else RemovalPolicy.DESTROY


_PRODUCTION: dict[str, Any] = {
    "search_instance": "r7g.large.search",
    "search_count": 2,
    "search_gb": 100,
    "log_days": 90,
    "careful": True,
    "counted": True,
    "warm_writes": 12_000,
}


def _read(kind: Any, text: str, name: str) -> Any:
    if kind == "bool":
        if text.lower() not in {"true", "false"}:
            raise ValueError(f"{name} is {text!r}; allowed: true, false")
        return text.lower() == "true"
    return int(text) if kind == "int" else text
