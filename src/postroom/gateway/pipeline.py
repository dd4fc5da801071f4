"""What every request under /v1 passes, in this order, and the response wherever it ends:

authenticate → rate limit → query and body → idempotency key → handler, inside its audit record → store the
response for the key → count denials.

Errors become problem documents here, so that the steps that store or count responses see all of them.

Use as `APIRouter(route_class=Route)`. A route's declaration says what it needs: a POST under /v1 takes an `Idempotency-Key`
unless it is marked `@reads`; every method but GET leaves an audit record unless it is marked `@reads` or tagged `messages`.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from anyio import to_thread
from fastapi import Request, Response
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Scope

from postroom.errors import Denied, Invalid, PostroomError, Unauthenticated
from postroom.gateway.access import DEMANDS
from postroom.gateway.audit import AUDIT_CONTEXT, AuditCall, AuditChange, AuditContext, audited, only_reads
from postroom.gateway.bodies import StrictRequest
from postroom.gateway.errors import (
    IdempotencyInProgress,
    Overloaded,
    TooManyRequests,
    UnknownParameter,
    problem_response,
    request_id,
)
from postroom.gateway.idempotency import (
    CachedResponse,
    IdempotencyLease,
    IdempotencyStore,
    IdempotentRequest,
    first_points,
    request_digest,
)
from postroom.gateway.limits import slot_of
from postroom.gateway.rate_limits import Fields
from postroom.gateway.state import GatewayState
from postroom.model.access import Principal
from postroom.telemetry.logs import event_logger

Handle = Callable[[Any], Awaitable[Response]]
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_KEY = re.compile(r"[ -~]{1,255}")
_CACHED_FIELDS = frozenset({"content-type", "location", "etag", "cache-control"})
_LONGEST_WAIT_S = 10.0
"""For the response to the first request with the same key. In addition to the request's own time, below API Gateway's 29 s."""
_log = event_logger(__name__)


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """What the pipeline needs to know about a route; computed once, when the route is declared."""

    path: str
    """The template, such as `/v1/templates/{id}`."""
    handler: Callable[..., Any]
    threaded: bool
    """The handler runs in a thread."""
    json: bool
    """The handler reads JSON."""
    keyed: bool
    """The route takes an `Idempotency-Key`."""
    audited: bool
    query: frozenset[str]
    """Names of the query parameters that it takes."""


class Route(APIRoute):
    """A FastAPI route whose requests go through the pipeline."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        methods = frozenset(options.get("methods") or {"GET"})
        tags = [str(tag) for tag in options.get("tags") or ()]
        changes = path.startswith("/v1/") and not methods <= _SAFE_METHODS and not only_reads(endpoint)
        self._handler = endpoint
        self._audited = changes and "messages" not in tags
        self._head = path.partition("{")[0]
        self.keyed = changes and "POST" in methods
        """Whether it takes an `Idempotency-Key`."""
        if self._audited:
            endpoint = audited(endpoint, options.get("status_code") or 200)
        super().__init__(path, endpoint, **options)

    @property
    def demands(self) -> str | None:
        """The least role that may call it, or `operator`; None: no credentials needed."""
        return next((DEMANDS[each.call] for each in self.dependant.dependencies if each.call in DEMANDS), None)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As in Starlette, with two differences.

        A path without parameters wins over templates that match it too (OpenAPI 3.1, "Path Templating Matching"). Most routes
        are excluded by how the path begins, without a regular expression: 50 µs less with 80 routes."""
        if scope["type"] != "http" or scope.get("root_path"):
            return super().matches(scope)
        path = scope["path"]
        if not path.startswith(self._head) or (path != self.path and path in scope["app"].state.plain_paths):
            return Match.NONE, {}
        return super().matches(scope)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler inside a pipeline. Called by FastAPI once, when the route is declared."""
        handle = super().get_route_handler()
        spec = RouteSpec(
            path=self.path,
            handler=self._handler,
            threaded=not inspect.iscoroutinefunction(self._handler),
            json=self.body_field is not None,
            keyed=self.keyed,
            audited=self._audited,
            query=frozenset(each.alias for each in get_flat_params(self.dependant) if isinstance(each.field_info, Query)),
        )

        async def respond(request: Request) -> Response:
            strict = StrictRequest(request.scope, request.receive)
            return await RequestPipeline(request.app.state.gateway, strict, spec, handle).respond()

        return respond


