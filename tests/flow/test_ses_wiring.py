"""An account of SES as a provider: whose keys, which endpoint, how fast; and what a tenant's may not do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from postroom.errors import Invalid
from postroom.ledger.providers import Providers, ProviderSpec
from postroom.model.finding import Level
from postroom.model.provider import UsageLimits
from postroom.pipeline.sender.provider_route import ProviderRoute
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.rates import SqliteRates
from postroom.platform.embedded.secrets import KeyFile, MasterSecrets
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.mail import ses
from postroom.platform.mail.port import Verdict
from postroom.platform.mail.provider_url import check_provider_url
from postroom.platform.mail.ses import SesMailer
from postroom.platform.ports.rates import RateLimit
from postroom.services.providers import ProviderCaller, ProviderService, provider_url
from postroom.settings import AwsEnvironment, Settings
from postroom.wiring.doctor import build_doctor
from postroom.wiring.providers import ConnectionBudgets, SesAccounts, build_route, examine_provider
from tests.fakes.clock import ManualClock
from tests.fakes.delivery import deliveries, send, until
from tests.fakes.ses_simulator.rules import Options
from tests.fakes.ses_simulator.simulator import SesSimulator
from tests.fakes.ses_simulator.sns import ARN
from tests.flow.test_ses_probe import HEARD

OWN = "ses://AKIDTENANT@eu-west-1?configuration_set=postroom"


class House:
    """Providers, and what is shared by all who send."""

    def __init__(self, root: Path, tables: SqliteTables, rates: SqliteRates, environ: dict[str, str]) -> None:
        self.clock = ManualClock()
        secrets = MasterSecrets(KeyFile(root / "master.key", self.clock))
        self.rates = rates
        self.providers = Providers(tables, secrets, self.clock, default_url="ses://eu-west-1?configuration_set=postroom")
        self.accounts = SesAccounts(AwsEnvironment.from_environ(environ), rates, self.clock, topics=(ARN,))

    def way(self, tenant: str = "acme", name: str = "default") -> ProviderRoute:
        return build_route(self.providers, ConnectionBudgets(), tenant, name, accounts=self.accounts)


@pytest.fixture
def ses_account() -> Iterator[SesSimulator]:
    with SesSimulator(options=Options(rate=50, quota=500, event_destinations=HEARD)) as simulator:
        yield simulator


@pytest.fixture
def house(tmp_path: Path, ses_account: SesSimulator) -> Iterator[House]:
    with closing(open_control(tmp_path)) as control, closing(SqliteRates(tmp_path / "rates.db")) as rates:
        yield House(tmp_path, SqliteTables(control, ManualClock()), rates, environ(ses_account))


def environ(simulator: SesSimulator) -> dict[str, str]:
    """AWS's own variables of a machine that sends through the simulator."""
    options = simulator.options
    return {
        "AWS_ACCESS_KEY_ID": options.access_key_id,
        "AWS_SECRET_ACCESS_KEY": options.secret_access_key,
        "AWS_ENDPOINT_URL_SESV2": simulator.url,
    }


def test_mail_leaves_through_the_account_that_awss_own_variables_name(house: House, ses_account: SesSimulator) -> None:
    mailer = house.way().open()
    assert isinstance(mailer, SesMailer)
    mails = deliveries(20)
    asyncio.run(send(mailer, mails))
    assert {mail.verdict for mail in mails} == {Verdict.ACCEPTED}
    assert len(ses_account.accepted) == 20


def test_the_narrower_of_the_accounts_limits_and_the_providers_own_holds(house: House) -> None:
    assert house.way().limit == RateLimit(50, 500)
    house.providers.create(None, "slow", ProviderSpec("ses://eu-west-1", UsageLimits(per_second=3, per_day=9_000), trusted=True))
    assert house.way(name="slow").limit == RateLimit(3, 500)


def test_the_account_is_asked_once_for_all_that_begins_within_minutes(house: House, ses_account: SesSimulator) -> None:
    assert house.way().limit == house.way("beta").limit
    assert ses_account.calls == 1
    ses_account.options.rate = 80
    house.clock.advance(301)
    assert house.way().limit == RateLimit(80, 500)


