"""What each function may not do, asked with the keys of its own role: what others may, and what nobody may."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from botocore.exceptions import ClientError

from tests.aws_e2e import functions
from tests.aws_e2e.office import Office
from tests.aws_e2e.world import PREFIX

_DENIED: Final = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "403", "UnauthorizedOperation"}
_MAIL: Final = {"Raw": {"Data": b"Subject: x\r\n\r\nx"}}


class Deed(NamedTuple):
    """A call of a service."""

    service: str
    operation: str
    parameters: Callable[[Mapping[str, str]], dict[str, Any]]


def _item(partition: str) -> Callable[[Mapping[str, str]], dict[str, Any]]:
    return lambda at: {"TableName": at["POSTROOM_AWS_TABLE"], "Key": {"pk": {"S": partition}, "sk": {"S": "x"}}}


def _object(key: str) -> Callable[[Mapping[str, str]], dict[str, Any]]:
    return lambda at: {"Bucket": at["POSTROOM_AWS_BUCKET"], "Key": key}


def _new_object(key: str) -> Callable[[Mapping[str, str]], dict[str, Any]]:
    return lambda at: {**_object(key)(at), "Body": b"x"}


DEEDS: Final = {
    "drop the table": Deed("dynamodb", "delete_table", lambda at: {"TableName": at["POSTROOM_AWS_TABLE"]}),
    "read the whole table": Deed("dynamodb", "scan", lambda at: {"TableName": at["POSTROOM_AWS_TABLE"]}),
    "read API keys": Deed("dynamodb", "get_item", _item("T#default#api-keys")),
    "read suppression": Deed("dynamodb", "get_item", _item("T#default#suppression")),
    "write messages": Deed("dynamodb", "delete_item", _item("M#default#aaaaaaaaaaaaaaaa#0")),
    "write memberships": Deed("dynamodb", "delete_item", _item("T#default#members")),
    "read uploads": Deed("s3", "get_object", _object("default/uploads/x")),
    "write uploads": Deed("s3", "put_object", _new_object("default/uploads/x")),
    "write campaigns' files": Deed("s3", "put_object", _new_object("default/campaigns/x/x")),
    "drop the bucket": Deed("s3", "delete_bucket", lambda at: {"Bucket": at["POSTROOM_AWS_BUCKET"]}),
    "send mail": Deed(
        "sesv2",
        "send_email",
        lambda at: {
            "FromEmailAddress": "news@shop.example",
            "Destination": {"ToAddresses": ["x@x.example"]},
            "Content": _MAIL,
            "ConfigurationSetName": PREFIX,
        },
    ),
    "start a campaign's machine": Deed(
        "stepfunctions",
        "start_execution",
        lambda at: {"stateMachineArn": f"{at['POSTROOM_AWS_MACHINES']}send", "name": "x", "input": "{}"},
    ),
    "unseal": Deed(
        "kms",
        "generate_data_key",
        lambda at: {"KeyId": at["POSTROOM_AWS_KEY"], "KeySpec": "AES_256", "EncryptionContext": {"purpose": "x"}},
    ),
    "schedule": Deed("scheduler", "list_schedules", lambda at: {"GroupName": at["POSTROOM_AWS_SCHEDULES"]}),
    "invite": Deed(
        "cognito-idp", "admin_create_user", lambda at: {"UserPoolId": at["POSTROOM_AWS_USER_POOL"], "Username": "eve@x.example"}
    ),
    "take on another role": Deed(
        "sts",
        "assume_role",
        lambda at: {"RoleArn": f"arn:aws:iam::000000000000:role/{PREFIX}-access-api", "RoleSessionName": "x"},
    ),
}

EVERYBODY: Final = ("drop the table", "read the whole table", "drop the bucket", "take on another role")
DENIED: Final[Mapping[str, tuple[str, ...]]] = {
    "template-api": (
        "send mail",
        "read API keys",
        "write messages",
        "read uploads",
        "start a campaign's machine",
        "invite",
        "schedule",
    ),
    "upload-api": ("send mail", "read API keys", "write messages", "start a campaign's machine", "invite"),
    "status-api": (
        "send mail",
        "read API keys",
        "write messages",
        "write uploads",
        "write campaigns' files",
        "invite",
        "schedule",
    ),
    "authorizer": (
        "send mail",
        "write messages",
        "write memberships",
        "read uploads",
        "start a campaign's machine",
        "schedule",
        "invite",
    ),
    "import-range": (
        "send mail",
        "read API keys",
        "write messages",
        "start a campaign's machine",
        "schedule",
        "invite",
        "unseal",
    ),
    "import-reduce": ("send mail", "read API keys", "write uploads", "start a campaign's machine", "schedule", "invite"),
    "sender": (
        "read API keys",
        "read uploads",
        "write uploads",
        "write memberships",
        "start a campaign's machine",
        "schedule",
        "invite",
    ),
    "events": ("send mail", "read API keys", "read uploads", "write uploads", "write memberships", "schedule", "invite"),
    "callbacks-sender": ("send mail", "read API keys", "read uploads", "write messages", "start a campaign's machine", "invite"),
    "indexer": (
        "send mail",
        "read API keys",
        "read suppression",
        "write messages",
        "read uploads",
        "schedule",
        "unseal",
        "invite",
    ),
    "tracking": ("send mail", "read API keys", "read uploads", "write memberships", "start a campaign's machine", "invite"),
}
"""What some may, and these not."""


def allowed(office: Office, function: str, deed: Deed) -> bool:
    """Whether the function's role may; done to nothing, so that it is only the permission that decides."""
    session = functions.credentials(office.world, function)
    client = office.world.client(deed.service, session)
    try:
        getattr(client, deed.operation)(**deed.parameters(office.variables))
    except ClientError as error:
        return str(error.response["Error"]["Code"]) not in _DENIED
    return True
