"""The API: API Gateway built from the application's own description, who may pass it, and the functions behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.functions import API, DOOR
from infra.lambdas import Lambdas, retention
from infra.names import Names
from infra.openapi import BINARY, description
from infra.operations.rollout import add_rollout
from infra.permissions import Grounds
from infra.refusals import refusals
from infra.stage import Stage

_KNOWN_S = 60
"""Seconds for which API Gateway caches the authorizer's answer: a revoked credential stops working within a minute."""
_WAIT_MS = 29_000
_USAGE = "usage"


class Api(cdk.Stack):
    """The REST API with its authorizer and usage plan."""

    def __init__(
        self, scope: Construct, id_: str, stage: Stage, *, grounds: Grounds, environment: Mapping[str, str], **settings: Any
    ) -> None:
        super().__init__(scope, id_, stack_name=f"{stage.prefix}-api", **settings)
        self._stage, self._names = stage, Names(stage)
        self.api = apigateway.SpecRestApi(
            self,
            "Api",
            rest_api_name=stage.prefix,
            api_definition=apigateway.ApiDefinition.from_inline(self._description()),
            endpoint_types=[apigateway.EndpointType.REGIONAL],
            policy=self._policy(),
            cloud_watch_role=True,  # an account's first API needs it, or no stage may log
            cloud_watch_role_removal_policy=cdk.RemovalPolicy.RETAIN,
            deploy=True,
            deploy_options=self._deployment(),
        )
        bare: Any = self.api.node.default_child
        bare.binary_media_types = BINARY  # in the description as well; an emulator reads only this
        self.url = f"https://{self.api.rest_api_id}.execute-api.{self.region}.{cdk.Aws.URL_SUFFIX}/{stage.stage}"
        self.settings = {**environment, "POSTROOM_API_URL": self.url, "POSTROOM_PUBLIC_URL": self.url}
        self.lambdas = Lambdas(self, stage, grounds, self.settings)
        for function in (*API, *DOOR):
            more = {"POSTROOM_AWS_USAGE_KEY": self._usage_key} if stage.counted and function.name == "authorizer" else None
            self._let_in(self.lambdas.make(function, more=more), function.name)
        self._plan()
        if stage.careful:
            add_rollout(self, f"{stage.prefix}-api", self.lambdas.aliases)
        cdk.CfnOutput(self, "ApiUrl", value=self.url)
        cdk.CfnOutput(self, "SettingApiUrl", value=self.url)
        cdk.CfnOutput(self, "SettingPublicUrl", value=self.url)

    @property
    def _usage_key(self) -> str:
        """No secret: API Gateway takes it from the authorizer alone."""
        return f"{self._stage.prefix}-callers-{cdk.Aws.ACCOUNT_ID}"

    def _description(self) -> dict[str, Any]:
        told = self._described()
        told["x-amazon-apigateway-gateway-responses"] = refusals()
        if self._stage.counted:
            told["x-amazon-apigateway-api-key-source"] = "AUTHORIZER"
            told["components"]["securitySchemes"][_USAGE] = {"type": "apiKey", "name": "x-api-key", "in": "header"}
            for operation in (operation for item in told["paths"].values() for operation in item.values()):
                if "security" in operation:
                    operation["security"] = [{**operation["security"][0], _USAGE: []}]
        return told

    def _described(self) -> dict[str, Any]:
        return description(
            self._integration,
            {
                "type": "apiKey",
                "name": "Authorization",
                "in": "header",
                "x-amazon-apigateway-authtype": "custom",
                "x-amazon-apigateway-authorizer": {
                    "type": "token",
                    "authorizerUri": self._uri("authorizer"),
                    "authorizerResultTtlInSeconds": _KNOWN_S,
                },
            },
            title=self._stage.prefix,
        )

    def _integration(self, function: str) -> dict[str, Any]:
        return {
            "type": "aws_proxy",
            "httpMethod": "POST",
            "uri": self._uri(function),
            "passthroughBehavior": "when_no_match",
            "timeoutInMillis": _WAIT_MS,
        }

    def _uri(self, function: str) -> str:
        """By name: the function needs the API's address, so the API cannot need the function."""
        where = f"arn:{cdk.Aws.PARTITION}:apigateway:{cdk.Aws.REGION}:lambda:path/2015-03-31/functions"
        return f"{where}/{self._names.function_arn(function)}/invocations"

    def _policy(self) -> iam.PolicyDocument:
        """Everybody may knock; who may come in, the authorizer says."""
        everybody = iam.PolicyStatement(
            actions=["execute-api:Invoke"], principals=[iam.AnyPrincipal()], resources=["execute-api:/*"]
        )
        return iam.PolicyDocument(statements=[everybody])

    def _deployment(self) -> apigateway.StageOptions:
        log = logs.LogGroup(
            self,
            "AccessLog",
            log_group_name=f"/{self._stage.prefix}/api",
            retention=retention(self._stage.log_days),
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        return apigateway.StageOptions(
            stage_name=self._stage.stage,
            tracing_enabled=True,
            metrics_enabled=True,
            logging_level=apigateway.MethodLoggingLevel.ERROR,
            data_trace_enabled=False,  # bodies are people's
            access_log_destination=apigateway.LogGroupLogDestination(log),
            access_log_format=apigateway.AccessLogFormat.json_with_standard_fields(
                caller=False, http_method=True, ip=True, protocol=True, request_time=True, resource_path=True,
                response_length=True, status=True, user=False,
            ),
            throttling_rate_limit=self._stage.rate,
            throttling_burst_limit=self._stage.burst,
        )  # fmt: skip

    def _let_in(self, alias: lambda_.Alias, name: str) -> None:
        lambda_.CfnPermission(
            self,
            f"Invoke-{name}",
            action="lambda:InvokeFunction",
            function_name=alias.function_arn,
            principal="apigateway.amazonaws.com",
            source_arn=self._calls_from(name),
        )

    def _calls_from(self, name: str) -> str:
        """API Gateway asks an authorizer in the name of that, and calls others in the name of their methods."""
        if name != "authorizer":
            return self.api.arn_for_execute_api()
        return self._names.arn("execute-api", f"{self.api.rest_api_id}/authorizers/*")

    def _plan(self) -> None:
        """What a program may call, all in all; what a tenant may, the application knows."""
        plan = self.api.add_usage_plan(
            "Plan",
            name=self._stage.prefix,
            throttle=apigateway.ThrottleSettings(rate_limit=self._stage.rate, burst_limit=self._stage.burst),
            api_stages=[apigateway.UsagePlanPerApiStage(api=self.api, stage=self.api.deployment_stage)],
        )
        if self._stage.counted:
            plan.add_api_key(self.api.add_api_key("Callers", api_key_name=f"{self._stage.prefix}-callers", value=self._usage_key))