def test_an_account_that_does_not_answer_is_used_as_it_was(house: House, ses_account: SesSimulator) -> None:
    house.way()
    ses_account.options.access_key_id = "ANOTHER"
    house.clock.advance(301)
    assert house.way().limit == RateLimit(50, 500)


def test_while_mail_leaves_the_buckets_follow_the_account(
    house: House, ses_account: SesSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ses, "_ACCOUNT_S", 0.01)
    way = house.way()
    way.set_limits(house.rates)

    async def follow() -> None:
        mailer = way.open()
        await mailer.start()
        ses_account.options.rate = 20
        await until(lambda: house.rates.current(way.bucket, house.clock.now()) == 20)
        await mailer.close(0)

    asyncio.run(follow())
    assert house.rates.current(way.bulk_bucket, house.clock.now()) == pytest.approx(18)
    assert house.way().limit == RateLimit(20, 500), "nobody else has to ask"


@pytest.mark.parametrize(
    "url",
    [
        "ses://eu-west-1",
        "ses://AKID:x@eu-west-1?endpoint=http://127.0.0.1:8025",
        "ses://AKID:x@eu-west-1?endpoint=https://inside.example",
        "ses://eu-west-1?profile=default",
    ],
)
def test_a_tenants_account_is_its_own_and_nowhere_else(house: House, url: str) -> None:
    service = ProviderService(
        house.providers, check=lambda url, trusted: check_provider_url(url, trusted=trusted), examine=lambda _: []
    )
    with pytest.raises(Invalid):
        service.create(ProviderCaller("acme", operator=False), "ses", ProviderSpec(url))
    service.create(ProviderCaller("acme", operator=True), "ses", ProviderSpec(url))


def test_a_tenants_keys_go_neither_to_the_operators_endpoint_nor_are_they_the_operators(house: House) -> None:
    house.providers.create("acme", "own", ProviderSpec(OWN.replace("@", ":secret%2Fkey@")))
    config = house.accounts.config(house.providers.credentials("acme", "own"))
    assert (config.host, getattr(config, "secret_access_key", None)) == ("email.eu-west-1.amazonaws.com", "secret/key")


def test_a_key_is_sealed_and_shown_to_nobody(house: House) -> None:
    made = house.providers.create("acme", "own", ProviderSpec(OWN.replace("@", ":secret%2Fkey@")))
    assert (made.url, made.has_password) == (OWN, True)
    assert "secret" not in repr(house.providers.credentials("acme", "own"))
    assert "secret" not in repr(house.accounts.config(house.providers.credentials("acme", "own")))


def test_a_secret_that_is_given_beside_the_url_may_hold_anything_that_awss_do(house: House) -> None:
    house.providers.create("acme", "own", ProviderSpec(provider_url(OWN, "a/b+c=")))
    config = house.accounts.config(house.providers.credentials("acme", "own"))
    assert getattr(config, "secret_access_key", None) == "a/b+c="


def test_a_provider_is_tested_by_asking_the_account(house: House) -> None:
    findings = examine_provider(house.accounts, house.providers.credentials("acme", "default"))
    assert {finding.level for finding in findings} == {Level.OK}
    assert "50 recipients a second" in " ".join(finding.text for finding in findings)


def test_doctor_asks_the_account_where_its_events_go_and_whether_the_domain_may_send(
    tmp_path: Path, ses_account: SesSimulator
) -> None:
    given = {
        "POSTROOM_MAIL": "ses://eu-west-1?configuration_set=postroom",
        "POSTROOM_SES_TOPICS": ARN,
        "POSTROOM_DATA": str(tmp_path),
    }
    settings = Settings.load(given | environ(ses_account), None, {})
    findings = {finding.subject: finding for finding in build_doctor(settings, "example.com", ()).examine()}
    assert {findings[subject].level for subject in ("Amazon SES", "quota", "configuration set", "events", "identity")} == {
        Level.OK
    }
