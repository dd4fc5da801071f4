"""How mail leaves: a provider's name becomes a mailer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from postroom.errors import Unsupported
from postroom.ledger.providers import ProviderCredentials, Providers
from postroom.model.finding import Finding, Level
from postroom.model.provider import INBOX
from postroom.pipeline.sender.provider_route import ProviderRoute
from postroom.platform.mail.connection_pool import ConnectionBudget
from postroom.platform.mail.port import Mailer
from postroom.platform.mail.ses_url import SesConfig, is_ses
from postroom.platform.mail.smtp import SmtpMailer
from postroom.platform.mail.smtp_probe import examine_relay
from postroom.platform.ports.rates import RateLimit
from postroom.wiring.ses import SesAccounts

_TEST_S = 20.0
"""For a relay that is tested while a caller waits: less than a call may take."""


class ConnectionBudgets:
    """The connections of one process to each of its relays."""

    def __init__(self) -> None:
        self._shares: dict[tuple[str, int], ConnectionBudget] = {}

    def of(self, provider: str, connections: int) -> ConnectionBudget:
        """What all mailers of the provider have in common; made anew where its number of connections was changed."""
        return self._shares.setdefault((provider, connections), ConnectionBudget(connections))


def way_out(
    providers: Providers, shares: ConnectionBudgets, tenant: str, provider: str, *, accounts: SesAccounts
) -> ProviderRoute:
    """How a campaign's or a tenant's mail leaves. A URL in a provider's place is the command line's."""
    given = ":" in provider
    means = (
        ProviderCredentials(provider, provider, RateLimit(), None, trusted=True)
        if given
        else providers.credentials(tenant, provider)
    )
    config = accounts.config(means) if is_ses(means.url) else None
    limit = accounts.limit(means, config) if isinstance(config, SesConfig) else means.limit
    return ProviderRoute(
        means.id, limit, partial(_mailer, means, shares, accounts), config_version=means, signs=config is not None
    )


def _mailer(means: ProviderCredentials, shares: ConnectionBudgets, accounts: SesAccounts) -> Mailer:
    """A new mailer for a provider."""
    if means.url == INBOX:
        raise Unsupported("the built-in inbox is not running in this process: start the campaign with `postroom send`")
    config = accounts.config(means)
    connections = means.connections or config.connections
    share = shares.of(means.id, connections)
    if isinstance(config, SesConfig):
        return accounts.mailer(means, replace(config, connections=connections), share)
    return SmtpMailer(replace(config, connections=connections), budget=share)


def examined(accounts: SesAccounts, means: ProviderCredentials) -> list[Finding]:
    """What a test of the provider finds."""
    if means.url == INBOX:
        return list(no_relay())
    config = accounts.config(means)
    if isinstance(config, SesConfig):
        return list(accounts.examined(config))
    return list(examine_relay(config, within_s=_TEST_S))


def no_relay() -> Iterator[Finding]:
    todo = "set POSTROOM_MAIL=smtp://… or ses://… to reach people"
    yield Finding("mail server", Level.OK, "the built-in inbox: mail stays on this machine", todo)
