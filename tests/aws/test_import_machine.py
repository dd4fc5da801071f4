"""The state machine `import`, run: every function of it killed once after its work, and what it does with a step that always fails."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from postroom.ledger import scheduler_messages
from postroom.ledger.campaigns import Campaigns
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus, Import
from postroom.platform.ports.objects import Objects
from tests.aws import import_functions
from tests.contract.aws_backend import TABLE, AwsBackend
from tests.fakes.campaigns import campaign_record, campaign_spec

ROOT = Path(__file__).resolve().parents[2]
MACHINE = ROOT / "infra" / "machines" / "import.asl.json"
HANDLERS = {"Plan": "plan", "Range": "range_", "Reduce": "reduce", "Finish": "finish", "Failed": "failed"}
UPLOAD = "default/uploads/people"
ROWS = 1_100


class Stack:
    """Functions and the machine in an account, and a campaign that is importing."""

    def __init__(self, backend: AwsBackend, broken: str | None = None) -> None:
        self.backend = backend
        self.objects: Objects = backend.objects()
        account = backend.account
        self._session = boto3.Session(account.access_key, account.secret_key, region_name=account.region)
        self._prefix = f"arn:aws:sqs:{account.region}:{account.access_key}:test-"
        backend.queues().depth(scheduler_messages.SCHEDULER_QUEUE)
        self._role = self._make_role()
        functions = {name: self._make_function(name, "broken" if name == broken else of) for name, of in HANDLERS.items()}
        self._machine = self._make_machine(functions)
        self.campaigns = Campaigns(backend.tables(), backend.clock)
        self.campaign_ref = self._make_campaign()

    def _client(self, service: str) -> Any:
        return self._session.client(service, endpoint_url=self.backend.account.endpoint)  # type: ignore[call-overload]

    def _make_role(self) -> str:
        iam = self._client("iam")
        anybody = {
            "Effect": "Allow",
            "Principal": {"Service": ["lambda.amazonaws.com", "states.amazonaws.com"]},
            "Action": "sts:AssumeRole",
        }
        trust = {"Version": "2012-10-17", "Statement": [anybody]}
        arn: str = iam.create_role(RoleName="all", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        all_of_it = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        iam.put_role_policy(RoleName="all", PolicyName="all", PolicyDocument=json.dumps(all_of_it))
        iam.close()
        return arn

    def _make_function(self, name: str, handler: str) -> str:
        client = self._client("lambda")
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.write(Path(import_functions.__file__), "import_functions.py")
        arn: str = client.create_function(
            FunctionName=f"postroom-test-import-{name.lower()}",
            Runtime="python3.12",
            Role=self._role,
            Handler=f"import_functions.{handler}",
            Code={"ZipFile": content.getvalue()},
            Timeout=60,
            Environment={"Variables": self._environment()},
        )["FunctionArn"]
        client.close()
        return arn

    def _environment(self) -> dict[str, str]:
        return {
            "POSTROOM_PLATFORM": "aws",
            "POSTROOM_AWS_TABLE": TABLE,
            "POSTROOM_AWS_BUCKET": self._bucket,
            "POSTROOM_AWS_QUEUES": self._prefix,
            "POWERTOOLS_TRACE_DISABLED": "true",
        }

    @property
    def _bucket(self) -> str:
        return f"postroom-objects-{self.backend.account.access_key}"

    def _make_machine(self, functions: Mapping[str, str]) -> str:
        definition = MACHINE.read_text().replace("${Bucket}", self._bucket)
        for name, arn in functions.items():
            definition = definition.replace(f"${{Import{name}}}", arn)
        assert "${" not in definition
        quick = json.loads(definition, object_hook=_hasty)
        client = self._client("stepfunctions")
        made = client.create_state_machine(name="postroom-test-import", roleArn=self._role, definition=json.dumps(quick))
        client.close()
        return str(made["stateMachineArn"])

    def _make_campaign(self) -> CampaignRef:
        lines = [f"user{number % 1_000}@x.example" if number % 11 else f"bad {number}" for number in range(ROWS)]
        self.objects.put(UPLOAD, ("email\n" + "\n".join(lines)).encode())
        ref = self.campaigns.new_ref("default")
        source = Import(UPLOAD, "people.csv")
        draft = campaign_record(
            ref, CampaignStatus.DRAFT, self.backend.clock.now(), spec=campaign_spec(provider="inbox:"), source=source
        )
        self.campaigns.transition(self.campaigns.create(draft), CampaignStatus.IMPORTING)
        return ref

    def run(self) -> str:
        """The machine's own state at its end."""
        ref = self.campaign_ref
        order = {"workflow": "import", "execution": ref.campaign, "run": 1, "input": scheduler_messages.ref_input(ref)}
        client = self._client("stepfunctions")
        arn = client.start_execution(stateMachineArn=self._machine, name=f"{ref.campaign}-1", input=json.dumps(order))[
            "executionArn"
        ]
        deadline = time.monotonic() + 120
        while (status := client.describe_execution(executionArn=arn)["status"]) == "RUNNING":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        client.close()
        return str(status)

    def ended(self) -> str:
        return self.objects.get(f"ended/{self.campaign_ref.campaign}").decode()

    @property
    def campaign(self) -> Campaign:
        return self.campaigns.get(self.campaign_ref)


def _hasty(part: dict[str, Any]) -> dict[str, Any]:
    """The same, but without long waits between attempts, and with one more of them alone."""
    return part | {"IntervalSeconds": 1, "MaxAttempts": 1} if "IntervalSeconds" in part else part


def test_an_import_whose_every_function_is_killed_once_comes_to_its_exact_end(backend: AwsBackend) -> None:
    stack = Stack(backend)
    assert stack.run() == "SUCCEEDED"
    source = stack.campaign.source
    assert stack.campaign.status is CampaignStatus.READY
    assert (source.rows, source.invalid, source.duplicate, source.batches) == (ROWS, 100, 81, 3)
    assert backend.messages().counts(stack.campaign_ref).pending == ROWS - 181
    assert source.rejected_key is not None
    lines = [int(row.split(",")[0]) for row in stack.objects.get(source.rejected_key).decode().splitlines()[1:]]
    assert lines == sorted(lines)
    assert len(lines) == 181
    assert stack.ended() == "import 1 succeeded None"
    killed = {info.key.split("/")[-1] for info in stack.objects.list("killed/").objects}
    ranges, groups = {f"range_-{number}" for number in range(4)}, {f"reduce-{number}" for number in range(3)}
    assert killed == {"plan-", "finish-", *ranges, *groups}
    left = [info.key for info in stack.objects.list(f"default/campaigns/{stack.campaign_ref.campaign}/import/").objects]
    assert [key for key in left if "/suppressed/" not in key] == []
    (note,) = {received.body for received in backend.queues().receive(scheduler_messages.SCHEDULER_QUEUE, limit=10)}
    assert scheduler_messages.SchedulerMessage.parse(note).ref == stack.campaign_ref


@pytest.mark.parametrize("broken", ["Plan", "Reduce"])
def test_a_step_that_always_fails_fails_the_campaign_with_what_it_said(backend: AwsBackend, broken: str) -> None:
    stack = Stack(backend, broken)
    assert stack.run() == "FAILED"
    assert stack.campaign.status is CampaignStatus.FAILED
    assert stack.campaign.reason == "The import was given up: The table is on fire."
    assert stack.ended() == f"import 1 failed {stack.campaign.reason}"
