"""What the door is made of, besides the routes."""

from __future__ import annotations

from dataclasses import dataclass, field

from postroom.clock import Clock
from postroom.gateway.access import Authenticator
from postroom.gateway.audit import AuditRecorder
from postroom.gateway.idempotency import IdempotencyStore
from postroom.gateway.limits import RequestLimits
from postroom.gateway.rate_limits import RateLimits, Rates
from postroom.platform.ports.secrets import Secrets
from postroom.platform.ports.tables import Tables


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Put together by whoever opens the door (entrypoints)."""

    authenticator: Authenticator
    clock: Clock
    url: str = ""
    """Where the door is reached from outside, without a slash at its end: `Settings.api_base_url`. For the OpenAPI document."""
    issuer: str = ""
    """Who issues the access tokens; empty: the door itself. For the OpenAPI document."""
    tables: Tables | None = None
    """Where idempotency keys are kept, sealed by `secrets`. Without either, keys are not looked at."""
    secrets: Secrets | None = None
    audit: AuditRecorder | None = None
    rates: Rates = field(default_factory=Rates)
    limits: RequestLimits = field(default_factory=RequestLimits)
    trusted_proxies: tuple[str, ...] = ()
    """Networks. Whoever runs the server must keep it from believing forwarded fields itself (uvicorn: `proxy_headers=False`)."""
    cors_origins: tuple[str, ...] = ()


class GatewayState:
    """A frame at work: what one process counts and remembers. All of it may be lost at any time."""

    def __init__(self, frame: GatewayConfig) -> None:
        self.frame = frame
        self.rates = RateLimits(frame.rates, frame.clock)
        self.handlers = 0
        """In threads, or waiting for one."""
        self.idempotency: IdempotencyStore | None = None
        if frame.tables is not None and frame.secrets is not None:
            self.idempotency = IdempotencyStore(frame.tables, frame.secrets, frame.clock)
