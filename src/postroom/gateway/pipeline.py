"""One call's way through the door, in this order, and what is answered wherever it ends.

who calls → how often → has this call been made already? → [its handler, with an audit record around it]
→ keep the answer → count denials. Everything that is raised on the way becomes a problem here, so that whoever keeps or counts
answers sees them all.

What every request under /v1 goes through before and after its handler (gateway.passage).

Use as `APIRouter(route_class=Route)`. A route learns what it needs from its declaration: a POST under /v1 takes an
`Idempotency-Key` unless it is marked `@reads`; what is no GET there leaves an audit record unless it is marked `@reads` or is
tagged `messages`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Scope

from postroom.errors import Denied, Invalid, PostroomError, Unauthenticated
from postroom.gateway.access import DEMANDS
from postroom.gateway.audit import AUDIT_CONTEXT, AuditCall, AuditChange, AuditContext, audited, only_reads
from postroom.gateway.bodies import StrictRequest, demand_json, demand_text, has_body, widen
from postroom.gateway.errors import IdempotencyInProgress, Overloaded, TooManyRequests, problem_response, request_id
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

Handle = Callable[[Any], Awaitable[Response]]


_KEY = re.compile(r"[ -~]{1,255}")


_KEPT_FIELDS = frozenset({"content-type", "location", "etag", "cache-control"})


_LONGEST_WAIT_S = 10.0


"""For the answer of the first call with the same key: with the call's own time it stays under API Gateway's 29 s, mostly."""


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """What is known of a route before anybody calls."""

    route: str
    handler: Callable[..., Any]
    threaded: bool
    """Its handler runs in a thread."""
    json: bool
    """It reads JSON."""
    keyed: bool
    """It takes an `Idempotency-Key`."""
    audited: bool


class RequestPipeline:
    """See the module's text."""

    def __init__(self, door: GatewayState, request: StrictRequest, traits: RouteSpec, handle: Handle) -> None:
        self._door = door
        self._request = request
        self._traits = traits
        self._handle = handle
        self._fields: Fields = ()
        self._principal: Principal | None = None
        self._error: Exception | None = None

    async def answer(self) -> Response:
        """Never raises but what kills the process."""
        self._request.state.trail = AuditChange()
        try:
            await self._identify()
            response = await self._admitted()
        except Exception as error:  # noqa: BLE001  # the edge of the process: gateway.problems logs it
            response = self._refusal(error)
        response.raw_headers.extend(self._fields)
        if self._door.frame.audit is not None and response.status_code in {401, 403}:
            await self._denied()
        return response

    async def _identify(self) -> None:
        given = self._request.headers.getlist("authorization")
        if not given:
            self._fields = self._door.rates.charge_address(self._address)
            return
        try:
            self._principal = await self._authenticated(given)
        except (Unauthenticated, Denied):
            self._fields = self._door.rates.charge_address(self._address)
            raise
        self._request.state.principal = self._principal
        self._fields = self._door.rates.charge(self._principal)
        if (place := slot_of(self._request.scope)) is not None:
            place.give_to(self._principal.tenant)

    async def _authenticated(self, given: list[str]) -> Principal:
        if len(given) > 1:  # which of them the next in line believes is not known
            raise Unauthenticated("there are two Authorization fields, or more")
        return await self._door.frame.authenticator.authenticate(given[0])

    async def _admitted(self) -> Response:
        request, traits = self._request, self._traits
        if traits.threaded and self._door.handlers >= self._door.frame.limits.handlers:
            raise Overloaded("too many calls wait for a thread; nothing was done")
        demand_text(request.scope)
        widen(request.scope, traits.handler)
        if traits.json and has_body(request.scope):
            demand_json(request)
            await request.json()
        return await self._keyed()

    async def _keyed(self) -> Response:
        store, key = self._door.idempotency, self._key()
        if store is None or key is None or self._principal is None:
            return await self._work()
        claim = await self._claim(store, await self._ask(key, self._principal))
        if isinstance(claim, CachedResponse):
            return Response(claim.body, claim.status, {**claim.fields, "Idempotent-Replayed": "true"})
        self._request.state.steps = claim
        response = await self._work()
        try:
            await to_thread.run_sync(claim.finish, _kept(response))
        except PostroomError as error:  # done, and answered; repeated, it comes out the same by its recovery points
            _log.error("an answer could not be kept for its Idempotency-Key: %s", error)
        return response

    async def _work(self) -> Response:
        token = AUDIT_CONTEXT.set(self._audited())
        self._door.handlers += self._traits.threaded
        try:
            return await self._handle(self._request)
        except Exception as error:  # noqa: BLE001  # as above
            return self._refusal(error)
        finally:
            self._door.handlers -= self._traits.threaded
            AUDIT_CONTEXT.reset(token)

    async def _claim(self, store: IdempotencyStore, ask: IdempotentRequest) -> IdempotencyLease | CachedResponse:
        loop, first = asyncio.get_running_loop(), first_points(self._traits.handler)
        ends, pause = loop.time() + _LONGEST_WAIT_S, 0.02
        while True:
            try:
                return await to_thread.run_sync(store.begin, ask, first)
            except IdempotencyInProgress:
                if loop.time() >= ends:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.5)

    async def _ask(self, key: str, principal: Principal) -> IdempotentRequest:
        request = self._request
        address = f"{request.method} {request.scope['path']}"
        body = await request.body()
        asked = f"{address}\n{request.headers.get('if-match', '')}"  # on another condition it is another call
        digest = request_digest(f"{principal.kind}:{principal.id}", asked, request.scope["query_string"], body)
        return IdempotentRequest(principal.tenant, key, address, digest)

    def _key(self) -> str | None:
        if not self._traits.keyed:
            return None
        given = self._request.headers.getlist("idempotency-key")
        if len(given) > 1 or (given and not _KEY.fullmatch(given[0])):
            raise Invalid("an Idempotency-Key is 1 to 255 printable ASCII characters, and stands there once")
        return given[0] if given else None

    def _audited(self) -> AuditContext | None:
        frame, principal, request = self._door.frame, self._principal, self._request
        if frame.audit is None or principal is None or not self._traits.audited:
            return None
        call = AuditCall(
            principal,
            self._address,
            request.method,
            self._traits.route,
            request_id(request),
            frame.clock.now(),
        )
        return AuditContext(frame.audit, call, request.state.trail)

    async def _denied(self) -> None:
        audit = self._door.frame.audit
        assert audit is not None
        reason = type(self._error).__name__ if self._error else "HTTPException"
        try:
            await to_thread.run_sync(
                audit.denied, self._principal, self._address, f"{self._request.method} {self._traits.route}: {reason}"
            )
        except PostroomError as error:
            _log.error("a denial could not be counted: %s", error)

    def _refusal(self, error: Exception) -> Response:
        self._error = error
        if isinstance(error, TooManyRequests):
            self._fields = tuple(error.fields)
        if isinstance(error, ClientDisconnect):  # in the middle of its body: no mistake of ours, and nobody reads an answer
            return Response(status_code=499)
        return problem_response(self._request, error)

    @property
    def _address(self) -> str:
        client = self._request.scope.get("client")
        return client[0] if client else "unknown"


