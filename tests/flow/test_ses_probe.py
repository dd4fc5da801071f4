"""What keeps SES from sending is found before anything is sent, and said with what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from postroom.clock import SystemClock
from postroom.errors import Denied
from postroom.model.finding import Finding, Level
from postroom.platform.mail._aws_auth import AwsCredentialChain, AwsCredentials
from postroom.platform.mail.ses_probe import examine_ses
from tests.fakes.ses_simulator.rules import Options
from tests.fakes.ses_simulator.simulator import SesSimulator
from tests.fakes.ses_simulator.sns import ARN
from tests.flow.ses_kit import FakeCredentials, to


def going(*kinds: str, topic: str = ARN, enabled: bool = True) -> tuple[dict[str, object], ...]:
    """A configuration set's event destinations."""
    return ({"Name": "sns", "Enabled": enabled, "MatchingEventTypes": [*kinds], "SnsDestination": {"TopicArn": topic}},)


HEARD = going("SEND", "DELIVERY", "BOUNCE", "COMPLAINT", "DELIVERY_DELAY", "REJECT")


def found(options: Options, *, configuration_set: str | None = "postroom", domain: str | None = None) -> list[Finding]:
    options.event_destinations = options.event_destinations or HEARD
    with SesSimulator(options=options) as ses:
        config = replace(to(ses), configuration_set=configuration_set)
        return list(
            examine_ses(config, AwsCredentialChain(config, {}, SystemClock()), SystemClock(), topics=[ARN], domain=domain)
        )


def test_an_account_in_order_has_nothing_to_do() -> None:
    findings = found(Options(rate=14, quota=50_000), domain="example.com")
    assert {finding.level for finding in findings} == {Level.OK}
    assert {finding.subject for finding in findings} == {"Amazon SES", "quota", "configuration set", "events", "identity"}


@pytest.mark.parametrize(
    ("options", "level", "text"),
    [
        (Options(sending=False), Level.FAIL, "sending is paused"),
        (Options(standing="SHUTDOWN"), Level.FAIL, "sending is paused"),
        (Options(standing="PROBATION"), Level.WARN, "under review"),
        (Options(production=False), Level.WARN, "sandbox"),
        (Options(quota=100, sent=95), Level.WARN, "95 of 100"),
        (Options(configuration_sets=()), Level.FAIL, "has none called postroom"),
        (Options(identities=()), Level.FAIL, "does not know example.com"),
        (Options(event_destinations=going("SEND", "DELIVERY")), Level.WARN, "does not report BOUNCE, COMPLAINT"),
        (Options(event_destinations=going("BOUNCE", topic=ARN + "-2")), Level.WARN, f"they go to {ARN}-2"),
        (Options(event_destinations=going("BOUNCE", enabled=False)), Level.WARN, "no SNS topic"),
        (Options(event_destinations=({"Name": "firehose", "Enabled": True},)), Level.WARN, "no SNS topic"),
    ],
)
def test_what_is_wrong_is_found(options: Options, level: Level, text: str) -> None:
    wrong = [finding for finding in found(options, domain="example.com") if finding.level is not Level.OK]
    assert [(finding.level, text in finding.text, bool(finding.todo)) for finding in wrong] == [(level, True, True)]


def test_without_a_configuration_set_nothing_is_heard() -> None:
    assert any(
        finding.level is Level.WARN and "not reported" in finding.text for finding in found(Options(), configuration_set=None)
    )


def test_keys_that_are_refused_or_missing_are_the_only_finding() -> None:
    def none() -> AwsCredentials:
        raise Denied("no credentials for AWS were found")

    with SesSimulator() as ses:
        for source in (none, lambda: AwsCredentials("ANOTHER", "x")):
            (finding,) = examine_ses(to(ses), FakeCredentials(source), SystemClock())
            assert finding.level is Level.FAIL
