"""Careful roll-outs: a new version of a function gets a tenth of its calls for five minutes, then all; an alarm in between brings
the version before back, by CodeDeploy and without a person."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_codedeploy as codedeploy
from aws_cdk import aws_lambda as lambda_
from constructs import Construct


def add_rollout(scope: Construct, name: str, aliases: Mapping[str, lambda_.Alias]) -> None:
    """`aliases`, of the same stack, by the functions' names."""
    application = codedeploy.LambdaApplication(scope, "Rollouts", application_name=name)
    for function, alias in aliases.items():
        codedeploy.LambdaDeploymentGroup(
            scope,
            f"Rollout-{function}",
            application=application,
            alias=alias,
            deployment_config=codedeploy.LambdaDeploymentConfig.CANARY_10_PERCENT_5_MINUTES,
            alarms=[_failing(scope, function, alias)],
            auto_rollback=codedeploy.AutoRollbackConfig(
                failed_deployment=True, stopped_deployment=True, deployment_in_alarm=True
            ),
        )


def _failing(scope: Construct, name: str, alias: lambda_.Alias) -> cloudwatch.Alarm:
    """Any error of the version that is being rolled out, at once: the old one has none."""
    errors = alias.metric_errors(period=Duration.minutes(1), statistic="Sum")
    return cloudwatch.Alarm(
        scope,
        f"New-{name}",
        alarm_description=f"a new version of {name} fails while it is rolled out: it is taken back",
        metric=errors,
        threshold=2,
        evaluation_periods=1,
        comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
        treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
    )
