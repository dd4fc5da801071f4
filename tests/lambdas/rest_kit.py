"""A service behind API Gateway: its function, called with events as a REST API sends them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from postroom.entrypoints.application import service_application
from postroom.entrypoints.lambdas.api import rest_handler
from postroom.wiring import Container

SOURCE = "203.0.113.9"
"""Where API Gateway saw the caller."""


def event_of(method: str, path: str, **changed: Any) -> dict[str, Any]:
    """As API Gateway's documentation has it; `fields`: of the head, each a list."""
    fields = {"Host": ["api.example"], "X-Forwarded-For": [f"10.9.9.9, {SOURCE}"], "X-Forwarded-Proto": ["https"]}
    fields |= changed.pop("fields", {})
    body = changed.pop("body", None)
    return {
        "resource": path,
        "path": path,
        "httpMethod": method,
        "headers": {name: values[-1] for name, values in fields.items()},
        "multiValueHeaders": fields,
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "identity": {"sourceIp": SOURCE},
            "stage": "test",
            "path": f"/test{path}",
            "domainName": "api.example",
        },
        "body": body if body is None or isinstance(body, str) else json.dumps(body),
        "isBase64Encoded": False,
    } | changed


class Service:
    """One of entrypoints.services' functions, over an installation."""

    def __init__(self, postroom: Container, name: str, credential: str | None = None) -> None:
        base = urlsplit(postroom.settings.api_url or "").path
        self._handle = rest_handler(service_application(postroom, name), base_path=base)
        self._credential = credential

    def __call__(self, method: str, path: str, **changed: Any) -> dict[str, Any]:
        """The answer, as API Gateway gets it."""
        fields: dict[str, list[str]] = {} if self._credential is None else {"Authorization": [f"Bearer {self._credential}"]}
        if "body" in changed:
            fields["Content-Type"] = ["application/json"]
        fields |= changed.pop("fields", {})
        answer = self._handle(event_of(method, path, fields=fields, **changed), None)
        assert set(answer) == {"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"}
        return answer


def said(answer: dict[str, Any], status: int) -> Any:
    """The JSON of an answer of that status."""
    assert answer["statusCode"] == status, answer
    return json.loads(answer["body"])


ROOT = Path(__file__).parents[2]
