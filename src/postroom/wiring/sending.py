"""How mail leaves: a provider's name becomes a mailer.

What sends, put together: from rows to messages, from messages to the provider.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from postroom.delivery.compose import ContentCompiler
from postroom.delivery.transactional import ContentStore, TransactionalCompiler
from postroom.errors import Unsupported
from postroom.ledger.campaigns import CampaignCompletion
from postroom.ledger.providers import ProviderCredentials, Providers
from postroom.model.finding import Finding, Level
from postroom.model.provider import INBOX
from postroom.pipeline.scheduler import PROMPT_MS, Scheduler
from postroom.pipeline.sender.dispatch import Dispatch
from postroom.pipeline.sender.provider_route import ProviderRoute
from postroom.pipeline.sender.worker import Sender, SenderOptions, SenderStores
from postroom.pipeline.splitter import Splitter
from postroom.platform.mail.connection_pool import ConnectionBudget
from postroom.platform.mail.port import Mailer
from postroom.platform.mail.ses_url import SesConfig, is_ses
from postroom.platform.mail.smtp import SmtpMailer
from postroom.platform.mail.smtp_probe import examine_relay
from postroom.platform.ports.rates import RateLimit
from postroom.settings import Settings
from postroom.wiring.ledger import Ledger, lease_ms
from postroom.wiring.ses import SesAccounts
from postroom.wiring.stores import Stores

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


_PROMPT_ON_AWS_MS: Final = 75_000
"""EventBridge fires within the minute, and a function has to begin."""
_LINGER_ON_AWS_S: Final = 3.0
"""A function that waits costs as much as one that sends: thirty seconds after each single message would be $900 a million."""
MOMENT_ON_AWS_S: Final = 2.0
"""A group and its grants are writes that are paid for: a slow account would pay as much for them as for its messages."""
_FUNCTIONS: Final = 50
"""That send one campaign at the same time, at most: as many as the machine `send` starts at once (infra/machines)."""


def splitter(stores: Stores, ledger: Ledger) -> Splitter:
    """Rows to messages."""
    return Splitter(
        campaigns=ledger.campaigns,
        messages=stores.messages,
        objects=stores.objects,
        suppression=ledger.suppression,
        tables=stores.tables,
        tenants=ledger.tenants,
        clock=stores.clock,
    )


def scheduler(stores: Stores, ledger: Ledger) -> Scheduler:
    """When what is sent."""
    return Scheduler(
        ledger.campaigns,
        ledger.streams,
        timers=stores.timers,
        workflows=stores.workflows,
        clock=stores.clock,
        prompt_ms=PROMPT_MS if stores.machine is not None else _PROMPT_ON_AWS_MS,
    )


def send_rounds(stores: Stores, ledger: Ledger, sender: Sender) -> Dispatch:
    """What is due, in portions."""
    return Dispatch(
        ledger.campaigns,
        stores.messages,
        stores.objects,
        CampaignCompletion(ledger.campaigns, stores.messages),
        rate=sender.rate,
        used_up=sender.used_up,
        most=_FUNCTIONS,
        clock=stores.clock,
    )


def sender(
    settings: Settings,
    stores: Stores,
    ledger: Ledger,
    *,
    composing: ContentCompiler,
    contents: ContentStore,
    singles: TransactionalCompiler,
    accounts: SesAccounts,
) -> Sender:
    """Messages to the provider."""
    return Sender(
        SenderStores(
            campaigns=ledger.campaigns,
            compiler=composing,
            suppression=ledger.suppression,
            completion=CampaignCompletion(ledger.campaigns, stores.messages),
            messages=stores.messages,
            journals=stores.journals,
            rates=stores.rates,
            tenants=ledger.tenants,
            streams=ledger.streams,
            contents=contents,
            transactional=singles,
            auto_suppression=ledger.auto_suppression,
            rate_recorder=ledger.tally,
        ),
        partial(way_out, ledger.providers, ConnectionBudgets(), accounts=accounts),
        _options(settings, on_aws=stores.machine is None),
        single_provider=ledger.providers.for_single,
        clock=stores.clock,
    )


def _options(settings: Settings, *, on_aws: bool) -> SenderOptions:
    """A function on AWS is one worker; the machine tells it of those beside it."""
    options = SenderOptions(workers=settings.workers, lease_ms=lease_ms(settings), drain_s=settings.drain)
    return replace(options, workers=1, linger_s=_LINGER_ON_AWS_S, moment_s=MOMENT_ON_AWS_S) if on_aws else options
