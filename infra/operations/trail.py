"""CloudTrail: who changed what in the account, kept where it can't be changed. Calls on data (objects, items) are left out: they
cost by the million, and what users do to data is in Postroom's own audit trail."""

from __future__ import annotations

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_cloudtrail as cloudtrail
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

_KEPT = Duration.days(400)


def add_trail(scope: Construct, prefix: str, *, logs: s3.IBucket, removal: RemovalPolicy) -> cloudtrail.Trail:
    """The account's, for all regions, with digests that show whether a log was changed."""
    key = kms.Key(scope, "TrailKey", description=f"{prefix}: the trail", enable_key_rotation=True, removal_policy=removal)
    cloudtrail_ = iam.ServicePrincipal("cloudtrail.amazonaws.com")
    key.grant(cloudtrail_, "kms:GenerateDataKey*", "kms:DescribeKey")
    bucket = s3.Bucket(
        scope,
        "TrailBucket",
        block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
        encryption=s3.BucketEncryption.S3_MANAGED,
        enforce_ssl=True,
        versioned=True,
        server_access_logs_bucket=logs,
        server_access_logs_prefix="trail/",
        lifecycle_rules=[s3.LifecycleRule(id="forget", expiration=_KEPT, noncurrent_version_expiration=_KEPT)],
        removal_policy=removal,
    )
    return cloudtrail.Trail(
        scope,
        "Trail",
        trail_name=prefix,
        bucket=bucket,
        encryption_key=key,
        enable_file_validation=True,
        is_multi_region_trail=True,
        include_global_service_events=True,
    )
