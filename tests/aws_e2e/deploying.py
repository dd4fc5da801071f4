"""A cloud assembly into an account, as `cdk deploy` does it: assets into the bootstrap bucket, then stack by stack.

What `cdk bootstrap` makes is made first: the bucket, and the parameter that says which version of it is there.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import boto3

_VERSION = "30"
"""Of the bootstrap stack: templates demand at least some version."""
_DEADLINE_S = 120
_DONE = "CREATE_COMPLETE"
_OVER = {_DONE, "CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED"}


@dataclass(frozen=True, slots=True)
class Deployed:
    """What there is now."""

    outputs: Mapping[str, Mapping[str, str]]
    """By stack, then by name."""

    def output(self, name: str) -> str:
        """The one of that name, of whichever stack."""
        (found,) = (value for values in self.outputs.values() for key, value in values.items() if key == name)
        return found


class Assembly:
    """What `app.synth()` wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._artifacts: dict[str, Any] = json.loads((folder / "manifest.json").read_text())["artifacts"]

    def stacks(self) -> list[str]:
        """Artifact ids, each after those it needs."""
        kinds = {name: artifact["type"] for name, artifact in self._artifacts.items()}
        needs = {name: self._artifacts[name].get("dependencies", []) for name in kinds}
        ordered = TopologicalSorter(needs).static_order()
        return [name for name in ordered if kinds.get(name) == "aws:cloudformation:stack"]

    def name(self, stack: str) -> str:
        """What it is called in the account."""
        properties = self._artifacts[stack]["properties"]
        return str(properties.get("stackName", stack))

    def template(self, stack: str) -> dict[str, Any]:
        """As it was synthesized."""
        found: dict[str, Any] = json.loads((self.folder / self._artifacts[stack]["properties"]["templateFile"]).read_text())
        return found

    def files(self, stack: str) -> Iterator[tuple[Path, bool, Mapping[str, str]]]:
        """Each asset: where it is, whether it is to be zipped, and where it goes."""
        described = json.loads((self.folder / f"{stack}.assets.json").read_text())
        for asset in described["files"].values():
            source = asset["source"]
            for destination in asset["destinations"].values():
                yield self.folder / source["path"], source["packaging"] == "zip", destination


def deploy(session: boto3.Session, endpoint: str, assembly: Assembly, *, without: frozenset[str] = frozenset()) -> Deployed:
    """All stacks but those named; an `AssertionError` with the reasons when one cannot be made."""
    account = session.client("sts", endpoint_url=endpoint).get_caller_identity()["Account"]
    place = {"${AWS::AccountId}": account, "${AWS::Region}": str(session.region_name), "${AWS::Partition}": "aws"}
    session.client("ssm", endpoint_url=endpoint).put_parameter(
        Name="/cdk-bootstrap/hnb659fds/version", Value=_VERSION, Type="String", Overwrite=True
    )
    deploying = _Deploying(session, endpoint, place)
    stacks = [stack for stack in assembly.stacks() if assembly.name(stack) not in without]
    return Deployed({assembly.name(stack): deploying.stack(assembly, stack) for stack in stacks})


class _Deploying:
    def __init__(self, session: boto3.Session, endpoint: str, place: Mapping[str, str]) -> None:
        self._s3 = session.client("s3", endpoint_url=endpoint)
        self._cloudformation = session.client("cloudformation", endpoint_url=endpoint)
        self._place = place
        self._endpoint = endpoint
        self._buckets: set[str] = set()

    def stack(self, assembly: Assembly, stack: str) -> Mapping[str, str]:
        """Its outputs, once it stands."""
        url = None
        for path, zipped, destination in assembly.files(stack):
            where = self._put(_zip(path) if zipped else path.read_bytes(), destination)
            if path.name == f"{stack}.template.json":
                url = where
        assert url is not None, f"the assembly of {stack} does not say where its template goes"
        name = assembly.name(stack)
        capabilities: Any = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
        self._cloudformation.create_stack(StackName=name, TemplateURL=url, Capabilities=capabilities)
        return self._made(name)

    def _put(self, content: bytes, destination: Mapping[str, str]) -> str:
        bucket, key = self._placed(destination["bucketName"]), destination["objectKey"]
        if bucket not in self._buckets:
            self._s3.create_bucket(Bucket=bucket)
            self._buckets.add(bucket)
        self._s3.put_object(Bucket=bucket, Key=key, Body=content)
        return f"{self._endpoint}/{bucket}/{key}"

    def _placed(self, text: str) -> str:
        for name, value in self._place.items():
            text = text.replace(name, value)
        return text

    def _made(self, name: str) -> Mapping[str, str]:
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            (stack,) = self._cloudformation.describe_stacks(StackName=name)["Stacks"]
            if stack["StackStatus"] in _OVER:
                break
            assert time.monotonic() < deadline, f"stack {name} is {stack['StackStatus']} after {_DEADLINE_S} s"
            time.sleep(0.1)
        assert stack["StackStatus"] == _DONE, f"stack {name}: {self._reasons(name)}"
        return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}

    def _reasons(self, name: str) -> list[str]:
        events = self._cloudformation.describe_stack_events(StackName=name)["StackEvents"]
        return [
            f"{event.get('LogicalResourceId')} ({event.get('ResourceType')}): {event['ResourceStatusReason']}"
            for event in reversed(events)
            if event.get("ResourceStatus", "").endswith("FAILED") and event.get("ResourceStatusReason")
        ]


def _zip(path: Path) -> bytes:
    if path.is_file():
        return path.read_bytes()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(path))
    return content.getvalue()