class RequestPipeline:
    """One request's way through the steps above."""

    def __init__(self, state: GatewayState, request: StrictRequest, spec: RouteSpec, handle: Handle) -> None:
        self._state = state
        self._request = request
        self._spec = spec
        self._handle = handle
        self._rate_fields: Fields = ()
        self._principal: Principal | None = None
        self._error: Exception | None = None
        client = request.scope.get("client")
        self._address = client[0] if client else "unknown"

    async def respond(self) -> Response:
        """The response. Every `Exception` becomes a problem document."""
        self._request.state.audit_change = AuditChange()
        try:
            await self._identify()
            response = await self._admit()
        except Exception as error:  # noqa: BLE001  # the edge of the process: gateway.errors logs it
            response = self._problem(error)
        response.raw_headers.extend(self._rate_fields)
        if response.status_code in {401, 403} and self._state.config.audit is not None:
            await self._count_denial()
        return response

    async def _identify(self) -> None:
        credentials = self._request.headers.getlist("authorization")
        rates = self._state.rates
        if not credentials:
            self._rate_fields = rates.charge_address(self._address)
            return
        try:
            principal = await self._authenticate(credentials)
        except (Unauthenticated, Denied):
            self._rate_fields = rates.charge_address(self._address)
            raise
        self._principal = self._request.state.principal = principal
        self._rate_fields = rates.charge(principal)
        if (slot := slot_of(self._request.scope)) is not None:
            slot.give_to(principal.tenant)

    async def _authenticate(self, credentials: list[str]) -> Principal:
        if len(credentials) > 1:  # a proxy in front may have used the other one
            raise Unauthenticated("there is more than one Authorization field")
        return await self._state.config.authenticator.authenticate(credentials[0])

    async def _admit(self) -> Response:
        spec = self._spec
        if spec.threaded and self._state.handlers >= self._state.config.limits.handlers:
            raise Overloaded("too many requests wait for a thread; nothing was done")
        if self._principal is not None and (query := self._request.scope["query_string"]):
            self._check_query(query.decode("latin-1"))
        await self._request.prepare(spec.handler, json=spec.json)
        return await self._run_once()

    def _check_query(self, query: str) -> None:
        names = dict.fromkeys(name for name, _ in parse_qsl(query, keep_blank_values=True))
        unknown = [name for name in names if name not in self._spec.query]
        if unknown:
            raise UnknownParameter(unknown, self._spec.query)

    async def _run_once(self) -> Response:
        """Run the handler, or return the stored response of an earlier request with the same `Idempotency-Key`."""
        store, key = self._state.idempotency, self._idempotency_key()
        if store is None or key is None or self._principal is None:
            return await self._run()
        claim = await self._claim(store, await self._idempotent_request(key, self._principal))
        if isinstance(claim, CachedResponse):
            return Response(claim.body, claim.status, {**claim.fields, "Idempotent-Replayed": "true"})
        self._request.state.recovery_points = claim
        response = await self._run()
        try:
            await to_thread.run_sync(claim.finish, _cacheable(response))
        except PostroomError as error:  # the handler is done: its recovery points make a repetition the same
            _log.error("idempotency.response_not_stored", route=self._spec.path, reason=str(error))
        return response

    async def _run(self) -> Response:
        token = AUDIT_CONTEXT.set(self._audit_context())
        self._state.handlers += self._spec.threaded
        try:
            return await self._handle(self._request)
        except Exception as error:  # noqa: BLE001  # as above
            return self._problem(error)
        finally:
            self._state.handlers -= self._spec.threaded
            AUDIT_CONTEXT.reset(token)

    async def _claim(self, store: IdempotencyStore, request: IdempotentRequest) -> IdempotencyLease | CachedResponse:
        loop, first = asyncio.get_running_loop(), first_points(self._spec.handler)
        deadline, pause = loop.time() + _LONGEST_WAIT_S, 0.02
        while True:
            try:
                return await to_thread.run_sync(store.begin, request, first)
            except IdempotencyInProgress:
                if loop.time() >= deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.5)

    async def _idempotent_request(self, key: str, principal: Principal) -> IdempotentRequest:
        request = self._request
        target = f"{request.method} {request.scope['path']}"
        conditional = f"{target}\n{request.headers.get('if-match', '')}"  # another condition makes it another request
        caller, body = f"{principal.kind}:{principal.id}", await request.body()
        digest = request_digest(caller, conditional, request.scope["query_string"], body)
        return IdempotentRequest(principal.tenant, key, target, digest)

    def _idempotency_key(self) -> str | None:
        if not self._spec.keyed:
            return None
        given = self._request.headers.getlist("idempotency-key")
        if len(given) > 1 or (given and not _KEY.fullmatch(given[0])):
            raise Invalid("Idempotency-Key must be one field of 1 to 255 printable ASCII characters")
        return given[0] if given else None

    def _audit_context(self) -> AuditContext | None:
        config, principal, request = self._state.config, self._principal, self._request
        if config.audit is None or principal is None or not self._spec.audited:
            return None
        now = config.clock.now()
        call = AuditCall(principal, self._address, request.method, self._spec.path, request_id(request), now)
        return AuditContext(config.audit, call, request.state.audit_change)

    async def _count_denial(self) -> None:
        audit = self._state.config.audit
        assert audit is not None
        error = type(self._error).__name__ if self._error else "HTTPException"
        reason = f"{self._request.method} {self._spec.path}: {error}"
        try:
            await to_thread.run_sync(audit.denied, self._principal, self._address, reason)
        except PostroomError as failure:
            _log.error("audit.denial_not_counted", route=self._spec.path, reason=str(failure))

    def _problem(self, error: Exception) -> Response:
        self._error = error
        if isinstance(error, TooManyRequests):
            self._rate_fields = tuple(error.fields)
        if isinstance(error, ClientDisconnect):  # while its body was read: no error, and the client reads no response
            return Response(status_code=499)
        return problem_response(self._request, error)


def _cacheable(response: Response) -> CachedResponse | None:
    """What the idempotency store keeps of a response; None: it is streamed."""
    body = getattr(response, "body", None)
    if not isinstance(body, bytes):
        return None
    fields = {name: value for name, value in response.headers.items() if name in _CACHED_FIELDS}
    return CachedResponse(response.status_code, fields, body)
