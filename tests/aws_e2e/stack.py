"""The stack, deployed into a fresh world, with an office that works on it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.aws.emulator import REGION
from tests.aws_e2e import faults
from tests.aws_e2e.deploying import deploy
from tests.aws_e2e.office import Office
from tests.aws_e2e.synthesis import assembly
from tests.aws_e2e.world import PREFIX, World, world
from tests.fakes.ses_simulator.fates import Fates
from tests.fakes.ses_simulator.rules import Options, Rule

ACCOUNT = "000000000000"
"""The emulator's, where a key names no other."""
WITHOUT = frozenset({f"{PREFIX}-waf", f"{PREFIX}-records", f"{PREFIX}-operations"})
"""The emulator refuses a template with `AWS::WAFv2::WebACLAssociation`, `AWS::CloudTrail::Trail` or `AWS::EC2::FlowLog` in
it, and alarms over several metrics."""
_AT_ONCE = 3
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
        _translate(made)
        _tell_keys(made)
        _hear_ses(made)
        _hasten_queues(made)
        yield Office(made, templates, monkeypatch)


def _translate(made: World) -> None:
    """What AWS calls `sqs:SendMessage`, of one and of ten, the emulator calls `sqs:SendMessageBatch` for ten; and to it every schedule
    stands in the group `default`. Each role may do that as well, where it may do the other: to the same queues, and no more."""
    roles = made.client("iam")
    for role in roles.list_roles(MaxItems=1_000)["Roles"]:
        for name in roles.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]:
            document = roles.get_role_policy(RoleName=role["RoleName"], PolicyName=name)["PolicyDocument"]
            more = [translated for statement in document["Statement"] if (translated := _in_its_words(statement)) is not None]
            if more:
                text = json.dumps({"Version": "2012-10-17", "Statement": more})
                roles.put_role_policy(RoleName=role["RoleName"], PolicyName=f"{name}-emulated", PolicyDocument=text)


def _in_its_words(statement: dict[str, Any]) -> dict[str, Any] | None:
    actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
    if "sqs:SendMessage" in actions:
        return {**statement, "Action": "sqs:SendMessageBatch"}
    if any(action.startswith("scheduler:") for action in actions):
        return {**statement, "Resource": f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/default/*"}
    return None


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
    """And few functions at a time: there are as few processors."""
    functions = made.client("lambda")
    for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
        if ":sqs:" in mapping["EventSourceArn"]:
            functions.update_event_source_mapping(UUID=mapping["UUID"], ScalingConfig={"MaximumConcurrency": _AT_ONCE})
    queues = made.client("sqs")
    for url in queues.list_queues(QueueNamePrefix=f"{PREFIX}-q-")["QueueUrls"]:
        queues.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": _VISIBLE_S})
