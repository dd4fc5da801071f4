"""Mail leaves through the provider that is named: with its password, at its rate, and never into our network for a tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from postroom.errors import Invalid, NotFound
from postroom.ledger.providers import Providers, ProviderSpec
from postroom.model.provider import UsageLimits
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.rates import SqliteRates
from postroom.platform.embedded.secrets import KeyFile, MasterSecrets
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.mail.port import Verdict
from postroom.platform.mail.smtp import SmtpMailer
from postroom.platform.ports.rates import RateLimit
from postroom.settings import AwsEnvironment
from postroom.wiring.providers import ConnectionBudgets, SesAccounts, build_route
from tests.fakes.clock import ManualClock
from tests.fakes.delivery import deliveries, send
from tests.fakes.smtp_sink import Options, SmtpSink


@pytest.fixture
def providers(tmp_path: Path) -> Iterator[Providers]:
    clock = ManualClock()
    with closing(open_control(tmp_path)) as control:
        secrets = MasterSecrets(KeyFile(tmp_path / "master.key", clock))
        yield Providers(SqliteTables(control, clock), secrets, clock, default_url="smtp://127.0.0.1:9")


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[SesAccounts]:
    with closing(SqliteRates(tmp_path / "rates.db")) as rates:
        yield SesAccounts(AwsEnvironment(), rates, ManualClock())


def test_the_mailer_logs_in_with_the_stored_password_and_keeps_to_the_connections(
    providers: Providers, accounts: SesAccounts
) -> None:
    with SmtpSink(options=Options(users={"news": "s3c:r@t"})) as sink:
        url = f"smtp://news:s3c%3Ar%40t@127.0.0.1:{sink.port}?connections=9"
        providers.create(None, "relay", ProviderSpec(url, UsageLimits(connections=2), trusted=True))
        mailer = build_route(providers, ConnectionBudgets(), "acme", "relay", accounts=accounts).open()
        assert isinstance(mailer, SmtpMailer)
        mails = deliveries(60)
        asyncio.run(send(mailer, mails))
        assert {mail.verdict for mail in mails} == {Verdict.ACCEPTED}
        assert sink.connections <= 2


def test_who_has_the_same_provider_shares_its_rate_and_nobody_else_does(providers: Providers, accounts: SesAccounts) -> None:
    providers.create(None, "relay", ProviderSpec("smtp://10.0.0.1", UsageLimits(14, 1_000), trusted=True))
    providers.create("acme", "relay", ProviderSpec("smtp://relay.example", UsageLimits(3)))
    acme, beta, gamma = (
        build_route(providers, ConnectionBudgets(), tenant, "relay", accounts=accounts) for tenant in ("acme", "beta", "gamma")
    )
    assert beta.bucket == gamma.bucket != acme.bucket
    assert (acme.limit, beta.limit) == (RateLimit(3, None), RateLimit(14, 1_000))
    acme, beta = (
        build_route(providers, ConnectionBudgets(), tenant, "default", accounts=accounts) for tenant in ("acme", "beta")
    )
    assert acme.bucket == beta.bucket


def test_a_tenants_relay_inside_is_not_opened_whatever_the_record_says(providers: Providers, accounts: SesAccounts) -> None:
    providers.create("acme", "inside", ProviderSpec("smtp://127.0.0.1:25"))
    with pytest.raises(Invalid, match="operator"):
        build_route(providers, ConnectionBudgets(), "acme", "inside", accounts=accounts).open()


def test_a_provider_that_is_gone_is_not_found(providers: Providers, accounts: SesAccounts) -> None:
    with pytest.raises(NotFound):
        build_route(providers, ConnectionBudgets(), "acme", "gone", accounts=accounts)
