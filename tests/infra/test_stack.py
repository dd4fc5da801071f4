"""What must be true of a production stage, whoever changes its description. That AWS's rules are followed, the synthesis proves."""

from __future__ import annotations

import json
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from infra.functions import ALL, API, DOOR
from tests.infra.templates import Templates, text

_NO_RESOURCE = {"dynamodb:ListStreams", "ses:GetAccount", "xray:PutTraceSegments", "xray:PutTelemetryRecords"}
_NETWORK = "ec2:"
_LOGS = {"logs:CreateLogDelivery", "logs:PutResourcePolicy"}
_WRITES = {"dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"}


def allows(templates: Templates, action: str) -> set[str]:
    """The roles of functions that may."""
    return {each.role for each in templates.statements() if each.effect == "Allow" and action in each.actions}


def functions(*names: str) -> set[str]:
    return {f"postroom-prod-{name}" for name in names}


def test_cloudformation_takes_every_template(templates: Templates) -> None:
    words = [str(Path(sys.executable).parent / "cfn-lint"), "--ignore-checks", "W3005", "W3045", "--", *map(str, templates.files)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stdout[-3_000:]


def test_no_stack_is_near_the_number_of_resources_that_it_may_have(templates: Templates) -> None:
    for file in templates.files:
        assert len(json.loads(file.read_text("utf-8"))["Resources"]) < 400, file.name


@pytest.mark.parametrize("kind", ["AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::KMS::Key", "AWS::Cognito::UserPool"])
def test_what_holds_data_outlives_its_stack(templates: Templates, kind: str) -> None:
    for each in templates.of(kind):
        assert each.whole["DeletionPolicy"] == "Retain", each.id
        assert each.whole["UpdateReplacePolicy"] == "Retain", each.id


def test_the_table_can_be_brought_back_to_any_second_and_is_encrypted_under_our_key(templates: Templates) -> None:
    (table,) = templates.of("AWS::DynamoDB::Table")
    properties = table.properties
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["SSESpecification"]["SSEType"] == "KMS"
    assert properties["StreamSpecification"]["StreamViewType"] == "NEW_AND_OLD_IMAGES"
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}
    assert properties["DeletionProtectionEnabled"] is True
    assert properties["BillingMode"] == "PAY_PER_REQUEST"


def test_no_bucket_is_public_and_each_is_encrypted_and_asks_for_tls(templates: Templates) -> None:
    policies = {
        json.dumps(each.properties["Bucket"]): each.properties["PolicyDocument"] for each in templates.of("AWS::S3::BucketPolicy")
    }
    for bucket in templates.of("AWS::S3::Bucket"):
        assert set(bucket.properties["PublicAccessBlockConfiguration"].values()) == {True}, bucket.id
        assert bucket.properties["BucketEncryption"], bucket.id
        rules = policies[json.dumps({"Ref": bucket.id})]["Statement"]
        assert any(
            rule["Effect"] == "Deny" and rule.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}} for rule in rules
        ), bucket.id


def test_objects_have_versions_and_our_key(templates: Templates) -> None:
    (bucket,) = (each for each in templates.of("AWS::S3::Bucket") if each.id.startswith("Objects"))
    assert bucket.properties["VersioningConfiguration"] == {"Status": "Enabled"}
    (rule,) = bucket.properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert bucket.properties["LifecycleConfiguration"]["Rules"]


def test_every_queue_of_work_has_a_place_for_what_cannot_be_handled(templates: Templates) -> None:
    for queue in templates.of("AWS::SQS::Queue"):
        name = queue.properties["QueueName"]
        assert queue.properties["SqsManagedSseEnabled"] is True, name
        if name.startswith("postroom-prod-q-"):
            assert queue.properties["RedrivePolicy"]["maxReceiveCount"] == 5, name


