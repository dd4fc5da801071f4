"""Amazon SES as a way out: with whose keys, and how fast, as the account allows it now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial

from postroom.clock import Clock
from postroom.errors import PostroomError
from postroom.ledger.providers import ProviderCredentials
from postroom.ledger.ttl_cache import TtlCache
from postroom.model.finding import Finding
from postroom.pipeline.sender.provider_route import ProviderRoute
from postroom.platform.mail._aws_auth import AwsCredentialChain
from postroom.platform.mail._ses_api import read_account
from postroom.platform.mail.connection_pool import ConnectionBudget
from postroom.platform.mail.provider_url import parse_provider_url
from postroom.platform.mail.ses import SesMailer
from postroom.platform.mail.ses_probe import examine_ses
from postroom.platform.mail.ses_url import SesConfig, with_environment_endpoint
from postroom.platform.mail.smtp_url import SmtpConfig
from postroom.platform.ports.rates import RateLimit, Rates
from postroom.settings import AwsEnvironment
from postroom.telemetry.logs import event_logger

_BELIEVED_S = 300.0
"""Longer than a mailer lets pass between two looks, so that nobody else has to ask while mail leaves."""
_LAST_S = 86_400.0
_ACCOUNTS = 1_000
_log = event_logger(__name__)


class SesAccounts:
    """The accounts that this process sends through. Thread-safe.

    What an account allows is asked before mail leaves, and every few minutes by each mailer while it does (platform.mail.ses).
    The answer becomes the limit of the provider's buckets, which all workers share. An account that does not answer is used as it
    was, or without a limit of its own: SES itself says when it is too fast, and that slows the bucket as well.
    """

    def __init__(self, aws: AwsEnvironment, rates: Rates, clock: Clock, *, topics: Collection[str] = ()) -> None:
        """`topics`: whose notices are believed."""
        self._aws = aws
        self._topics = topics
        self._rates = rates
        self._clock = clock
        self._chains: dict[tuple[str, str | None], AwsCredentialChain] = {}
        self._now: TtlCache[ProviderCredentials, RateLimit] = TtlCache(clock, most=_ACCOUNTS)
        self._last: TtlCache[ProviderCredentials, RateLimit] = TtlCache(clock, most=_ACCOUNTS)

    def config(self, means: ProviderCredentials) -> SmtpConfig | SesConfig:
        """What the provider's URL stands for, wherever it leads. `Invalid`."""
        return config_of(means.url, self._aws, trusted=means.trusted)

    def examined(self, config: SesConfig) -> Iterator[Finding]:
        """Whether it would send, and be heard of."""
        return examined_ses(config, self._aws, self._clock, topics=self._topics)

    def limit(self, means: ProviderCredentials, config: SesConfig) -> RateLimit:
        """The provider's own limits, or the account's where those are narrower. May ask, for some seconds."""
        known = self._now.get(means)
        return _narrower(means.limit, self._asked(means, config) if known is None else known)

    def mailer(self, means: ProviderCredentials, config: SesConfig, share: ConnectionBudget) -> SesMailer:
        """A new one. While it runs, it keeps the provider's buckets at what the account allows."""
        told = partial(self._told, means, partial(self.mailer, means, config, share))
        return SesMailer(config, source=self._credentials(config), budget=share, on_limits=told)

    def _asked(self, means: ProviderCredentials, config: SesConfig) -> RateLimit:
        try:
            found = read_account(config, self._credentials(config).load(), self._clock).limit
        except PostroomError as error:
            _log.warning("ses.limits_unreadable", provider=str(config), reason=str(error))
            found = self._last.get(means) or RateLimit()
        return self._remembered(means, found)

    def _credentials(self, config: SesConfig) -> AwsCredentialChain:
        """Shared by all mailers of the operator's account, so that roles are assumed once. Keys in a URL need no sharing."""
        chain = AwsCredentialChain(config, self._aws.variables, self._clock)
        return chain if config.access_key_id else self._chains.setdefault((config.region, config.profile), chain)

    def _told(self, means: ProviderCredentials, mailer: Callable[[], SesMailer], limit: RateLimit) -> None:
        narrower = _narrower(means.limit, self._remembered(means, limit))
        ProviderRoute(means.id, narrower, mailer).set_limits(self._rates)

    def _remembered(self, means: ProviderCredentials, limit: RateLimit) -> RateLimit:
        self._now.put(means, limit, seconds=_BELIEVED_S)
        self._last.put(means, limit, seconds=_LAST_S)
        return limit


def config_of(url: str, aws: AwsEnvironment, *, trusted: bool) -> SmtpConfig | SesConfig:
    """What a provider's URL stands for. SES is where AWS's own variables say, but for a tenant's account: they are the operator's
    word, and no key of a tenant's follows them. `Invalid`."""
    config = parse_provider_url(url, trusted=trusted)
    return with_environment_endpoint(config, aws.variables) if trusted and isinstance(config, SesConfig) else config


def examined_ses(
    config: SesConfig, aws: AwsEnvironment, clock: Clock, *, topics: Collection[str] = (), domain: str | None = None
) -> Iterator[Finding]:
    """Whether it would send, and whether its notices come to one of the topics. Nothing is sent."""
    return examine_ses(config, AwsCredentialChain(config, aws.variables, clock), clock, topics=topics, domain=domain)


def _narrower(one: RateLimit, other: RateLimit) -> RateLimit:
    rates = [rate for rate in (one.per_second, other.per_second) if rate is not None]
    days = [most for most in (one.per_day, other.per_day) if most is not None]
    return RateLimit(min(rates, default=None), min(days, default=None))
