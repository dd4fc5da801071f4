"""A call as API Gateway's REST API hands it to a function, and the answer as it wants it back, around Mangum.

Mangum's own reading loses what the door decides by, so it is read here:

- The caller is who API Gateway saw (`requestContext.identity.sourceIp`). Nothing that a caller can write into a header field
  counts: `X-Forwarded-*` only where POSTROOM_TRUSTED_PROXIES names that very peer (gateway.proxies).
- A field that came twice stays two: for the door two `Authorization` fields are none.
- `Content-Length` is the body's. API Gateway leaves it away, and by it the door knows that there is a body to be limited.
- An answer may have 6 MB, as JSON, in which a `"` takes two bytes. A larger one becomes a problem that says so: it is a list that
  can be asked for in smaller pages. Exports and uploads never come this way.

The API: each service's routes in a function of its own, the same application as on one machine (entrypoints.services).

A new sandbox opens its service while Lambda starts it: then a function of any size has a whole processor, later only its share.

Pixels, links and unsubscribing: `/t/…` and `/u/…`, open to everybody. What is heard is on the queue before the answer.
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
"""Lambda's limit is 6 MB of 1,048,576 bytes, all that is around the body included."""
_LOOK_AT: Final = MAX_ANSWER // 6
"""Bytes of a body from which on it could have more: escaped, a byte may take six."""
_TEXT: Final = ["text/", "application/json", "application/problem+json"]
_TOO_LARGE: Final = {
    "type": "/problems/invalid",
    "title": "Invalid",
    "status": 422,
    "detail": "the answer has more than the 6 MB that can be answered here: ask for fewer at once (`limit`)",
}


class RestCall(APIGateway):
    """One call. See the module's text."""

    @classmethod
    def infer(cls, *_: object) -> bool:
        """The functions are called by nobody else."""
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
    """Calls of an ASGI application. `base_path`: what of the API's address stands before the application's paths."""
    asgi, loop = cast("ASGI", app), _loop()  # the same type, but for what a coroutine is called
    asyncio.set_event_loop(loop)
    mangum = Mangum(asgi, lifespan="off", api_gateway_base_path=base_path, custom_handlers=[RestCall], text_mime_types=_TEXT)

    def handle(event: Any, context: Any) -> dict[str, Any]:
        asyncio.set_event_loop(loop)  # Mangum runs on the current one
        return mangum(event, context)

    return handle


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One for all calls of the process: what waits and limits belongs to a loop."""
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
    """Uploads: announced here, brought to S3."""
    return service_handler("uploads")(event, context)


@observed("email-api")
def email(event: Any, context: Any) -> Answer:
    """Campaigns, single messages; as whom, through what, to whom not."""
    return service_handler("email")(event, context)


@observed("status-api")
def status(event: Any, context: Any) -> Answer:
    """What became of it; exports; the audit trail; health; the API about itself."""
    return service_handler("status")(event, context)


@observed("callback-api")
def callbacks(event: Any, context: Any) -> Answer:
    """Whom tenants want told."""
    return service_handler("callbacks")(event, context)


@observed("access-api")
def access(event: Any, context: Any) -> Answer:
    """Tenants, people, keys."""
    return service_handler("access")(event, context)


@cache
def service_handler(service: str) -> Callable[[Any, Any], Answer]:
    """Of `entrypoints.services.SERVICES`; once a sandbox."""
    from postroom.entrypoints.application import service_application

    opened = container()
    return rest_handler(service_application(opened, service), base_path=urlsplit(opened.settings.api_base_url).path)


def open_early(module: str, services: dict[str, str]) -> None:
    """Open the door of the function that Lambda starts in this process (`_HANDLER` names it), if it is one of these."""
    where, _, function = handler_name().rpartition(".")
    if where == module and function in services:
        service_handler(services[function])


open_early(__name__, {name: name for name in ("templates", "uploads", "email", "status", "callbacks", "access", "tracking")})


@observed("tracking")
def tracking(event: Any, context: Any) -> Answer:
    """A call by somebody who has a mail of ours."""
    return service_handler("tracking")(event, context)
