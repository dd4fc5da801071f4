"""What each function may not do, asked with the keys of its own role: what others may, and what nobody may."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from botocore.exceptions import ClientError

from tests.aws_e2e import functions
from tests.aws_e2e.asked import Asked, asked, refused
from tests.aws_e2e.office import Office
from tests.aws_e2e.world import PREFIX

_DENIED: Final = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "403", "UnauthorizedOperation"}
_MAIL: Final = {"Raw": {"Data": b"Subject: x\r\n\r\nx"}}


class Deed(NamedTuple):
    """A call of a service."""

    service: str
    operation: str
    parameters: Callable[[Mapping[str, str]], dict[str, Any]]


def _object(key: str) -> Callable[[Mapping[str, str]], dict[str, Any]]:
    return lambda at: {"Bucket": at["POSTROOM_AWS_BUCKET"], "Key": key}


def _new_object(key: str) -> Callable[[Mapping[str, str]], dict[str, Any]]:
    return lambda at: {**_object(key)(at), "Body": b"x"}


DEEDS: Final = {
    "drop the table": Deed("dynamodb", "delete_table", lambda at: {"TableName": at["POSTROOM_AWS_TABLE"]}),
    "read the whole table": Deed("dynamodb", "scan", lambda at: {"TableName": at["POSTROOM_AWS_TABLE"]}),
    "read uploads": Deed("s3", "get_object", _object("default/uploads/x")),
    "write uploads": Deed("s3", "put_object", _new_object("default/uploads/x")),
    "read a campaign's files": Deed("s3", "get_object", _object("default/campaigns/x/x")),
    "write a campaign's files": Deed("s3", "put_object", _new_object("default/campaigns/x/x")),
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
    "seal": Deed(
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
        lambda at: {"RoleArn": f"arn:aws:iam::000000000000:role/{PREFIX}-access-api", "RoleSessionName": "probe"},
    ),
}

EVERYBODY: Final = ("drop the table", "read the whole table", "drop the bucket", "take on another role")
DENIED: Final[Mapping[str, tuple[str, ...]]] = {
    "template-api": ("send mail", "read a campaign's files", "start a campaign's machine", "invite", "schedule"),
    "upload-api": ("send mail", "read a campaign's files", "start a campaign's machine", "invite", "schedule"),
    "status-api": ("send mail", "write uploads", "write a campaign's files", "start a campaign's machine", "invite", "schedule"),
    "callback-api": ("send mail", "read uploads", "write a campaign's files", "start a campaign's machine", "invite", "schedule"),
    "authorizer": ("send mail", "read uploads", "start a campaign's machine", "schedule", "invite"),
    "import-range": ("send mail", "write uploads", "start a campaign's machine", "schedule", "invite"),
    "import-reduce": ("send mail", "read uploads", "write uploads", "start a campaign's machine", "schedule", "invite"),
    "sender": ("read uploads", "write uploads", "write a campaign's files", "schedule", "invite"),
    "events": ("send mail", "read uploads", "write uploads", "write a campaign's files", "schedule", "invite"),
    "callbacks-sender": ("send mail", "read uploads", "write uploads", "start a campaign's machine", "schedule", "invite"),
    "indexer": ("send mail", "read uploads", "write uploads", "start a campaign's machine", "schedule", "seal", "invite"),
    "tracking": (
        "send mail",
        "read uploads",
        "write uploads",
        "write a campaign's files",
        "start a campaign's machine",
        "invite",
    ),
}
"""What some may, and these not."""
CAMPAIGN: Final = "M#default#aaaaaaaaaaaaaaaa#0"
ROWS: Final = (
    Asked("template-api", "GetItem", (CAMPAIGN,)),
    Asked("template-api", "PutItem", ("T#default#keys",)),
    Asked("upload-api", "PutItem", ("T#default#members",)),
    Asked("status-api", "UpdateItem", (CAMPAIGN,)),
    Asked("status-api", "PutItem", ("T#default#campaigns",)),
    Asked("authorizer", "PutItem", ("T#default#keys",)),
    Asked("authorizer", "PutItem", ("T#default#members",)),
    Asked("authorizer", "GetItem", (CAMPAIGN,)),
    Asked("import-range", "PutItem", (CAMPAIGN,)),
    Asked("import-reduce", "GetItem", ("T#default#keys",)),
    Asked("sender", "GetItem", ("T#default#keys",)),
    Asked("sender", "PutItem", ("T#default#members",)),
    Asked("events", "GetItem", ("T#default#keys",)),
    Asked("events", "PutItem", ("T#default#templates",)),
    Asked("callbacks-sender", "UpdateItem", (CAMPAIGN,)),
    Asked("callbacks-sender", "GetItem", ("T#default#keys",)),
    Asked("callbacks-stream", "PutItem", (CAMPAIGN,)),
    Asked("indexer", "GetItem", (CAMPAIGN,)),
    Asked("tracking", "PutItem", (CAMPAIGN,)),
    Asked("tracking", "GetItem", ("T#default#keys",)),
)
"""Rows that others may read or write, and these not."""


def assert_enough(office: Office) -> None:
    """What each function asked for while it worked, it may on AWS as well, rows and all."""
    calls = asked(office.world.asked)
    assert calls, "what functions ask for is written down"
    assert refused(calls, office.templates) == []


def assert_least(office: Office) -> None:
    """No function may what is another's."""
    assert refused(set(ROWS), office.templates) == sorted(ROWS), "these rows are others'"
    allowed = [
        f"{function} may {deed}"
        for function, deeds in DENIED.items()
        for deed in (*EVERYBODY, *deeds)
        if _may(office, function, DEEDS[deed])
    ]
    assert allowed == []


def _may(office: Office, function: str, deed: Deed) -> bool:
    """Whether the function's role may; done to nothing, so that it is only the permission that decides."""
    session = functions.credentials(office.world, function)
    client = office.world.client(deed.service, session)
    try:
        getattr(client, deed.operation)(**deed.parameters(office.variables))
    except ClientError as error:
        return str(error.response["Error"]["Code"]) not in _DENIED
    return True