def test_every_function_that_a_queue_wakes_has_a_most_and_answers_for_each_item(templates: Templates) -> None:
    for mapping in templates.of("AWS::Lambda::EventSourceMapping"):
        assert mapping.properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"], mapping.id
        if "ScalingConfig" not in mapping.properties:  # a stream: as many as it has shards
            assert mapping.properties["DestinationConfig"]["OnFailure"]["Destination"], mapping.id
            assert mapping.properties.get("MaximumRetryAttempts", -1) == -1, (
                "until a day is nearly over: no record fails by itself"
            )


def test_every_function_is_traced_and_has_a_log_that_ends(templates: Templates) -> None:
    made = templates.of("AWS::Lambda::Function")
    assert {each.properties["FunctionName"] for each in made} == functions(*(each.name for each in ALL))
    for function in made:
        assert function.properties["TracingConfig"] == {"Mode": "Active"}, function.id
    for log in templates.of("AWS::Logs::LogGroup"):
        assert log.properties["RetentionInDays"], log.id


def test_no_action_on_data_has_all_resources(templates: Templates) -> None:
    for each in templates.statements():
        if each.effect == "Allow" and "*" in each.resources:
            spared = _NO_RESOURCE | _LOGS
            assert {action for action in each.actions if action not in spared and not action.startswith(_NETWORK)} == set(), each


def test_no_action_is_a_wildcard(templates: Templates) -> None:
    for each in templates.statements():
        assert not any("*" in action for action in each.actions), each


def test_no_function_reads_the_whole_table_or_changes_what_it_is(templates: Templates) -> None:
    for each in templates.statements():
        assert not {"dynamodb:Scan", "dynamodb:DeleteTable", "dynamodb:UpdateTable", "dynamodb:CreateTable"} & set(
            each.actions
        ), each


def test_rows_are_told_apart_wherever_they_may_be_touched(templates: Templates) -> None:
    for each in templates.statements():
        if "dynamodb:GetItem" in each.actions:
            assert "dynamodb:LeadingKeys" in each.condition["ForAllValues:StringLike"], each


def test_only_what_sends_may_send_mail(templates: Templates) -> None:
    assert allows(templates, "ses:SendEmail") == functions("sender", "stream-sender")


