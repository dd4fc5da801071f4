"""What stands behind the functions while they are measured: an emulator of AWS, SES, OpenSearch, each a process of its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from tests.aws.emulator import REGION, Emulator, start

from postroom.platform.aws._clients import AwsAccount
from postroom.platform.aws._schema import make_bucket, make_table

NAME = "postroom-bench"
_QUEUES = ("scheduler", "feedback", "callbacks", "notices")
_MACHINES = ("import", "send", "stream", "work")
_NOTHING = json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}})
"""The machines are run by bench.aws_machine."""


@contextmanager
def emulated() -> Iterator[Emulator]:
    """Its permissions are checked, but everybody here is the account's owner."""
    emulator = start()
    try:
        yield emulator
    finally:
        emulator.stop()


@contextmanager
def mailing(*, late_s: float = 0.0) -> Iterator[str]:
    """SES's simulator: `POSTROOM_MAIL`. `late_s`: until each answer."""
    command = [sys.executable, "-m", "tests.fakes.ses_simulator", "--port", "0", "--rate", "100000", "--late", str(late_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().partition("=")[2].strip().strip("'")
        finally:
            process.terminate()


@contextmanager
def searching() -> Iterator[str]:
    """A server that answers as OpenSearch does: its address."""
    package = importlib.util.find_spec("osmem_server")
    assert package is not None
    assert package.origin is not None
    command = [str(Path(package.origin).parent / "bin" / "osmem-server"), "-no-ja", "-addr", "127.0.0.1:0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            yield str(json.loads(process.stdout.readline())["url"])
        finally:
            process.terminate()


def installed(emulator: Emulator) -> dict[str, str]:
    """A stack's engines in an account of its own, and the environment of a function there."""
    account = emulator.account()
    number = str(account.access_key)
    _make(emulator, account, number)
    return {
        "AWS_ACCESS_KEY_ID": number,
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": emulator.endpoint,
        "AWS_LAMBDA_FUNCTION_NAME": f"{NAME}-function",
        "POWERTOOLS_TRACE_DISABLED": "true",
        "POSTROOM_PLATFORM": "aws",
        "POSTROOM_AWS_TABLE": NAME,
        "POSTROOM_AWS_BUCKET": f"{NAME}-{number}",
        "POSTROOM_AWS_QUEUES": f"arn:aws:sqs:{REGION}:{number}:{NAME}-",
        "POSTROOM_AWS_KEY": account.kms().create_key()["KeyMetadata"]["Arn"],
        "POSTROOM_AWS_MACHINES": f"arn:aws:states:{REGION}:{number}:stateMachine:{NAME}-",
        "POSTROOM_AWS_SCHEDULES": NAME,
        "POSTROOM_AWS_SCHEDULE_ROLE": f"arn:aws:iam::{number}:role/{NAME}",
        "POSTROOM_PUBLIC_URL": "https://mail.example.com",
    }


def _make(emulator: Emulator, account: AwsAccount, number: str) -> None:
    session = boto3.Session(number, "test", region_name=REGION)
    sqs = session.client("sqs", endpoint_url=emulator.endpoint)
    states = session.client("stepfunctions", endpoint_url=emulator.endpoint)
    iam = session.client("iam", endpoint_url=emulator.endpoint)
    make_table(account.dynamodb(), NAME)
    make_bucket(account.s3(), f"{NAME}-{number}")
    for queue in _QUEUES:
        sqs.create_queue(QueueName=f"{NAME}-d-{queue}")
        dead = {"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{number}:{NAME}-d-{queue}", "maxReceiveCount": 5}
        sqs.create_queue(QueueName=f"{NAME}-q-{queue}", Attributes={"RedrivePolicy": json.dumps(dead)})
    trust = {"Effect": "Allow", "Principal": {"Service": "states.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = iam.create_role(RoleName=NAME, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}))
    for machine in _MACHINES:
        states.create_state_machine(name=f"{NAME}-{machine}", definition=_NOTHING, roleArn=role["Role"]["Arn"])
