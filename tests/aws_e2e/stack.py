"""The stack, deployed into a fresh world, with an office that works on it."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.aws_e2e import faults
from tests.aws_e2e.deploying import deploy
from tests.aws_e2e.office import Office
from tests.aws_e2e.synthesis import assembly
from tests.aws_e2e.world import PREFIX, World, world
from tests.fakes.ses_simulator.fates import Fates
from tests.fakes.ses_simulator.rules import Options, Rule

WITHOUT = frozenset({f"{PREFIX}-waf", f"{PREFIX}-records"})
"""The emulator refuses a template with `AWS::WAFv2::WebACLAssociation`, `AWS::CloudTrail::Trail` or `AWS::EC2::FlowLog` in it."""
_VISIBLE_S = "5"
"""How long an item whose function was killed stays away: six times the function's time, on AWS. Nobody waits for that here."""


@contextmanager
def deployed(
    tmp_path: Path,
    factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    *,
    rules: Iterable[Rule],
    options: Options,
    fates: Fates,
    faulty: faults.Plan | None = None,
) -> Iterator[Office]:
    """One; skips the test where it cannot be had."""
    stub = tmp_path / "stub"
    stub.mkdir()
    (stub / "README").write_text("the emulator has the program itself\n")
    templates = assembly(factory, stub)
    with world(tmp_path, monkeypatch, rules, options, fates, faulty=faulty) as made:
        deploy(made.session, made.emulator.endpoint, templates, without=WITHOUT)
        _tell_keys(made)
        _hear_ses(made)
        _hasten_queues(made)
        yield Office(made, monkeypatch)


def _tell_keys(made: World) -> None:
    """The emulator's tokens name AWS's own address as their issuer's, where nobody knows them."""
    (pool,) = made.client("cognito-idp").list_user_pools(MaxResults=2)["UserPools"]
    with urllib.request.urlopen(f"{made.emulator.endpoint}/{pool['Id']}/.well-known/jwks.json", timeout=10) as answer:
        made.keys.document = answer.read()


def _hear_ses(made: World) -> None:
    """SES publishes where the configuration set says."""
    described = made.client("sesv2").get_configuration_set_event_destinations(ConfigurationSetName=PREFIX)
    (destination,) = described["EventDestinations"]
    made.topic.begin(destination["SnsDestination"]["TopicArn"], made.client("sns"))


def _hasten_queues(made: World) -> None:
    queues = made.client("sqs")
    for url in queues.list_queues(QueueNamePrefix=f"{PREFIX}-q-")["QueueUrls"]:
        queues.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": _VISIBLE_S})
