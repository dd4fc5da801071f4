"""AWS's rules (cdk-nag, AwsSolutions) that are not followed, each where it is not, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import aws_cdk as cdk
from constructs import Construct, IConstruct

_PUSHES_LOGS: Final = "arn:<AWS::Partition>:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"
_REASONS: Final[Mapping[str, Mapping[str, str]]] = {
    "Identity/People": {
        "AwsSolutions-COG2": "A second factor is offered to everybody; who must have one is the operator's to say.",
        "AwsSolutions-COG8": "Threat protection costs by the person; the pool has few people, and no sign-up.",
    },
    "Search/Domain": {
        "AwsSolutions-OS3": "Every request has to be signed by a role of this account, and comes from inside the network.",
        "AwsSolutions-OS4": "Dedicated masters are for production, which has three.",
        "AwsSolutions-OS9[LogExport::SEARCH_SLOW_LOGS]": "Slow logs repeat what people searched for.",
        "AwsSolutions-OS9[LogExport::INDEX_SLOW_LOGS]": "The index holds nothing that cannot be made again.",
    },
    "Search/Network": {"AwsSolutions-VPC7": "The flow log stands in the stack Records."},
    "Api/Api": {"AwsSolutions-APIG2": "The validator stands in the description that the API is built from."},
    "Api/Api/CloudWatchRole": {
        f"AwsSolutions-IAM4[Policy::{_PUSHES_LOGS}]": "API Gateway asks for this very policy, to write logs."
    },
    "Api/Api/DeploymentStage": {"AwsSolutions-APIG3": "WAF stands before it in a stack of its own, Waf."},
    "Pipeline/Lost-functions": {"AwsSolutions-SQS3": "It is a queue of dead letters."},
    "Pipeline/Lost-stream": {"AwsSolutions-SQS3": "It is a queue of dead letters."},
    "Data/AccessLogs": {"AwsSolutions-S1": "It is where access logs go."},
    "Operations/Console": {
        "AwsSolutions-CFR1": "People sign in from anywhere.",
        "AwsSolutions-CFR2": "It serves files that are public; what they call stands behind WAF.",
        "AwsSolutions-CFR4": "CloudFront's own certificate, until the console has a domain.",
    },
}
_ON_FUNCTIONS: Final = {
    "AwsSolutions-L1": "Functions run the Python that their code was compiled by.",
}
_CODE_DEPLOY: Final = "arn:<AWS::Partition>:iam::aws:policy/service-role/AWSCodeDeployRoleForLambdaLimited"
_ON_ROLLOUTS: Final = {
    f"AwsSolutions-IAM4[Policy::{_CODE_DEPLOY}]": "It is the least that CodeDeploy's deployments of functions work with."
}
_ON_ALIASES: Final = {"CloudFormation-Validate::W3694": "A topic may call an alias of a function as well as the function."}
_ON_MACHINES: Final = {
    "AwsSolutions-SF1": "What went wrong is logged; every step of a million messages would cost more than they do."
}

_KNOWS_NONE: Final = "tracing, log delivery, streams' lists, SES's limits and network interfaces know no resource"
_TOKENS: Final = {cdk.Aws.PARTITION: "Partition", cdk.Aws.REGION: "Region", cdk.Aws.ACCOUNT_ID: "AccountId"}


def acknowledge(app: cdk.App) -> None:
    """All of them."""
    for path, rules in _REASONS.items():
        found = _at(app, path)
        if found is not None:
            _because(found, rules)
    marks = {"Function-": _ON_FUNCTIONS, "Machine-": _ON_MACHINES, "Rollout-": _ON_ROLLOUTS, "Live-alarms": _ON_ALIASES}
    for construct in app.node.find_all():
        for mark, rules in marks.items():
            if construct.node.id.startswith(mark):
                _because(construct, rules)


def allow_wildcards(role: Construct, resources: Iterable[str]) -> None:
    """Those of a role, one by one: each stands for what has no name yet, or for an action that knows no resource."""
    for resource in {each for each in resources if "*" in each}:
        shown = resource
        for token, name in _TOKENS.items():
            shown = shown.replace(token, f"<AWS::{name}>")
        reason = _KNOWS_NONE if resource == "*" else "it stands for tenants, executions, schedules or log streams to come"
        _because(role, {f"AwsSolutions-IAM5[Resource::{shown}]": reason})


def _at(app: cdk.App, path: str) -> IConstruct | None:
    """The construct there; a stage's name may follow the last word."""
    found: IConstruct | None = app
    for word in path.split("/"):
        children = found.node.children if found is not None else []
        found = next((child for child in children if child.node.id.partition(".")[0] == word), None)
    return found


def _because(construct: IConstruct, rules: Mapping[str, str]) -> None:
    assert isinstance(construct, Construct)
    said = [cdk.Acknowledgment(id=rule, reason=reason) for rule, reason in rules.items()]
    cdk.Validations.of(construct).acknowledge(*said)
