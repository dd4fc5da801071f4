"""The API on AWS: each service's routes in a function, the same application as on one machine (entrypoints.application).

API Gateway's REST API calls the function; Mangum translates, except for these rules of ours:

- The client address is `requestContext.identity.sourceIp`. Header fields of the caller do not count: `X-Forwarded-*` only if
  POSTROOM_TRUSTED_PROXIES names that peer (gateway.proxies).
- A repeated header field stays repeated: two `Authorization` fields are refused.
- `Content-Length` is that of the body. API Gateway omits it, and the application needs it to limit bodies.
- A response may have 6 MB, as JSON, in which a `"` takes two bytes. A larger one becomes a problem document that asks for smaller
  pages. Exports and uploads never take this way.

A new sandbox opens its service during initialisation: then a function of any size has a whole processor, later only its share.

`/t/…` and `/u/…` (tracking, unsubscribing) need no credential. An event is on the queue before the response is sent.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final, cast
from urllib.parse import unquote, urlencode, urlsplit

import orjson
from mangum import Mangum
from mangum.handlers.api_gateway import APIGateway
from mangum.types import ASGI, Response, Scope
from starlette.types import ASGIApp

from postroom.entrypoints.lambdas.runtime import container, handler_name, observed

MAX_ANSWER: Final = 6_000_000
"""Lambda's limit is 6 MB (of 1,048,576 bytes) for the whole response."""
_LOOK_AT: Final = MAX_ANSWER // 6
"""A smaller body cannot exceed the limit: an escaped byte takes six at most."""
_TEXT: Final = ["text/", "application/json", "application/problem+json"]
_TOO_LARGE: Final = {
    "type": "/problems/invalid",
    "title": "Invalid",
    "status": 422,
    "detail": "the answer has more than the 6 MB that can be answered here: ask for fewer at once (`limit`)",
}


class RestCall(APIGateway):
    """Translates one call of the REST API."""

    @classmethod
    def infer(cls, *_: object) -> bool:
        """Only the REST API calls these functions."""
        return True

    @property
    def scope(self) -> Scope:
        event, base = self.event, self.config["api_gateway_base_path"]
        path = event["path"]
        identity = event["requestContext"].get("identity") or {}
        return {
            "type": "http",
            "http_version": "1.1",
            "method": event["httpMethod"],
            "headers": list(self._fields()),
            "path": unquote(path.removeprefix(base) if path.startswith(f"{base}/") else path),
            "raw_path": None,
            "root_path": "",
            "scheme": "https",
            "query_string": _query(event),
            "server": (event["requestContext"].get("domainName") or "postroom", 443),
            "client": (identity.get("sourceIp") or "unknown", 0),
            "asgi": {"version": "3.0", "spec_version": "2.0"},
        }

    def __call__(self, response: Response) -> dict[str, Any]:
        answer = super().__call__(response)
        if len(response["body"]) > _LOOK_AT and len(json.dumps(answer)) > MAX_ANSWER:
            return _too_large(answer["headers"].get("x-request-id", ""))
        return answer

    def _fields(self) -> Iterator[tuple[bytes, bytes]]:
        once = self.event.get("headers") or {}
        several = self.event.get("multiValueHeaders") or {name: [text] for name, text in once.items()}
        for name, values in several.items():
            if name.lower() not in {"content-length", "transfer-encoding"}:
                yield from ((name.lower().encode("latin-1", "replace"), value.encode("utf-8", "replace")) for value in values)
        if body := self.body:
            yield b"content-length", str(len(body)).encode()


def rest_handler(app: ASGIApp, *, base_path: str = "") -> Callable[[Any, Any], dict[str, Any]]:
    """Return a handler for an ASGI application. `base_path`: the path of the API's URL."""
    asgi, loop = cast("ASGI", app), _loop()  # the same type, but for what a coroutine is called
    asyncio.set_event_loop(loop)
    mangum = Mangum(asgi, lifespan="off", api_gateway_base_path=base_path, custom_handlers=[RestCall], text_mime_types=_TEXT)

    def handle(event: Any, context: Any) -> dict[str, Any]:
        asyncio.set_event_loop(loop)  # Mangum runs on the current one
        return mangum(event, context)

    return handle


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One loop for all calls of the process: locks and limits belong to it."""
    return asyncio.new_event_loop()


def _too_large(request_id: str) -> dict[str, Any]:
    return {
        "statusCode": 422,
        "headers": {"content-type": "application/problem+json", "cache-control": "no-store", "x-request-id": request_id},
        "multiValueHeaders": {},
        "body": orjson.dumps(_TOO_LARGE | {"request_id": request_id}).decode(),
        "isBase64Encoded": False,
    }


def _query(event: Any) -> bytes:
    values = event.get("multiValueQueryStringParameters") or event.get("queryStringParameters") or {}
    return urlencode(values, doseq=True).encode()


Answer = dict[str, Any]


@observed("template-api")
def templates(event: Any, context: Any) -> Answer:
    """Templates and their versions."""
    return service_handler("templates")(event, context)


@observed("upload-api")
def uploads(event: Any, context: Any) -> Answer:
    """Uploads: created here, sent to S3."""
    return service_handler("uploads")(event, context)


@observed("email-api")
def email(event: Any, context: Any) -> Answer:
    """Campaigns, transactional messages, senders, providers, suppression."""
    return service_handler("email")(event, context)


@observed("status-api")
def status(event: Any, context: Any) -> Answer:
    """Status, exports, the audit log, health, the API's own description."""
    return service_handler("status")(event, context)


@observed("callback-api")
def callbacks(event: Any, context: Any) -> Answer:
    """Callback endpoints."""
    return service_handler("callbacks")(event, context)


@observed("access-api")
def access(event: Any, context: Any) -> Answer:
    """Tenants, users, API keys."""
    return service_handler("access")(event, context)


@cache
def service_handler(service: str) -> Callable[[Any, Any], Answer]:
    """Return the handler of a service (`entrypoints.application.SERVICES`); built once for each process."""
    from postroom.entrypoints.application import service_application

    installation = container()
    return rest_handler(service_application(installation, service), base_path=urlsplit(installation.settings.api_base_url).path)


def open_early(module: str, services: dict[str, str]) -> None:
    """Build the service of the function that Lambda starts in this process (`_HANDLER` names it), if it is one of these."""
    where, _, function = handler_name().rpartition(".")
    if where == module and function in services:
        service_handler(services[function])


open_early(__name__, {name: name for name in ("templates", "uploads", "email", "status", "callbacks", "access", "tracking")})


@observed("tracking")
def tracking(event: Any, context: Any) -> Answer:
    """Tracking pixels, links and unsubscribing."""
    return service_handler("tracking")(event, context)
