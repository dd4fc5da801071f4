"""The stacks of one stage, in the order they need each other: `python -m infra.app`, by the CDK's own variables."""

from __future__ import annotations

import aws_cdk as cdk
from cdk_nag import AwsSolutionsChecks

from infra.api import Api
from infra.data import Data
from infra.identity import Identity
from infra.names import Names
from infra.operations.records import Records
from infra.operations.stack import Operations
from infra.operations.waf import Waf
from infra.permissions import Grounds
from infra.pipeline import Pipeline
from infra.rules import acknowledge
from infra.search import Search
from infra.stage import Stage


def stacks(app: cdk.App, stage: Stage) -> None:
    """All of them."""
    data = Data(app, "Data", stage)
    identity = Identity(app, "Identity", stage)
    search = Search(app, "Search", stage, key=data.key) if stage.search else None
    grounds = Grounds(Names(stage), data.key.key_arn, identity.pool.user_pool_arn)
    environment = _settings(stage, data, identity, search)
    api = Api(app, "Api", stage, grounds=grounds, environment=environment)
    pipeline = Pipeline(
        app,
        "Pipeline",
        stage,
        grounds=grounds,
        environment=api.settings,
        table=data.table,
        queues=data.queues,
        network=search.network if search else None,
        callers=search.callers if search else None,
    )
    Operations(
        app,
        "Operations",
        stage,
        key=data.key,
        logs=data.logs,
        aliases={**api.lambdas.aliases, **pipeline.lambdas.aliases},
        api_url=api.url,
    )
    Records(app, "Records", stage, logs=data.logs, network=search.network if search else None)
    Waf(app, "Waf", stage, api_id=api.api.rest_api_id)


def _settings(stage: Stage, data: Data, identity: Identity, search: Search | None) -> dict[str, str]:
    """What functions are told, and the command line after a deployment."""
    names = Names(stage)
    told = {
        "platform": "aws",
        "aws_table": names.table,
        "aws_bucket": names.bucket,
        "aws_queues": names.queues_arn,
        "aws_key": data.key.key_arn,
        "aws_machines": names.machines_arn,
        "aws_schedules": names.schedules,
        "aws_schedule_role": names.schedule_role_arn,
        "mail": f"ses://{cdk.Aws.REGION}?configuration_set={stage.prefix}",
    }
    for name, value in told.items():
        cdk.CfnOutput(data, f"Setting{name.title().replace('_', '')}", value=value)
    environment = {f"POSTROOM_{name.upper()}": value for name, value in told.items()}
    environment |= {
        "POSTROOM_AWS_USER_POOL": identity.pool.user_pool_id,
        "POSTROOM_ISSUER": identity.issuer,
        "POSTROOM_AUDIENCE": identity.audience,
    }
    if stage.pagerduty:
        environment["POSTROOM_AWS_PAGERDUTY"] = names.pagerduty
    return environment | ({"POSTROOM_AWS_SEARCH": search.url} if search else {})


def main() -> None:
    """As the context says."""
    app = cdk.App()
    stage = Stage.of(app.node.try_get_context)
    stacks(app, stage)
    cdk.Tags.of(app).add("postroom:stage", stage.stage)
    acknowledge(app)
    if not app.node.try_get_context("unchecked"):
        cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    app.synth()


if __name__ == "__main__":
    main()
