"""What is watched, by name, and the thresholds of its alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on an alarm rings. Rates are shares of one."""

    oldest_s: int = 900
    """How long the oldest item of a queue may wait."""
    error_rate: float = 0.05
    api_error_rate: float = 0.02
    bounce_rate: float = 0.05
    """SES puts an account under review at 5 %, and stops it at 10 %."""
    complaint_rate: float = 0.001
    """SES: review at 0.1 %, stop at 0.5 %."""
    stuck_campaigns: int = 0
    cost_usd: float = 200.0
    """Of the account's month so far; AWS tells that figure in us-east-1 alone, and only where billing alerts are on."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A stage's resources, by their physical names."""

    prefix: str
    """What all names begin with: `postroom-<stage>`."""
    table: str
    functions: Sequence[str]
    queues: Sequence[str]
    dead_queues: Sequence[str]
    machines: Sequence[str]
    """ARNs."""
    api: str
    api_stage: str

    @property
    def stage(self) -> str:
        """As the metrics of functions name it."""
        return self.prefix.removeprefix("postroom-")
