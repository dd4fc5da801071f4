"""One call's way through the door, in this order, and what is answered wherever it ends.

who calls → how often → (is the service well?) → has this call been made already? → [its handler, with an audit record around it]
→ keep the answer → count denials. Everything that is raised on the way becomes a problem here, so that whoever keeps or counts
answers sees them all.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from fastapi import Response
from starlette.requests import ClientDisconnect

from postroom.errors import Denied, Invalid, PostroomError, Unauthenticated
from postroom.gateway.audit import AUDITED, AuditCall, Audited
from postroom.gateway.bodies import StrictRequest, demand_json, demand_text, has_body, widen
from postroom.gateway.breaker import outcome_of
from postroom.gateway.frame import Door
from postroom.gateway.idempotency import Ask, Idempotency, Kept, Lease, digest_of
from postroom.gateway.limits import place_of
from postroom.gateway.problems import answer_now, request_id
from postroom.gateway.rates import Fields
from postroom.gateway.refusals import InProgress, Overloaded, TooMany
from postroom.gateway.steps import first_points
from postroom.gateway.trail import Trail
from postroom.model.access import Principal

Handle = Callable[[Any], Awaitable[Response]]

_KEY = re.compile(r"[ -~]{1,255}")
_KEPT_FIELDS = frozenset({"content-type", "location", "etag", "cache-control"})
_LONGEST_WAIT_S = 10.0
"""For the answer of the first call with the same key: with the call's own time it stays under API Gateway's 29 s, mostly."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a route before anybody calls."""

    service: str
    route: str
    handler: Callable[..., Any]
    threaded: bool
    """Its handler runs in a thread."""
    json: bool
    """It reads JSON."""
    keyed: bool
    """It takes an `Idempotency-Key`."""
    audited: bool


class Passage:
    """See the module's text."""

    def __init__(self, door: Door, request: StrictRequest, traits: Traits, handle: Handle) -> None:
        self._door = door
        self._request = request
        self._traits = traits
        self._handle = handle
        self._fields: Fields = ()
        self._principal: Principal | None = None
        self._error: Exception | None = None

    async def answer(self) -> Response:
        """Never raises but what kills the process."""
        self._request.state.trail = Trail()
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
        if (place := place_of(self._request.scope)) is not None:
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
        breaker = self._door.breakers.of(traits.service)
        probe = breaker.enter()
        try:
            response = await self._keyed()
        except Exception as error:  # noqa: BLE001  # as above
            response = self._refusal(error)
        breaker.leave(outcome_of(response.status_code, self._error), probe=probe)
        return response

    async def _keyed(self) -> Response:
        store, key = self._door.idempotency, self._key()
        if store is None or key is None or self._principal is None:
            return await self._work()
        claim = await self._claim(store, await self._ask(key, self._principal))
        if isinstance(claim, Kept):
            return Response(claim.body, claim.status, {**claim.fields, "Idempotent-Replayed": "true"})
        self._request.state.steps = claim
        response = await self._work()
        try:
            await to_thread.run_sync(claim.finish, _kept(response))
        except PostroomError as error:  # done, and answered; repeated, it comes out the same by its recovery points
            _log.error("an answer could not be kept for its Idempotency-Key: %s", error)
        return response

    async def _work(self) -> Response:
        token = AUDITED.set(self._audited())
        self._door.handlers += self._traits.threaded
        try:
            return await self._handle(self._request)
        except Exception as error:  # noqa: BLE001  # as above
            return self._refusal(error)
        finally:
            self._door.handlers -= self._traits.threaded
            AUDITED.reset(token)

    async def _claim(self, store: Idempotency, ask: Ask) -> Lease | Kept:
        loop, first = asyncio.get_running_loop(), first_points(self._traits.handler)
        ends, pause = loop.time() + _LONGEST_WAIT_S, 0.02
        while True:
            try:
                return await to_thread.run_sync(store.begin, ask, first)
            except InProgress:
                if loop.time() >= ends:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.5)

    async def _ask(self, key: str, principal: Principal) -> Ask:
        request = self._request
        address = f"{request.method} {request.scope['path']}"
        body = await request.body()
        asked = f"{address}\n{request.headers.get('if-match', '')}"  # on another condition it is another call
        digest = digest_of(f"{principal.kind}:{principal.id}", asked, request.scope["query_string"], body)
        return Ask(principal.tenant, key, address, digest)

    def _key(self) -> str | None:
        if not self._traits.keyed:
            return None
        given = self._request.headers.getlist("idempotency-key")
        if len(given) > 1 or (given and not _KEY.fullmatch(given[0])):
            raise Invalid("an Idempotency-Key is 1 to 255 printable ASCII characters, and stands there once")
        return given[0] if given else None

    def _audited(self) -> Audited | None:
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
        return Audited(frame.audit, call, request.state.trail)

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
        if isinstance(error, TooMany):
            self._fields = tuple(error.fields)
        if isinstance(error, ClientDisconnect):  # in the middle of its body: no mistake of ours, and nobody reads an answer
            return Response(status_code=499)
        return answer_now(self._request, error)

    @property
    def _address(self) -> str:
        client = self._request.scope.get("client")
        return client[0] if client else "unknown"


def _kept(response: Response) -> Kept | None:
    """None: it streams."""
    body = getattr(response, "body", None)
    if not isinstance(body, bytes):
        return None
    fields = {name: value for name, value in response.headers.items() if name in _KEPT_FIELDS}
    return Kept(response.status_code, fields, body)
