"""Checks for `doctor` whether SES would send, and whether its events would arrive: credentials, account, configuration set, event
destinations, sending domain. Sends nothing; blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from postroom.clock import Clock
from postroom.errors import NotFound, PostroomError
from postroom.model.finding import Finding, Level
from postroom.platform.mail._aws_auth import AwsCredentials, CredentialSource
from postroom.platform.mail._ses_api import (
    SesAccount,
    configuration_set_path,
    event_destinations_path,
    get_json,
    identity_path,
    read_account,
)
from postroom.platform.mail.ses_url import SesConfig

_SUBJECT = "Amazon SES"
_EVENTS = "events"
_NEARLY = 0.9
_EVENT_TYPES = ("BOUNCE", "COMPLAINT", "DELIVERY", "DELIVERY_DELAY", "REJECT", "SEND")
"""Event types that should arrive. A message whose response was lost is settled by the first of them."""
_REQUIRED_TYPES = frozenset({"BOUNCE", "COMPLAINT"})


def examine_ses(
    config: SesConfig,
    source: CredentialSource,
    clock: Clock,
    *,
    topics: Collection[str] = (),
    domain: str | None = None,
) -> Iterator[Finding]:
    """All findings. `topics`: SNS topics that this installation accepts events from. `domain`: a sending domain to check."""
    try:
        credentials = source.load()
        account = read_account(config, credentials, clock)
    except PostroomError as error:
        yield Finding(_SUBJECT, Level.FAIL, str(error), "check region and credentials, and that they allow ses:GetAccount")
        return
    yield from _account(config, account)
    yield from _configuration_set(config, credentials, clock, topics)
    if domain is not None:
        yield _identity(config, credentials, clock, domain=domain)


def _account(config: SesConfig, account: SesAccount) -> Iterator[Finding]:
    if not account.sends or account.enforcement_status == "SHUTDOWN":
        yield Finding(
            _SUBJECT,
            Level.FAIL,
            f"sending is paused ({account.enforcement_status})",
            "see the account's reputation in the SES console",
        )
    elif account.enforcement_status != "HEALTHY":
        yield Finding(
            _SUBJECT,
            Level.WARN,
            f"the account is under review ({account.enforcement_status})",
            "see its reputation in the SES console",
        )
    else:
        yield Finding(_SUBJECT, Level.OK, f"{config.host} answers, and the account may send")
    if not account.production:
        yield Finding(
            _SUBJECT,
            Level.WARN,
            "the account is in the sandbox: only verified addresses get mail",
            "ask AWS for production access",
        )
    rate = "any number" if account.per_second is None else f"{account.per_second:g}"
    if account.per_day is None:
        yield Finding("quota", Level.OK, f"{rate} recipients a second, no limit a day")
        return
    level = Level.WARN if account.sent >= account.per_day * _NEARLY else Level.OK
    todo = "ask AWS for a higher quota" if level is Level.WARN else ""
    yield Finding("quota", level, f"{rate} recipients a second; {account.sent} of {account.per_day} in the last 24 hours", todo)


def _configuration_set(
    config: SesConfig, credentials: AwsCredentials, clock: Clock, topics: Collection[str]
) -> Iterator[Finding]:
    name = config.configuration_set
    if name is None:
        todo = "add configuration_set= to the mail provider's URL, with its events going to an SNS topic"
        yield Finding("configuration set", Level.WARN, "none: bounces and complaints are not reported here", todo)
        return
    try:
        get_json(config, credentials, configuration_set_path(name), clock)
    except NotFound:
        yield Finding(
            "configuration set", Level.FAIL, f"{config.region} has none called {name}", "make it, or correct configuration_set="
        )
    except PostroomError as error:
        yield Finding(
            "configuration set", Level.SKIPPED, f"{name} could not be looked at: {error}", "allow ses:GetConfigurationSet"
        )
    else:
        yield Finding("configuration set", Level.OK, name)
        yield _events(config, credentials, clock, topics)


def _events(config: SesConfig, credentials: AwsCredentials, clock: Clock, topics: Collection[str]) -> Finding:
    name = config.configuration_set or ""
    try:
        document = get_json(config, credentials, event_destinations_path(name), clock)
    except PostroomError as error:
        todo = "allow ses:GetConfigurationSetEventDestinations"
        return Finding(_EVENTS, Level.SKIPPED, f"where those of {name} go could not be looked at: {error}", todo)
    going = _published(document)
    heard = {kind for topic, kinds in going for kind in kinds if topic in topics}
    if not heard:
        text = f"none of {name} come here: they go to {', '.join(sorted({topic for topic, _ in going})) or 'no SNS topic'}"
        return Finding(_EVENTS, Level.WARN, text, "let them go to an SNS topic, and name it in POSTROOM_SES_TOPICS")
    missing = [kind for kind in _EVENT_TYPES if kind not in heard]
    if missing:
        level = Level.WARN if _REQUIRED_TYPES & {*missing} else Level.OK
        return Finding(_EVENTS, level, f"{name} does not report {', '.join(missing)}", "add them to its event destination")
    return Finding(_EVENTS, Level.OK, f"{name} reports to {', '.join(sorted(topic for topic, _ in going if topic in topics))}")


def _published(document: dict[str, object]) -> list[tuple[str, list[str]]]:
    """SNS topics, and the kinds of event that go there."""
    found = []
    destinations = document.get("EventDestinations")
    for one in destinations if isinstance(destinations, list) else ():
        match one:
            case {"Enabled": True, "SnsDestination": {"TopicArn": str(topic)}, "MatchingEventTypes": [*kinds]}:
                found.append((topic, [str(kind) for kind in kinds]))
    return found


def _identity(config: SesConfig, credentials: AwsCredentials, clock: Clock, *, domain: str) -> Finding:
    try:
        document = get_json(config, credentials, identity_path(domain), clock)
    except NotFound:
        return Finding(
            "identity",
            Level.FAIL,
            f"SES does not know {domain} in {config.region}",
            "create it there, and publish its DKIM records",
        )
    except PostroomError as error:
        return Finding("identity", Level.SKIPPED, f"{domain} could not be looked at: {error}", "allow ses:GetEmailIdentity")
    if document.get("VerifiedForSendingStatus") is True:
        return Finding("identity", Level.OK, f"SES may send as {domain}")
    return Finding("identity", Level.FAIL, f"SES does not send as {domain} yet", "publish the DKIM records that SES shows for it")