def _kept(response: Response) -> CachedResponse | None:
    """None: it streams."""
    body = getattr(response, "body", None)
    if not isinstance(body, bytes):
        return None
    fields = {name: value for name, value in response.headers.items() if name in _KEPT_FIELDS}
    return CachedResponse(response.status_code, fields, body)


_Handle = Callable[[Request], Coroutine[Any, Any, Response]]


_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Route(APIRoute):
    """See the module's text."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        methods = frozenset(options.get("methods") or {"GET"})
        tags = [str(tag) for tag in options.get("tags") or ()]
        acts = path.startswith("/v1/") and not methods <= _SAFE and not only_reads(endpoint)
        self._plain = endpoint
        self._audited = acts and "messages" not in tags
        self._keyed = acts and "POST" in methods
        self._head = path.partition("{")[0]
        if self._audited:
            endpoint = audited(endpoint, options.get("status_code") or 200)
        super().__init__(path, endpoint, **options)

    @property
    def keyed(self) -> bool:
        """Whether it takes an `Idempotency-Key`."""
        return self._keyed

    @property
    def demands(self) -> str | None:
        """The least role that may call it, or `operator`; None: anybody."""
        return next((DEMANDS[each.call] for each in self.dependant.dependencies if each.call in DEMANDS), None)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As ever, but a path without parameters is never taken for one with them (OpenAPI 3.1, "Path Templating Matching"), and
        most routes see by the beginning of the path that they are not meant: 50 µs less with 80 routes."""
        if scope["type"] != "http" or scope.get("root_path"):
            return super().matches(scope)
        path = scope["path"]
        if not path.startswith(self._head) or (path != self.path and path in scope["app"].state.plain_paths):
            return Match.NONE, {}
        return super().matches(scope)

    def get_route_handler(self) -> _Handle:
        handle, traits = super().get_route_handler(), self._traits()

        async def guarded(request: Request) -> Response:
            strict = StrictRequest(request.scope, request.receive)
            return await RequestPipeline(request.app.state.door, strict, traits, handle).answer()

        return guarded

    def _traits(self) -> RouteSpec:
        return RouteSpec(
            route=self.path,
            handler=self._plain,
            threaded=not inspect.iscoroutinefunction(self._plain),
            json=self.body_field is not None,
            keyed=self._keyed,
            audited=self._audited,
        )
