"""The role that a route demands of its caller: `def create(body: NewTemplate, caller: Editor)`.

The pipeline authenticates the caller once a request, before anything else of it is read. A route without one of these types
needs no credentials.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from postroom.errors import Denied, Unauthenticated
from postroom.model.access import Principal, Role

BEARER = HTTPBearer(auto_error=False, scheme_name="bearer", description="An access token, or an API key (`pr_…`).")


class Authenticator(Protocol):
    """Authenticates a caller."""

    async def authenticate(self, authorization: str | None) -> Principal:
        """The caller, from the `Authorization` field. Raises `Unauthenticated`, and `Unavailable` if it cannot be checked now."""
        ...


def principal_of(request: Request) -> Principal:
    """The authenticated caller. Raises `Unauthenticated`."""
    principal = getattr(request.state, "principal", None)
    if not isinstance(principal, Principal):
        raise Unauthenticated("this needs an Authorization field: Bearer and an access token or an API key")
    return principal


def _within_scopes(request: Request) -> Principal:
    """The caller. Raises `Denied` for a key whose scopes exclude this route."""
    principal = principal_of(request)
    if principal.scopes is not None and principal.scopes.isdisjoint(request.scope["route"].tags):
        raise Denied(f"{principal.name} is a key for {', '.join(sorted(principal.scopes)) or 'nothing'} only")
    return principal


OPERATOR = "operator"
DEMANDS: dict[Callable[..., object], str] = {}
"""The role, or `OPERATOR`, that each dependency below requires. For the OpenAPI document."""


def _at_least(role: Role) -> Callable[..., Awaitable[Principal]]:
    async def check(request: Request, _scheme: Annotated[object, Depends(BEARER)]) -> Principal:
        principal = _within_scopes(request)
        if not principal.role.includes(role):
            raise Denied(f"this needs the role {role}; {principal.name} is {principal.role}")
        return principal

    DEMANDS[check] = role.value
    return check


async def _operator(request: Request, _scheme: Annotated[object, Depends(BEARER)]) -> Principal:
    principal = _within_scopes(request)
    if not principal.operator:
        raise Denied("this needs an operator of the installation")
    return principal


DEMANDS[_operator] = OPERATOR
Viewer = Annotated[Principal, Depends(_at_least(Role.VIEWER))]
Editor = Annotated[Principal, Depends(_at_least(Role.EDITOR))]
Sender = Annotated[Principal, Depends(_at_least(Role.SENDER))]
Admin = Annotated[Principal, Depends(_at_least(Role.ADMIN))]
Operator = Annotated[Principal, Depends(_operator)]
