"""What the HTTP API is built from besides routes (`GatewayConfig`), and what one process counts and caches (`GatewayState`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from postroom.clock import Clock
from postroom.gateway.access import Authenticator
from postroom.gateway.audit import AuditRecorder
from postroom.gateway.idempotency import IdempotencyStore
from postroom.gateway.limits import RequestLimits
from postroom.gateway.rate_limits import ApiRates, RateLimits
from postroom.platform.ports.secrets import Secrets
from postroom.platform.ports.tables import Tables


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Settings and dependencies; built by entrypoints."""

    authenticator: Authenticator
    clock: Clock
    url: str = ""
    """The API's public address without a trailing slash (`Settings.api_base_url`). For the OpenAPI document."""
    issuer: str = ""
    """The issuer of access tokens; empty: `url`. For the OpenAPI document."""
    tables: Tables | None = None
    """Where idempotency keys are stored, sealed by `secrets`. If either is None, `Idempotency-Key` is ignored."""
    secrets: Secrets | None = None
    audit: AuditRecorder | None = None
    """None: no audit records."""
    rates: ApiRates = field(default_factory=ApiRates)
    limits: RequestLimits = field(default_factory=RequestLimits)
    trusted_proxies: tuple[str, ...] = ()
    """Networks. The server itself must ignore forwarded fields (uvicorn: `proxy_headers=False`)."""
    cors_origins: tuple[str, ...] = ()


class GatewayState:
    """The counters and caches of one process. A restart may lose all of it."""

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self.rates = RateLimits(config.rates, config.clock)
        self.handlers = 0
        """Handlers that run in a thread or wait for one."""
        self.idempotency: IdempotencyStore | None = None
        if config.tables is not None and config.secrets is not None:
            self.idempotency = IdempotencyStore(config.tables, config.secrets, config.clock)
