"""How mail leaves: a provider's name becomes a route with its rate limit, its connections and its mailer (SMTP or Amazon SES)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import partial

from postroom.clock import Clock
from postroom.errors import PostroomError, Unsupported
from postroom.ledger.providers import ProviderCredentials, Providers
from postroom.ledger.ttl_cache import TtlCache
from postroom.model.finding import Finding, Level
from postroom.model.provider import INBOX
from postroom.pipeline.sender.provider_route import ProviderRoute
from postroom.platform.mail._aws_auth import AwsCredentialChain
from postroom.platform.mail._ses_api import read_account
from postroom.platform.mail.connection_pool import ConnectionBudget
from postroom.platform.mail.port import Mailer
from postroom.platform.mail.provider_url import parse_provider_url
from postroom.platform.mail.ses import SesMailer
from postroom.platform.mail.ses_probe import examine_ses
from postroom.platform.mail.ses_url import SesConfig, is_ses, with_environment_endpoint
from postroom.platform.mail.smtp import SmtpMailer
from postroom.platform.mail.smtp_probe import examine_relay
from postroom.platform.mail.smtp_url import SmtpConfig
from postroom.platform.ports.rates import RateLimit, Rates
from postroom.settings import AwsEnvironment
from postroom.telemetry.logs import event_logger

_PROBE_TIMEOUT_S = 20.0
"""For the test of a relay while a caller waits: less than an API call may take."""
_LIMITS_FRESH_S = 300.0
"""Longer than the interval at which a mailer reads the limits, so that no other code has to while mail leaves."""
_LIMITS_KEPT_S = 86_400.0
_ACCOUNTS = 1_000
_log = event_logger(__name__)


class ConnectionBudgets:
    """The connections of one process to each of its providers."""

    def __init__(self) -> None:
        self._budgets: dict[tuple[str, int], ConnectionBudget] = {}

    def get(self, provider: str, connections: int) -> ConnectionBudget:
        """Return the budget that all mailers of the provider share; a new one if its number of connections was changed."""
        return self._budgets.setdefault((provider, connections), ConnectionBudget(connections))


class SesAccounts:
    """The SES accounts that this process sends through. Thread-safe.

    An account's limits (https://docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas.html) are read before mail leaves, and by
    each mailer every few minutes while it does (platform.mail.ses). They become the limits of the provider's rate buckets, which
    all workers share. If they cannot be read, the last known ones count, or none: SES itself throttles, and that slows the bucket
    as well.
    """

    def __init__(self, aws: AwsEnvironment, rates: Rates, clock: Clock, *, topics: Collection[str] = ()) -> None:
        """`topics`: the SNS topics of which notifications are accepted."""
        self._aws = aws
        self._topics = topics
        self._rates = rates
        self._clock = clock
        self._chains: dict[tuple[str, str | None], AwsCredentialChain] = {}
        self._fresh: TtlCache[ProviderCredentials, RateLimit] = TtlCache(clock, most=_ACCOUNTS)
        self._last: TtlCache[ProviderCredentials, RateLimit] = TtlCache(clock, most=_ACCOUNTS)

    def config(self, credentials: ProviderCredentials) -> SmtpConfig | SesConfig:
        """Parse the provider's URL, of any kind. Raises `Invalid`."""
        return parse_config(credentials.url, self._aws, trusted=credentials.trusted)

    def examine(self, config: SesConfig) -> Iterator[Finding]:
        """Check that the account can send, and that its notifications arrive."""
        return examine_account(config, self._aws, self._clock, topics=self._topics)

    def limit(self, credentials: ProviderCredentials, config: SesConfig) -> RateLimit:
        """Return the narrower of the provider's and the account's limits. May take seconds: it may call SES."""
        known = self._fresh.get(credentials)
        return _narrower(credentials.limit, self._read(credentials, config) if known is None else known)

    def mailer(self, credentials: ProviderCredentials, config: SesConfig, budget: ConnectionBudget) -> SesMailer:
        """Return a new mailer. While it runs, it keeps the provider's rate buckets at the account's limits."""
        on_limits = partial(self._apply, credentials, partial(self.mailer, credentials, config, budget))
        return SesMailer(config, source=self._credential_chain(config), budget=budget, on_limits=on_limits)

    def _read(self, credentials: ProviderCredentials, config: SesConfig) -> RateLimit:
        try:
            found = read_account(config, self._credential_chain(config).load(), self._clock).limit
        except PostroomError as error:
            _log.warning("ses.limits_unreadable", provider=str(config), reason=str(error))
            found = self._last.get(credentials) or RateLimit()
        return self._keep(credentials, found)

    def _credential_chain(self, config: SesConfig) -> AwsCredentialChain:
        """Mailers of the operator's account share one, so that roles are assumed once. Keys in a URL need no sharing."""
        chain = AwsCredentialChain(config, self._aws.variables, self._clock)
        return chain if config.access_key_id else self._chains.setdefault((config.region, config.profile), chain)

    def _apply(self, credentials: ProviderCredentials, mailer: Callable[[], SesMailer], limit: RateLimit) -> None:
        narrower = _narrower(credentials.limit, self._keep(credentials, limit))
        ProviderRoute(credentials.id, narrower, mailer).set_limits(self._rates)

    def _keep(self, credentials: ProviderCredentials, limit: RateLimit) -> RateLimit:
        self._fresh.put(credentials, limit, seconds=_LIMITS_FRESH_S)
        self._last.put(credentials, limit, seconds=_LIMITS_KEPT_S)
        return limit