def writers(templates: Templates, partition: str) -> set[str]:
    """The roles that may write rows of a partition."""
    return {
        each.role
        for each in templates.statements()
        if _WRITES & set(each.actions)
        and any(fnmatchcase(partition, key) for key in each.condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"])
    }


@pytest.mark.parametrize("partition", ["T#acme#keys", "T##keys", "T#acme#members", "T##memberships", "T#acme#access"])
def test_only_one_function_says_who_may_do_what(templates: Templates, partition: str) -> None:
    assert writers(templates, partition) == functions("access-api")


@pytest.mark.parametrize(
    ("partition", "who"),
    [
        ("T#acme#callback-secrets", {"email-api", "callback-api", "callbacks-sender", "work", "maintenance"}),
        ("T##audit-key", {"status-api", "maintenance"}),
        ("T#acme#templates", {"template-api"}),
        ("T#acme#senders", {"email-api", "work"}),
        ("R#acme", {"email-api", "send-round", "sender", "stream-sender", "work", "maintenance"}),
    ],
)
def test_rows_are_written_by_those_alone_that_keep_them(templates: Templates, partition: str, who: set[str]) -> None:
    assert writers(templates, partition) == functions(*who)


def test_no_function_may_touch_all_documents(templates: Templates) -> None:
    for each in templates.statements():
        keys = each.condition.get("ForAllValues:StringLike", {}).get("dynamodb:LeadingKeys", [])
        assert not {"*", "T*", "T#*", "T#*#*"} & set(keys), each


def test_every_role_is_small_enough_for_iam(templates: Templates) -> None:
    """10,240 characters of policies in a role, without white space."""
    for role in templates.of("AWS::IAM::Role"):
        written = [json.dumps(each["PolicyDocument"], separators=(",", ":")) for each in role.properties.get("Policies", [])]
        assert sum(map(len, written)) < 9_500, role.id


@pytest.mark.parametrize(
    ("purpose", "who"),
    [
        ("provider", {"email-api", "send-round", "sender", "stream-sender"}),
        ("callback", {"callback-api", "callbacks-sender"}),
        ("key", {"access-api"}),
        ("audit", {"status-api", "maintenance"}),
    ],
)
def test_secrets_are_opened_by_those_alone_that_need_them(templates: Templates, purpose: str, who: set[str]) -> None:
    opening = {
        each.role
        for each in templates.statements()
        if purpose in each.condition.get("StringLikeIfExists", {}).get("kms:EncryptionContext:purpose", [])
    }
    assert opening == functions(*who)


def test_whoever_loses_calls_may_write_to_where_they_go(templates: Templates) -> None:
    losing = {
        str(each.properties["FunctionName"])
        for each in templates.of("AWS::Lambda::Function")
        if "DeadLetterConfig" in each.properties
    }
    may = {
        each.role
        for each in templates.statements()
        if "sqs:SendMessage" in each.actions and any(text.endswith("-d-functions") for text in each.resources)
    }
    assert losing == functions("alarms", "maintenance") == may


@pytest.mark.parametrize("function", ["alarms", "indexer"])
def test_what_needs_no_table_has_none(templates: Templates, function: str) -> None:
    mine = [each for each in templates.statements() if each.role in functions(function)]
    assert mine
    assert not any(action.startswith("dynamodb:") and "Item" in action for each in mine for action in each.actions)


def test_only_the_api_functions_and_what_prepares_uploads_reach_uploads(templates: Templates) -> None:
    reaching = {each.role for each in templates.statements() if any("/uploads/" in resource for resource in each.resources)}
    assert functions("sender", "events", "tracking", "callbacks-sender", "authorizer").isdisjoint(reaching)


def test_whoever_calls_the_api_is_asked_who_they_are_but_for_links_and_health(templates: Templates) -> None:
    (api,) = templates.of("AWS::ApiGateway::RestApi")
    unasked = {
        path
        for path, methods in api.properties["Body"]["paths"].items()
        if any("security" not in operation for operation in methods.values())
    }
    assert unasked == {"/healthz", "/readyz", "/openapi.json", "/problems/{word}", "/t/o/{token}", "/t/c/{token}", "/u/{token}"}


def test_the_api_is_logged_traced_throttled_and_checks_requests(templates: Templates) -> None:
    (stage,) = templates.of("AWS::ApiGateway::Stage")
    (settings,) = stage.properties["MethodSettings"]
    assert settings["ThrottlingRateLimit"] > 0
    assert settings["ThrottlingBurstLimit"] > 0
    assert settings["DataTraceEnabled"] is False, "bodies are people's"
    assert stage.properties["TracingEnabled"] is True
    assert stage.properties["AccessLogSetting"]["DestinationArn"]
    (api,) = templates.of("AWS::ApiGateway::RestApi")
    assert api.properties["Body"]["x-amazon-apigateway-request-validator"] == "all"
    assert templates.of("AWS::ApiGateway::UsagePlan")


def test_as_many_work_side_by_side_as_the_stage_s_sizes_say(templates: Templates) -> None:
    machines = {str(each.properties["StateMachineName"]): each for each in templates.of("AWS::StepFunctions::StateMachine")}

    def at_once(machine: str, state: str) -> int:
        told = machines[f"postroom-prod-{machine}"].properties["DefinitionString"]
        return int(json.loads(text(told))["States"][state]["MaxConcurrency"])

    assert at_once("send", "Send") == 50
    assert at_once("import", "Groups") == 12, "one for each 1,000 writes a second that the table is warmed for"


def test_api_gateway_may_ask_the_authorizer(templates: Templates) -> None:
    """By an ARN of its own, which none of the API's methods has."""
    asked = {
        text(each.properties["FunctionName"]): text(each.properties["SourceArn"])
        for each in templates.of("AWS::Lambda::Permission")
        if each.properties["Principal"] == "apigateway.amazonaws.com"
    }
    assert len(asked) == len(API) + len(DOOR)
    for function, source in asked.items():
        assert source.endswith("/authorizers/*") == ("authorizer" in function), function


def test_every_call_that_is_let_in_counts_under_the_usage_plan(templates: Templates) -> None:
    (api,) = templates.of("AWS::ApiGateway::RestApi")
    body = api.properties["Body"]
    assert body["x-amazon-apigateway-api-key-source"] == "AUTHORIZER", "whoever calls brings no key of their own"
    for item in body["paths"].values():
        for operation in item.values():
            assert set(*operation.get("security", [["caller", "usage"]])) == {"caller", "usage"}
    (key,) = templates.of("AWS::ApiGateway::ApiKey")
    told = {
        text(each.properties["Environment"]["Variables"]["POSTROOM_AWS_USAGE_KEY"])
        for each in templates.of("AWS::Lambda::Function")
        if "POSTROOM_AWS_USAGE_KEY" in each.properties["Environment"]["Variables"]
    }
    assert told == {text(key.properties["Value"])}


def test_api_gateway_refuses_in_the_words_of_the_application(templates: Templates) -> None:
    (api,) = templates.of("AWS::ApiGateway::RestApi")
    for name, answer in api.properties["Body"]["x-amazon-apigateway-gateway-responses"].items():
        (problem,) = (json.loads(template) for template in answer["responseTemplates"].values())
        assert problem["status"] == answer["statusCode"], name
        assert problem["type"].startswith("/problems/"), name


def test_the_firewall_stands_before_the_api(templates: Templates) -> None:
    (acl,) = templates.of("AWS::WAFv2::WebACL")
    names = [rule["Name"] for rule in acl.properties["Rules"]]
    assert "AWSManagedRulesCommonRuleSet" in names
    assert "Rate" in names
    (before,) = templates.of("AWS::WAFv2::WebACLAssociation")
    assert "/restapis/" in text(before.properties["ResourceArn"])


def test_search_has_replicas_in_a_private_network_and_is_encrypted_on_every_way(templates: Templates) -> None:
    (domain,) = templates.of("AWS::OpenSearchService::Domain")
    properties = domain.properties
    assert properties["ClusterConfig"]["InstanceCount"] == 2
    assert properties["ClusterConfig"]["ZoneAwarenessEnabled"] is True
    assert properties["EncryptionAtRestOptions"]["Enabled"] is True
    assert properties["NodeToNodeEncryptionOptions"]["Enabled"] is True
    assert properties["DomainEndpointOptions"]["EnforceHTTPS"] is True
    assert len(properties["VPCOptions"]["SubnetIds"]) == 2
    for subnet in templates.of("AWS::EC2::Subnet"):
        assert subnet.properties["MapPublicIpOnLaunch"] is False
    assert not any(each.type in {"AWS::EC2::InternetGateway", "AWS::EC2::NatGateway"} for each in templates.resources)


def test_people_are_invited_and_their_passwords_are_long(templates: Templates) -> None:
    (pool,) = templates.of("AWS::Cognito::UserPool")
    assert pool.properties["AdminCreateUserConfig"] == {"AllowAdminCreateUserOnly": True}
    assert pool.properties["Policies"]["PasswordPolicy"]["MinimumLength"] >= 12
    assert pool.properties["DeletionProtection"] == "ACTIVE"


def test_ses_reports_to_the_queue_and_to_nobody_else(templates: Templates) -> None:
    (reports,) = templates.of("AWS::SES::ConfigurationSetEventDestination")
    kinds = set(reports.properties["EventDestination"]["MatchingEventTypes"])
    assert {"BOUNCE", "COMPLAINT", "DELIVERY", "REJECT"} <= kinds
    (chosen,) = templates.of("AWS::SES::ConfigurationSet")
    assert set(chosen.properties["SuppressionOptions"]["SuppressedReasons"]) == {"BOUNCE", "COMPLAINT"}
    (subscription,) = (each for each in templates.of("AWS::SNS::Subscription") if each.properties["Protocol"] == "sqs")
    assert subscription.properties["RedrivePolicy"]


def test_every_place_of_dead_letters_rings(templates: Templates) -> None:
    watched = {
        dimension["Value"]
        for alarm in templates.of("AWS::CloudWatch::Alarm")
        for dimension in alarm.properties.get("Dimensions", [])
        if dimension["Name"] == "QueueName"
    }
    dead = {each.properties["QueueName"] for each in templates.of("AWS::SQS::Queue") if "-d-" in each.properties["QueueName"]}
    assert dead <= watched


def test_every_alarm_reaches_somebody_and_ends(templates: Templates) -> None:
    for alarm in templates.of("AWS::CloudWatch::Alarm"):
        if not alarm.id.startswith("New"):  # those take a roll-out back, and are told by it
            assert alarm.properties["AlarmActions"], alarm.id
            assert alarm.properties["OKActions"], alarm.id
            assert alarm.properties["AlarmDescription"], alarm.id
    protocols = {each.properties["Protocol"] for each in templates.of("AWS::SNS::Subscription")}
    assert protocols == {"sqs", "email", "lambda"}


@pytest.mark.parametrize("rings", ["BounceRate", "ComplaintRate", "StuckCampaigns", "Cost", "ApiFailing", "TableThrottled"])
def test_what_people_would_notice_rings(templates: Templates, rings: str) -> None:
    assert f"postroom-prod-{rings}" in {each.properties.get("AlarmName") for each in templates.of("AWS::CloudWatch::Alarm")}


def test_a_new_version_gets_a_tenth_first_and_is_taken_back_by_itself(templates: Templates) -> None:
    rolled = templates.of("AWS::CodeDeploy::DeploymentGroup")
    assert len(rolled) == len(ALL)
    for group in rolled:
        assert "DEPLOYMENT_STOP_ON_ALARM" in group.properties["AutoRollbackConfiguration"]["Events"]
        assert group.properties["DeploymentConfigName"] == "CodeDeployDefault.LambdaCanary10Percent5Minutes"
    for alias in templates.of("AWS::Lambda::Alias"):
        assert "CodeDeployLambdaAliasUpdate" in alias.whole["UpdatePolicy"], alias.id


def test_what_people_do_to_the_account_is_kept(templates: Templates) -> None:
    (trail,) = templates.of("AWS::CloudTrail::Trail")
    assert trail.properties["EnableLogFileValidation"] is True
    assert trail.properties["IsMultiRegionTrail"] is True
    assert trail.properties["KMSKeyId"]


def test_the_console_has_a_place_that_only_cloudfront_reads(templates: Templates) -> None:
    (distribution,) = templates.of("AWS::CloudFront::Distribution")
    behaviour = distribution.properties["DistributionConfig"]["DefaultCacheBehavior"]
    assert behaviour["ViewerProtocolPolicy"] == "redirect-to-https"
    assert templates.of("AWS::CloudFront::OriginAccessControl")


def test_every_service_has_a_function_and_every_function_a_handler() -> None:
    """Named as the program names them, so that a typing error is not found by the first caller."""
    for function in ALL:
        module, _, name = function.path.rpartition(".")
        file = Path(__file__).parents[2] / "src" / Path(*module.split("."))
        assert f"def {name}(" in file.with_suffix(".py").read_text("utf-8"), function.path
    assert {each.name for each in API} >= {"template-api", "upload-api", "email-api", "status-api", "callback-api"}
