"""Who comes in at API Gateway: its TOKEN authorizer, over the same class as at any door (gateway.auth).

What it lets in may call everything of the stage, so that API Gateway can keep the answer for a while whatever is called next;
what the caller's role allows, the service decides. The service establishes the caller anew, from the credential: what is revoked
is over within seconds there, however long API Gateway remembers.

    nobody whom we know                           401   nothing of it is kept
    known, but of no tenant, or a disabled one    403   kept as long as any answer
    it cannot be told now                         500   API Gateway has no other word for it

All calls count under one usage plan, that of POSTROOM_AWS_USAGE_KEY: the installation's. Each tenant's own share is kept by the
services (gateway.rates), as on one machine.
"""

from __future__ import annotations

from typing import Any

from postroom.entrypoints.lambdas.runtime import container, observed
from postroom.errors import Denied, Unauthenticated
from postroom.gateway.auth import TokenAuthenticator
from postroom.model.access import Principal

_ANYBODY = "anybody"


class Unauthorized(Exception):
    """By this very word API Gateway answers 401."""

    def __init__(self) -> None:
        super().__init__("Unauthorized")


@observed("authorizer", answers=(Unauthorized,))
def handler(event: Any, context: Any) -> dict[str, Any]:
    """May whoever sends this `Authorization` field come in?"""
    opened = container()
    return decide(event, opened.authenticator, opened.settings.aws_usage_key)


def decide(event: Any, authenticator: TokenAuthenticator, usage_key: str | None) -> dict[str, Any]:
    """API Gateway's policy document. `Unauthorized`; `Unavailable`."""
    stage = _stage(event["methodArn"])
    try:
        principal = authenticator.authenticate_here(event.get("authorizationToken"))
    except Unauthenticated as error:
        raise Unauthorized from error
    except Denied:
        return _policy("Deny", stage, _ANYBODY)
    answer = _policy("Allow", stage, f"{principal.kind}:{principal.id}") | {"context": _told(principal)}
    return answer if usage_key is None else answer | {"usageIdentifierKey": usage_key}


def _stage(method: str) -> str:
    """All of the stage that a method of it belongs to (`arn:aws:execute-api:region:account:api/stage/GET/path`)."""
    return "/".join(method.split("/")[:2]) + "/*"


def _policy(effect: str, resource: str, who: str) -> dict[str, Any]:
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": resource}
    return {"principalId": who, "policyDocument": {"Version": "2012-10-17", "Statement": [statement]}}


def _told(principal: Principal) -> dict[str, str]:
    """For API Gateway's access log: texts alone are allowed."""
    return {"tenant": principal.tenant, "subject": principal.id, "kind": principal.kind.value, "role": principal.role.value}
