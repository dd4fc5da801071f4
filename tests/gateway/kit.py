"""A door for tests, with an authenticator that believes what it is told: `Bearer <role>[+op] <tenant> [<name>]`."""

from __future__ import annotations

from collections.abc import Iterable

import httpx2 as httpx
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient

from postroom.clock import SystemClock
from postroom.errors import Unauthenticated
from postroom.gateway.app import create_app
from postroom.gateway.state import GatewayConfig
from postroom.model.access import Principal, PrincipalKind, Role
from postroom.platform.ports.tables import Tables
from tests.fakes.secrets import PlainSecrets


class Believer:
    """See the module's text."""

    async def authenticate(self, authorization: str | None) -> Principal:
        words = (authorization or "").split()
        if len(words) < 3 or words[0] != "Bearer":
            raise Unauthenticated("nobody")
        role, _, operator = words[1].partition("+")
        name = words[3] if len(words) > 3 else f"{role}@{words[2]}.example"
        return Principal(PrincipalKind.USER, name, name, words[2], Role(role), operator=operator == "op")


def app_of(*routers: APIRouter, tables: Tables | None = None) -> FastAPI:
    """Only these routes. With `tables` it remembers idempotency keys."""
    return create_app(
        GatewayConfig(authenticator=Believer(), clock=SystemClock(), tables=tables, secrets=PlainSecrets()), routers
    )


def client_of(
    routers: Iterable[APIRouter], role: str = "admin", tenant: str = "default", *, tables: Tables | None = None
) -> TestClient:
    """Somebody at the door. Close it after use (a context manager)."""
    client = TestClient(app_of(*routers, tables=tables), base_url="http://door.example")
    client.headers["Authorization"] = f"Bearer {role} {tenant}"
    return client


def problem(response: httpx.Response, status: int) -> str:
    """The detail of a problem of that status."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    detail: str = response.json()["detail"]
    return detail
