"""The state machines `send`, `stream` and `work`, run: how they go on by what their functions answer, and when those fail."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.contract.aws_backend import AwsBackend

MACHINES = Path(__file__).resolve().parents[2] / "infra" / "machines"
LIST = "default/campaigns/abc/rounds/1.json"
ORDER = {"workflow": "send", "execution": "abc", "run": 1, "input": '["default","abc"]'}
PAST = "2026-01-01T00:00:00Z"
_SENT = {"left": 0}
# Answers with the next of a script, and notes what it was called with. `null`: it fails.
_FUNCTION = """
import json, os, boto3

def handler(event, context):
    s3, bucket = boto3.client("s3"), os.environ["BUCKET"]
    calls = s3.list_objects_v2(Bucket=bucket, Prefix=os.environ["NAME"] + "/").get("KeyCount", 0)
    key = f"{os.environ['NAME']}/{calls:04}-{context.aws_request_id}"
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(event).encode())
    script = json.loads(os.environ["SCRIPT"])
    answer = script[min(calls, len(script) - 1)]
    if answer is None or ("item" in event and event["item"] == json.loads(os.environ["HATES"])):
        raise RuntimeError("on purpose")
    print(answer)
    return answer
"""


class Stack:
    """Scripted functions, and machines over them."""

    def __init__(self, backend: AwsBackend) -> None:
        account = backend.account
        self._home = backend
        self._session = boto3.Session(account.access_key, account.secret_key, region_name=account.region)
        self.objects = backend.objects()
        self._bucket = f"postroom-objects-{account.access_key}"
        with closing(self._client("iam")) as iam:
            trusted = {"Service": ["lambda.amazonaws.com", "states.amazonaws.com"]}
            trust = {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Principal": trusted, "Action": "sts:AssumeRole"}],
            }
            self._role = iam.create_role(RoleName="all", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
            every = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
            iam.put_role_policy(RoleName="all", PolicyName="all", PolicyDocument=json.dumps(every))

    def _client(self, service: str) -> Any:
        return self._session.client(service, endpoint_url=self._home.account.endpoint)  # type: ignore[call-overload]

    def function(self, name: str, script: Sequence[dict[str, Any] | None], *, hates: object = None) -> None:
        """One that answers so, call by call, the last answer again and again; `hates`: an item that it always fails with."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("scripted.py", _FUNCTION)
        variables = {"NAME": name, "BUCKET": self._bucket, "SCRIPT": json.dumps(script), "HATES": json.dumps(hates)}
        with closing(self._client("lambda")) as client:
            client.create_function(
                FunctionName=name,
                Runtime="python3.12",
                Role=self._role,
                Handler="scripted.handler",
                Code={"ZipFile": content.getvalue()},
                Timeout=30,
                Environment={"Variables": variables},
            )

    def run(self, machine: str, seconds: float = 30) -> str:
        """How it ended."""
        definition = (MACHINES / f"{machine}.asl.json").read_text().replace("${Bucket}", self._bucket)
        for placeholder in ("SendRound", "Sender", "StreamSender", "Work"):
            definition = definition.replace(f"${{{placeholder}}}", placeholder)
        assert "${" not in definition
        quick = json.dumps(json.loads(definition, object_hook=_hasty))
        with closing(self._client("stepfunctions")) as client:
            arn = client.create_state_machine(name=f"test-{machine}", definition=quick, roleArn=self._role)["stateMachineArn"]
            execution = client.start_execution(stateMachineArn=arn, name="abc-1", input=json.dumps(ORDER))["executionArn"]
            deadline = time.monotonic() + seconds
            while (found := client.describe_execution(executionArn=execution))["status"] == "RUNNING":
                assert time.monotonic() < deadline
                time.sleep(0.05)
        print(found.get("cause"))  # where the test fails
        return str(found["status"])

    def calls(self, name: str) -> list[dict[str, Any]]:
        """What a function was called with, in order."""
        return [json.loads(self.objects.get(info.key)) for info in self.objects.list(f"{name}/").objects]


def _hasty(part: dict[str, Any]) -> dict[str, Any]:
    """The same, but without long waits between attempts, and with one more of them alone."""
    if "IntervalSeconds" in part:
        return part | {"IntervalSeconds": 1, "MaxAttempts": 1}
    return part | {"Seconds": 1} if part.get("Type") == "Wait" and "Seconds" in part else part


@pytest.fixture
def stack(backend: AwsBackend) -> Stack:
    return Stack(backend)


def looked(following: str, number: int, portions: int = 0) -> dict[str, Any]:
    return {"next": following, "list": LIST, "until": PAST, "portions": portions, "number": number}


def test_a_campaign_is_looked_at_sent_in_portions_and_looked_at_again_until_its_end(stack: Stack) -> None:
    stack.objects.put(LIST, b"[[0,2],[1]]")
    stack.function("SendRound", [looked("send", 1, 2), looked("wait", 2), looked("end", 2)])
    stack.function("Sender", [_SENT])
    assert stack.run("send") == "SUCCEEDED"
    rounds = stack.calls("SendRound")
    assert [call.get("round", {}).get("number", 0) for call in rounds] == [0, 1, 2]
    assert all(call.items() >= ORDER.items() for call in rounds)
    portions = stack.calls("Sender")
    assert sorted(call["item"] for call in portions) == [[0, 2], [1]]
    assert all(call == {**ORDER, "item": call["item"], "beside": 2} for call in portions)


def test_a_portion_that_always_fails_holds_up_no_other_and_is_left_to_the_next_look(stack: Stack) -> None:
    stack.objects.put(LIST, b"[[0],[1]]")
    stack.function("SendRound", [looked("send", 1, 2), looked("end", 1)])
    stack.function("Sender", [_SENT], hates=[0])
    assert stack.run("send") == "SUCCEEDED"
    assert sorted(call["item"] for call in stack.calls("Sender")) == [[0], [0], [1]], "tried again once, here"
    assert len(stack.calls("SendRound")) == 2


def test_a_list_that_is_gone_is_rested_upon_and_looked_for_anew(stack: Stack) -> None:
    stack.function("SendRound", [looked("send", 1, 1), looked("end", 1)])
    assert stack.run("send") == "SUCCEEDED"
    assert len(stack.calls("SendRound")) == 2


def test_a_look_that_fails_once_is_tried_again_and_one_that_always_fails_fails_the_run(stack: Stack) -> None:
    """Its record says that it is running: whoever looks next begins a new run."""
    stack.function("SendRound", [None, looked("end", 1)])
    assert stack.run("send") == "SUCCEEDED"
    stack.function("StreamSender", [None])
    assert stack.run("stream") == "FAILED"
    assert len(stack.calls("StreamSender")) == 2


def test_a_stream_is_sent_by_one_function_after_the_other(stack: Stack) -> None:
    stack.function("StreamSender", [{"next": "again"}, {"next": "again"}, {"next": "end"}])
    assert stack.run("stream") == "SUCCEEDED"
    assert all(call.items() >= ORDER.items() for call in stack.calls("StreamSender"))
    assert len(stack.calls("StreamSender")) == 3


def test_work_is_called_until_it_is_done_and_waits_when_told(stack: Stack) -> None:
    stack.function("Work", [{"next": "wait", "until": PAST}, None, {"next": "wait", "until": PAST}, {"next": "end", "until": ""}])
    assert stack.run("work") == "SUCCEEDED"
    assert len(stack.calls("Work")) == 4
