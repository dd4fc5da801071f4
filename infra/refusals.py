"""What API Gateway answers by itself, in the application's own form: problems (RFC 9457), in the words of gateway.problems.

Its own words would be `{"message": …}`, and 403 for an unknown path, where we answer 404.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from postroom.gateway.errors import MEDIA_TYPE, PROBLEM_TYPES

_REQUEST: Final = "$context.requestId"


class _Refusal(NamedTuple):
    """`word`: of a problem; `detail`: a text, or a variable of API Gateway's."""

    status: int
    word: str
    detail: str


_OWN: Final = {
    "UNAUTHORIZED": _Refusal(401, "not-signed-in", "no token or key, or one that is wrong, revoked or expired"),
    "ACCESS_DENIED": _Refusal(403, "not-allowed", "the caller is known, and belongs to no tenant that may call"),
    "WAF_FILTERED": _Refusal(403, "not-allowed", "the firewall refuses this request"),
    "MISSING_AUTHENTICATION_TOKEN": _Refusal(404, "no-such-address", "nothing answers at this path, or not with this method"),
    "RESOURCE_NOT_FOUND": _Refusal(404, "no-such-address", "nothing answers at this path"),
    "BAD_REQUEST_BODY": _Refusal(422, "invalid", "$context.error.validationErrorString"),
    "BAD_REQUEST_PARAMETERS": _Refusal(422, "invalid", "$context.error.validationErrorString"),
    "REQUEST_TOO_LARGE": _Refusal(413, "too-large", "a request has 10 MB at most"),
    "UNSUPPORTED_MEDIA_TYPE": _Refusal(415, "unsupported-media-type", "this Content-Type is not read here"),
    "THROTTLED": _Refusal(429, "too-many-requests", "all calls of this installation together are too many: slow down"),
    "QUOTA_EXCEEDED": _Refusal(429, "too-many-requests", "the calls of this installation are used up"),
    "INTEGRATION_TIMEOUT": _Refusal(503, "unavailable", "no answer within 29 seconds: it may have been done"),
    "INTEGRATION_FAILURE": _Refusal(503, "unavailable", "a backend of the API does not answer"),
    "AUTHORIZER_FAILURE": _Refusal(503, "unavailable", "who calls cannot be told now: try again"),
    "AUTHORIZER_CONFIGURATION_ERROR": _Refusal(503, "unavailable", "who calls cannot be told now: try again"),
    "API_CONFIGURATION_ERROR": _Refusal(500, "failed", "this is a mistake of ours"),
    "DEFAULT_5XX": _Refusal(500, "failed", "this is a mistake of ours"),
}


def refusals() -> dict[str, Any]:
    """For `x-amazon-apigateway-gateway-responses`."""
    return dict(_responses())


def _responses() -> Iterator[tuple[str, dict[str, Any]]]:
    titles = {kind.word: kind.title for kind in PROBLEM_TYPES}
    for name, refusal in _OWN.items():
        problem = {
            "type": f"/problems/{refusal.word}",
            "title": titles[refusal.word],
            "status": refusal.status,
            "detail": refusal.detail,
            "request_id": _REQUEST,
        }
        yield name, {"statusCode": refusal.status, "responseTemplates": {MEDIA_TYPE: json.dumps(problem)}}
