"""The TOKEN authorizer of API Gateway, over the same authentication as on one machine (gateway.auth).

Its policy allows every method of the stage, so that API Gateway can cache the result; each service checks the role. The service
authenticates the caller again, so a revoked credential ends within seconds, however long API Gateway caches the policy.

    unknown caller                                401   not cached
    known, but of no tenant, or a disabled one    403   cached like a success
    a store does not answer                       500   API Gateway has no other status for it

All calls count under one usage plan, that of POSTROOM_AWS_USAGE_KEY. The services limit each tenant (gateway.rate_limits), as on
one machine. https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-use-lambda-authorizer.html
"""

from __future__ import annotations

from typing import Any

from postroom.entrypoints.lambdas.runtime import container, observed
from postroom.errors import Denied, Unauthenticated
from postroom.gateway.auth import TokenAuthenticator
from postroom.model.access import Principal

_UNKNOWN = "unknown"


class Unauthorized(Exception):
    """API Gateway answers 401 to an error with exactly this message."""

    def __init__(self) -> None:
        super().__init__("Unauthorized")


@observed("authorizer", answers=(Unauthorized,))
def handler(event: Any, context: Any) -> dict[str, Any]:
    """Handles an event with an `Authorization` header."""
    app = container()
    return decide(event, app.authenticator, app.settings.aws_usage_key)


def decide(event: Any, authenticator: TokenAuthenticator, usage_key: str | None) -> dict[str, Any]:
    """Return the policy document. Raises `Unauthorized` or `Unavailable`."""
    stage = _stage(event["methodArn"])
    try:
        principal = authenticator.authenticate_here(event.get("authorizationToken"))
    except Unauthenticated as error:
        raise Unauthorized from error
    except Denied:
        return _policy("Deny", stage, _UNKNOWN)
    answer = _policy("Allow", stage, f"{principal.kind}:{principal.id}") | {"context": _context(principal)}
    return answer if usage_key is None else answer | {"usageIdentifierKey": usage_key}


def _stage(method: str) -> str:
    """Return the ARN pattern of all methods of a method's stage (`arn:aws:execute-api:region:account:api/stage/GET/path`)."""
    return "/".join(method.split("/")[:2]) + "/*"


def _policy(effect: str, resource: str, who: str) -> dict[str, Any]:
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": resource}
    return {"principalId": who, "policyDocument": {"Version": "2012-10-17", "Statement": [statement]}}


def _context(principal: Principal) -> dict[str, str]:
    """For the access log; API Gateway allows only strings."""
    return {"tenant": principal.tenant, "subject": principal.id, "kind": principal.kind.value, "role": principal.role.value}