def build_route(
    providers: Providers, budgets: ConnectionBudgets, tenant: str, provider: str, *, accounts: SesAccounts
) -> ProviderRoute:
    """Return the route of a campaign's or a tenant's mail. `provider`: a name, or the URL that the command line was given."""
    credentials = (
        ProviderCredentials(provider, provider, RateLimit(), None, trusted=True)
        if ":" in provider
        else providers.credentials(tenant, provider)
    )
    config = accounts.config(credentials) if is_ses(credentials.url) else None
    limit = accounts.limit(credentials, config) if isinstance(config, SesConfig) else credentials.limit
    mailer = partial(_mailer, credentials, budgets, accounts)
    return ProviderRoute(credentials.id, limit, mailer, config_version=credentials, signs=config is not None)


def _mailer(credentials: ProviderCredentials, budgets: ConnectionBudgets, accounts: SesAccounts) -> Mailer:
    if credentials.url == INBOX:
        raise Unsupported("the built-in inbox is not running in this process: start the campaign with `postroom send`")
    config = accounts.config(credentials)
    connections = credentials.connections or config.connections
    budget = budgets.get(credentials.id, connections)
    if isinstance(config, SesConfig):
        return accounts.mailer(credentials, replace(config, connections=connections), budget)
    return SmtpMailer(replace(config, connections=connections), budget=budget)


def examine_provider(accounts: SesAccounts, credentials: ProviderCredentials) -> list[Finding]:
    """Return the findings of a provider's test. Sends nothing."""
    if credentials.url == INBOX:
        return list(examine_inbox())
    config = accounts.config(credentials)
    if isinstance(config, SesConfig):
        return list(accounts.examine(config))
    return list(examine_relay(config, within_s=_PROBE_TIMEOUT_S))


def examine_inbox() -> Iterator[Finding]:
    """The finding about the built-in inbox."""
    todo = "set POSTROOM_MAIL=smtp://… or ses://… to reach people"
    yield Finding("mail server", Level.OK, "the built-in inbox: mail stays on this machine", todo)


def examine_account(
    config: SesConfig, aws: AwsEnvironment, clock: Clock, *, topics: Collection[str] = (), domain: str | None = None
) -> Iterator[Finding]:
    """Check that the account can send, and that its notifications go to one of the topics. Sends nothing."""
    return examine_ses(config, AwsCredentialChain(config, aws.variables, clock), clock, topics=topics, domain=domain)


def parse_config(url: str, aws: AwsEnvironment, *, trusted: bool) -> SmtpConfig | SesConfig:
    """Parse a provider's URL. Raises `Invalid`.

    AWS's own variables set the endpoint of SES only for a provider of the operator (`trusted`): a tenant's keys never go there.
    """
    config = parse_provider_url(url, trusted=trusted)
    return with_environment_endpoint(config, aws.variables) if trusted and isinstance(config, SesConfig) else config


def _narrower(one: RateLimit, other: RateLimit) -> RateLimit:
    rates = [rate for rate in (one.per_second, other.per_second) if rate is not None]
    days = [most for most in (one.per_day, other.per_day) if most is not None]
    return RateLimit(min(rates, default=None), min(days, default=None))
