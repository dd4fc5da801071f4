"""What AWS says, in Postroom's words: the only place that reads botocore's errors.

A code that is not known to be permanent is temporary. Conditional failures are answers, not errors: the adapters read
them before they get here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions as boto

from postroom.errors import Denied, Invalid, PostroomError, TooLarge, Unavailable, Unsupported

_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "KmsAccessDenied",
        "KMSAccessDeniedException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "NotAuthorizedException",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)
_ABSENT = frozenset({"NoSuchBucket", "NotFoundException", "ResourceNotFoundException"})
_TOO_LARGE = frozenset({"BatchRequestTooLong", "EntityTooLarge", "RequestEntityTooLarge"})
_INVALID = frozenset(
    {
        "InvalidArgument",
        "InvalidAttributeValue",
        "InvalidMessageContents",
        "InvalidParameterException",
        "InvalidParameterValue",
        "InvalidRequest",
        "SerializationException",
        "ValidationException",
    }
)
_NO_LOGIN = (boto.NoCredentialsError, boto.PartialCredentialsError, boto.NoRegionError, boto.ProfileNotFound)


@contextmanager
def speaking(doing: str) -> Iterator[None]:
    """Turn whatever botocore raises inside into one of ours; `doing` says what failed ("reading the table x")."""
    try:
        yield
    except (boto.BotoCoreError, boto.ClientError) as error:
        raise translate(error, doing) from error


def translate(error: boto.BotoCoreError | boto.ClientError, doing: str) -> PostroomError:
    """The error of ours that says the same."""
    if isinstance(error, boto.ClientError):
        return _refusal(error, doing)
    if isinstance(error, _NO_LOGIN):
        return Denied(f"AWS was not asked while {doing}: {error}")
    if isinstance(error, boto.ParamValidationError):
        return Invalid(f"AWS takes no such request while {doing}: {error}")
    return Unavailable(f"AWS did not answer while {doing}: {error}")


def code_of(error: boto.ClientError) -> str:
    """AWS's own word for it; a HEAD has no body and so only its HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def retried(error: boto.ClientError) -> bool:
    """Whether botocore had sent the request before: an earlier one may have been carried out unseen."""
    return error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0


def _refusal(error: boto.ClientError, doing: str) -> PostroomError:
    code = code_of(error).rpartition(".")[2]  # SQS also speaks in "AWS.SimpleQueueService.X"
    said = f"{code}: {error.response.get('Error', {}).get('Message', '')}"
    if code in _DENIED or code == "403":
        return Denied(f"AWS does not allow {doing} ({said}): check the role's policy")
    if code in _ABSENT:
        return Unsupported(f"AWS has nothing to work on while {doing} ({said}): deploy the stack, or check the settings")
    if code in _TOO_LARGE:
        return TooLarge(f"too large for AWS while {doing} ({said})")
    if code in _INVALID:
        return Invalid(f"AWS refuses the request while {doing} ({said})")
    return Unavailable(f"AWS could not go on {doing} ({said})")
