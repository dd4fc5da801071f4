"""Workflows in Step Functions: what a kill or a failed machine leaves is mended by whoever looks next; with real machines too."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import boto3
import pytest

from postroom.platform.aws.workflows import StepWorkflows
from postroom.platform.ports.workflows import ExecutionStatus
from tests.contract.aws_backend import AwsBackend
from tests.contract.steps_backend import MACHINES, Machines, open_backend

INPUT = '["default","abc"]'
_WAITING = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 600, "End": True}}}
_FAILING = {"StartAt": "Fail", "States": {"Fail": {"Type": "Fail", "Error": "Broken", "Cause": "on purpose"}}}


@pytest.fixture
def steps(request: pytest.FixtureRequest) -> Iterator[tuple[StepWorkflows, Machines]]:
    with open_backend(request) as backend:
        yield backend.workflows(), backend.machines


def test_an_order_tells_the_machine_what_it_is_about(steps: tuple[StepWorkflows, Machines]) -> None:
    workflows, machines = steps
    workflows.start("import", "abc", INPUT)
    ((arn, order),) = machines.orders.items()
    assert arn == MACHINES.replace(":stateMachine:", ":execution:") + "import:abc-1"
    assert order == {"workflow": "import", "execution": "abc", "run": 1, "input": INPUT}


def test_workflows_without_a_machine_of_their_own_run_on_the_one_for_work(steps: tuple[StepWorkflows, Machines]) -> None:
    workflows, machines = steps
    workflows.start("change", "abc", INPUT)
    (arn,) = machines.runs
    assert arn.endswith(":execution:test-work:abc-1")


def test_a_record_whose_machine_was_never_started_is_mended_by_the_next_look(
    steps: tuple[StepWorkflows, Machines], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two."""
    workflows, machines = steps
    with monkeypatch.context() as patch:
        patch.setattr(machines, "start_execution", _killed)
        with pytest.raises(KeyboardInterrupt):
            workflows.start("send", "abc", INPUT)
    assert not machines.runs
    assert not workflows.restart("send", "abc", INPUT), "it is running already"
    assert list(machines.runs.values()) == ["RUNNING"]


def test_a_machine_that_failed_is_run_anew_by_the_next_look(steps: tuple[StepWorkflows, Machines]) -> None:
    workflows, machines = steps
    workflows.start("send", "abc", INPUT)
    (arn,) = machines.runs
    machines.runs[arn] = "FAILED"
    assert workflows.restart("send", "abc", INPUT)
    assert list(machines.runs.values()) == ["FAILED", "RUNNING"]
    assert [execution.execution for execution in workflows.running("send")] == ["abc"]


def test_what_ended_before_its_time_is_begun_anew_and_what_ended_is_not(steps: tuple[StepWorkflows, Machines]) -> None:
    """By whoever listed it while it ran."""
    workflows, machines = steps
    for execution in ("failed", "ended", "stopped", "alive"):
        workflows.start("change", execution, INPUT)
    machines.runs[next(arn for arn in machines.runs if arn.endswith(":failed-1"))] = "FAILED"
    seen = [each.execution for each in workflows.running("change")]
    workflows.end("change", "ended", 1, ExecutionStatus.SUCCEEDED, None)
    workflows.stop("change", "stopped", "withdrawn")
    assert {execution: workflows.revive("change", execution) for execution in seen} == {
        "failed": True,
        "ended": False,
        "stopped": False,
        "alive": False,
    }
    assert sorted(each.execution for each in workflows.running("change")) == ["alive", "failed"]
    assert sorted(arn.rpartition(":")[2] for arn, state in machines.runs.items() if state == "RUNNING") == [
        "alive-1",
        "ended-1",
        "failed-2",
    ]


def test_the_end_of_an_older_run_ends_nothing(steps: tuple[StepWorkflows, Machines]) -> None:
    workflows, _ = steps
    workflows.start("send", "abc", INPUT)
    workflows.end("send", "abc", 1, ExecutionStatus.SUCCEEDED, None)
    workflows.restart("send", "abc", INPUT)
    workflows.end("send", "abc", 1, ExecutionStatus.FAILED, "late")
    found = workflows.get("send", "abc")
    assert found is not None
    assert found.status is ExecutionStatus.RUNNING


def test_stopping_stops_the_machine(steps: tuple[StepWorkflows, Machines]) -> None:
    workflows, machines = steps
    workflows.start("send", "abc", INPUT)
    workflows.stop("send", "abc", "paused")
    assert list(machines.runs.values()) == ["ABORTED"]
    assert workflows.running("send") == []


def test_stopping_what_ended_unheard_is_harmless(steps: tuple[StepWorkflows, Machines]) -> None:
    """Its machine failed, or is forgotten: a campaign can be deleted all the same."""
    workflows, machines = steps
    for name, state in {"abc": "FAILED", "def": None}.items():
        workflows.start("send", name, INPUT)
        arn = next(arn for arn in machines.runs if f":{name}-" in arn)
        if state is None:
            del machines.runs[arn]
        else:
            machines.runs[arn] = state
        workflows.stop("send", name, "deleted")
    assert workflows.running("send") == []


def test_with_real_machines(backend: AwsBackend) -> None:
    """Started once whoever asks; one that failed begins anew; one that is stopped is."""
    role = _role(backend)
    with closing(backend.account.stepfunctions()) as client:
        for name, definition in {"send": _FAILING, "import": _WAITING}.items():
            client.create_state_machine(name=f"test-{name}", definition=json.dumps(definition), roleArn=role)
        arn = client.list_state_machines()["stateMachines"][0]["stateMachineArn"]
        workflows = StepWorkflows(client, backend.tables(), backend.clock, machines=arn.rpartition("-")[0] + "-")
        assert workflows.start("import", "abc", INPUT)
        assert not workflows.start("import", "abc", INPUT)
        assert not workflows.restart("import", "abc", INPUT)
        assert workflows.start("send", "abc", INPUT)
        _until(lambda: workflows.restart("send", "abc", INPUT))
        workflows.stop("import", "abc", "enough")
        listed = {
            machine: [
                run["name"] + " " + run["status"]
                for run in client.list_executions(stateMachineArn=f"{arn.rpartition('-')[0]}-{machine}")["executions"]
            ]
            for machine in ("import", "send")
        }
    assert listed["import"] == ["abc-1 ABORTED"]
    assert "abc-2" in " ".join(listed["send"])


def _role(backend: AwsBackend) -> str:
    account = backend.account
    session = boto3.Session(account.access_key, account.secret_key, region_name=account.region)
    with closing(session.client("iam", endpoint_url=account.endpoint)) as client:
        made = client.create_role(RoleName="machines", AssumeRolePolicyDocument="{}")
    return str(made["Role"]["Arn"])


def _killed(**_: Any) -> None:
    raise KeyboardInterrupt


def _until(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
