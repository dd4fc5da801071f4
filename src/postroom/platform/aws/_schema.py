"""Creates the table and the bucket where no stack deployed them, for tests and benchmarks. The stack deploys the same.

The table's layout and costs: docs/reference/aws-table.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.platform.aws._clients import aws_errors, error_code

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

from botocore.exceptions import ClientError

_WAIT_S = 1
_WAIT_ATTEMPTS = 60


def make_table(client: DynamoDBClient, name: str) -> None:
    """Create the table: on demand, with a stream of old and new images (the feed) and expiry. Harmless if it exists
    (https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_CreateTable.html)."""
    with aws_errors(f"making the table {name}"):
        try:
            client.create_table(
                TableName=name,
                KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
                AttributeDefinitions=[
                    {"AttributeName": "pk", "AttributeType": "S"},
                    {"AttributeName": "sk", "AttributeType": "S"},
                ],
                BillingMode="PAY_PER_REQUEST",
                StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
            )
        except ClientError as error:
            if error_code(error) != "ResourceInUseException":
                raise
        client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": _WAIT_S, "MaxAttempts": _WAIT_ATTEMPTS})
        if client.describe_time_to_live(TableName=name)["TimeToLiveDescription"].get("TimeToLiveStatus") == "DISABLED":
            client.update_time_to_live(TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"})
        _keep_backups(client, name)


def _keep_backups(client: DynamoDBClient, name: str) -> None:
    try:
        client.update_continuous_backups(TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True})
    except ClientError as error:
        if error_code(error) != "UnknownOperationException":  # DynamoDB Local keeps none
            raise


def make_bucket(client: S3Client, name: str) -> None:
    """Create the bucket: versioned, not public, unfinished uploads deleted after a day. Harmless if it exists
    (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html)."""
    with aws_errors(f"making the bucket {name}"):
        try:
            region = client.meta.region_name
            if region == "us-east-1":  # the one region that must not be named
                client.create_bucket(Bucket=name)
            else:
                client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region})  # type: ignore[typeddict-item]
        except ClientError as error:
            if error_code(error) != "BucketAlreadyOwnedByYou":
                raise
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        client.put_public_access_block(
            Bucket=name,
            PublicAccessBlockConfiguration={
                "BlockPublicAcls": True,
                "IgnorePublicAcls": True,
                "BlockPublicPolicy": True,
                "RestrictPublicBuckets": True,
            },
        )
        client.put_bucket_lifecycle_configuration(
            Bucket=name,
            LifecycleConfiguration={
                "Rules": [
                    {
                        "ID": "sweep-unfinished-uploads",
                        "Status": "Enabled",
                        "Filter": {"Prefix": ""},
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
                    }
                ]
            },
        )
