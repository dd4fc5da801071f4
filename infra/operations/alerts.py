"""Whom alarms reach: one topic, encrypted; people by e-mail, PagerDuty by the function `alarms`, which closes incidents too."""

from __future__ import annotations

from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct


def add_alerts(scope: Construct, prefix: str, *, key: kms.IKey, email: str | None) -> sns.Topic:
    """The topic `<prefix>-alerts`. The owner of the e-mail address must confirm the subscription once."""
    topic = sns.Topic(scope, "Alerts", topic_name=f"{prefix}-alerts", master_key=key, enforce_ssl=True)
    alarms = iam.ServicePrincipal("cloudwatch.amazonaws.com")
    topic.grant_publish(alarms)
    key.grant(alarms, "kms:Decrypt", "kms:GenerateDataKey*")
    if email:
        topic.add_subscription(subscriptions.EmailSubscription(email))
    return topic
