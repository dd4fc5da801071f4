"""What a stage keeps: the key, the table, the bucket, the queues; and how mail leaves and is reported."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import Duration
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_ses as ses
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.dead_letters import dead_letters
from infra.names import QUEUES, Names
from infra.stage import Stage

MAX_RECEIVES = 5
"""As `ports.queues` promises."""
_VISIBLE = {"scheduler": 360, "feedback": 360, "callbacks": 720, "notices": 360}
"""Seconds: six times the time of the function that is called for them, as AWS advises."""
_REPORTED = ["BOUNCE", "COMPLAINT", "DELIVERY", "DELIVERY_DELAY", "REJECT", "RENDERING_FAILURE", "SUBSCRIPTION"]
"""Not SEND: our own record tells that already. Opens and clicks are tracked by us."""
_DELIVERED = ["GET", "PUT", "HEAD"]


class Data(cdk.Stack):
    """Nothing here is replaced by a deployment; of a production stage nothing is ever deleted."""

    def __init__(self, scope: Construct, id_: str, stage: Stage, **settings: Any) -> None:
        super().__init__(scope, id_, stack_name=f"{stage.prefix}-data", termination_protection=stage.production, **settings)
        self._stage, self._names = stage, Names(stage)
        self.key = kms.Key(
            self,
            "Key",
            alias=f"alias/{stage.prefix}",
            description=f"{stage.prefix}: secrets, table, objects",
            enable_key_rotation=True,
            pending_window=Duration.days(30),
            removal_policy=stage.removal,
        )
        self.table = None if stage.table else self._table()
        self.logs = self._logs()
        self.bucket = self._bucket()
        self.queues = {name: self._queue(name) for name in QUEUES}
        self.topic = self._topic()
        self._mail()

    def _table(self) -> dynamodb.Table:
        warm = self._stage.warm_writes
        return dynamodb.Table(
            self,
            "Table",
            table_name=self._names.table,
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="sk", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            warm_throughput=dynamodb.WarmThroughput(read_units_per_second=max(12_000, warm), write_units_per_second=warm)
            if warm
            else None,
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED,
            encryption_key=self.key,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(point_in_time_recovery_enabled=True),
            stream=dynamodb.StreamViewType.NEW_AND_OLD_IMAGES,
            time_to_live_attribute="ttl",
            deletion_protection=self._stage.production,
            removal_policy=self._stage.removal,
        )

    def _logs(self) -> s3.Bucket:
        """Who asked for which object, and which page: kept apart from what they are about."""
        return s3.Bucket(
            self,
            "AccessLogs",
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_PREFERRED,
            lifecycle_rules=[s3.LifecycleRule(id="forget", expiration=Duration.days(self._stage.log_days))],
            removal_policy=self._stage.removal,
        )

    def _bucket(self) -> s3.Bucket:
        return s3.Bucket(
            self,
            "Objects",
            bucket_name=self._names.bucket,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            encryption=s3.BucketEncryption.KMS,
            encryption_key=self.key,
            bucket_key_enabled=True,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            server_access_logs_bucket=self.logs,
            server_access_logs_prefix="objects/",
            cors=[self._pages()],
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="sweep-unfinished-uploads",
                    abort_incomplete_multipart_upload_after=Duration.days(1),
                    expired_object_delete_marker=True,
                ),
                s3.LifecycleRule(id="sweep-exports", prefix="exports/", expiration=Duration.days(1)),
                s3.LifecycleRule(
                    id="cool-down",
                    noncurrent_version_transitions=[
                        s3.NoncurrentVersionTransition(
                            storage_class=s3.StorageClass.GLACIER_INSTANT_RETRIEVAL, transition_after=Duration.days(90)
                        )
                    ],
                ),
            ],
            removal_policy=self._stage.removal,
        )

    def _pages(self) -> s3.CorsRule:
        """The console brings files by signed URLs, which are proof enough."""
        methods = [getattr(s3.HttpMethods, method) for method in _DELIVERED]
        return s3.CorsRule(
            allowed_methods=methods,
            allowed_origins=[self._stage.console_origin],
            allowed_headers=["content-type", "if-none-match", "x-amz-checksum-sha256"],
            exposed_headers=["ETag", "x-amz-version-id"],
            max_age=3_600,
        )

    def _queue(self, name: str) -> sqs.Queue:
        dead = dead_letters(self, f"Dead-{name}", self._names, name)
        return sqs.Queue(
            self,
            f"Queue-{name}",
            queue_name=self._names.queue(name),
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=Duration.days(4),
            visibility_timeout=Duration.seconds(_VISIBLE[name]),
            dead_letter_queue=sqs.DeadLetterQueue(queue=dead, max_receive_count=MAX_RECEIVES),
        )

    def _topic(self) -> sns.Topic:
        """SES → topic → queue: the queue's policy is the proof that a notice came this way."""
        topic = sns.Topic(self, "Notices", topic_name=f"{self._stage.prefix}-notices", master_key=self.key, enforce_ssl=True)
        mail = iam.ServicePrincipal("ses.amazonaws.com")
        ours = {
            "StringEquals": {"aws:SourceAccount": self.account},
            "ArnLike": {"aws:SourceArn": self._names.configuration_set_arn},
        }
        topic.add_to_resource_policy(
            iam.PolicyStatement(actions=["sns:Publish"], principals=[mail], resources=[topic.topic_arn], conditions=ours)
        )
        self.key.add_to_resource_policy(
            iam.PolicyStatement(
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                principals=[mail],
                resources=["*"],
                conditions={"StringEquals": {"aws:SourceAccount": self.account}},
            )
        )
        queue = self.queues["notices"]
        assert queue.dead_letter_queue is not None
        dead = queue.dead_letter_queue.queue
        for taker in (queue, dead):
            taker.add_to_resource_policy(
                iam.PolicyStatement(
                    actions=["sqs:SendMessage"],
                    principals=[iam.ServicePrincipal("sns.amazonaws.com")],
                    resources=[taker.queue_arn],
                    conditions={"ArnEquals": {"aws:SourceArn": topic.topic_arn}},
                )
            )
        sns.CfnSubscription(
            self,
            "NoticesToQueue",
            topic_arn=topic.topic_arn,
            protocol="sqs",
            endpoint=queue.queue_arn,
            raw_message_delivery=True,
            redrive_policy={"deadLetterTargetArn": dead.queue_arn},
        )
        return topic

    def _mail(self) -> None:
        chosen = ses.CfnConfigurationSet(
            self,
            "ConfigurationSet",
            name=self._stage.prefix,
            reputation_options=ses.CfnConfigurationSet.ReputationOptionsProperty(reputation_metrics_enabled=True),
            sending_options=ses.CfnConfigurationSet.SendingOptionsProperty(sending_enabled=True),
            suppression_options=ses.CfnConfigurationSet.SuppressionOptionsProperty(suppressed_reasons=["BOUNCE", "COMPLAINT"]),
            delivery_options=ses.CfnConfigurationSet.DeliveryOptionsProperty(tls_policy="OPTIONAL"),
        )
        told = ses.CfnConfigurationSetEventDestination(
            self,
            "Reports",
            configuration_set_name=self._stage.prefix,
            event_destination=ses.CfnConfigurationSetEventDestination.EventDestinationProperty(
                name="notices",
                enabled=True,
                matching_event_types=_REPORTED,
                sns_destination=ses.CfnConfigurationSetEventDestination.SnsDestinationProperty(topic_arn=self.topic.topic_arn),
            ),
        )
        told.add_resource_dependency(chosen)
        if self._stage.domain:
            self._identity(self._stage.domain, chosen)

    def _identity(self, domain: str, chosen: ses.CfnConfigurationSet) -> None:
        """Easy DKIM with 2048 bits, and a MAIL FROM domain of one's own, so that SPF is aligned."""
        identity = ses.EmailIdentity(
            self,
            "Identity",
            identity=ses.Identity.domain(domain),
            dkim_identity=ses.DkimIdentity.easy_dkim(ses.EasyDkimSigningKeyLength.RSA_2048_BIT),
            mail_from_domain=f"bounce.{domain}",
            mail_from_behavior_on_mx_failure=ses.MailFromBehaviorOnMxFailure.USE_DEFAULT_VALUE,
            configuration_set=ses.ConfigurationSet.from_configuration_set_name(self, "Chosen", self._stage.prefix),
        )
        identity.node.add_dependency(chosen)
        for number, record in enumerate(identity.dkim_records, 1):
            cdk.CfnOutput(self, f"DnsDkim{number}", value=f"{record.name} CNAME {record.value}")
        cdk.CfnOutput(self, "DnsMailFrom", value=f"bounce.{domain} MX 10 feedback-smtp.{self.region}.amazonses.com")
        cdk.CfnOutput(self, "DnsSpf", value=f'bounce.{domain} TXT "v=spf1 include:amazonses.com ~all"')
