"""The audit record of a call that changes something: begun durably before the handler runs, ended after it.

Each call under /v1 that is neither a GET nor marked `@reads` nor about single messages (tag `messages`: they have records of
their own) is recorded, from the moment its role and content have been found good. The order of a call:
authenticate → rate limit → idempotency → role and content → **begin** → handler → **finish** → idempotency.

What a `kill -9` leaves: after `begin`, a record without an end: the change may or may not have been made; whoever reads it
looks at the record it names. Before it, nothing was changed. A call that cannot be recorded is refused (503) and changes nothing;
one whose end cannot be recorded is answered as it ended, and the log says so.
Denials (401, 403) go to `denied`, which counts them.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from anyio import to_thread
from fastapi import Response

from postroom.clock import Instant
from postroom.errors import PostroomError
from postroom.gateway.problems import kind_of
from postroom.gateway.trail import Trail
from postroom.model.access import Principal

Endpoint = Callable[..., Any]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuditCall:
    """Who did what, when, from where."""

    principal: Principal
    address: str
    method: str
    route: str
    """The path's template, such as `/v1/templates/{id}`; ids are in the end's `target`."""
    request_id: str
    at: Instant


@dataclass(frozen=True, slots=True)
class AuditEnd:
    """How it ended. Digests are SHA-256 in hex, of canonical JSON; empty where there was or is nothing."""

    status: int
    target: str
    before: str
    after: str


class Recorder(Protocol):
    """Keeps the records. Called from threads; may block."""

    def begin(self, call: AuditCall) -> str:
        """Durable when it returns; a token for `finish`."""
        ...

    def finish(self, token: str, end: AuditEnd) -> None:
        """Complete the record. Again: harmless."""
        ...

    def denied(self, principal: Principal | None, address: str, reason: str) -> None:
        """Count one denial; `reason` is a sentence without what the caller sent."""
        ...


@dataclass(frozen=True, slots=True)
class Audited:
    """What the endpoint of the present request needs."""

    recorder: Recorder
    call: AuditCall
    trail: Trail


AUDITED: ContextVar[Audited | None] = ContextVar("postroom_audited", default=None)
"""Set by gateway.routing; threads of handlers inherit it."""


def audited(endpoint: Endpoint, status: int) -> Endpoint:
    """The endpoint with its record around it, in the same thread. `status`: of an answer that does not say otherwise."""
    wrapped = _coroutine(endpoint, status) if inspect.iscoroutinefunction(endpoint) else _function(endpoint, status)
    # FastAPI reads the parameters' types from here; older ones do not look through `wraps` for the names that annotations use.
    wrapped.__signature__ = inspect.signature(endpoint, eval_str=True)  # type: ignore[attr-defined]
    return wrapped


def digest_of(value: object) -> str:
    """Of JSON values, in which the order of members means nothing."""
    if value is None:
        return ""
    options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    return hashlib.sha256(orjson.dumps(value, default=str, option=options)).hexdigest()


def _function(endpoint: Endpoint, status: int) -> Endpoint:
    @functools.wraps(endpoint)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        here = AUDITED.get()
        if here is None:
            return endpoint(*args, **kwargs)
        token = here.recorder.begin(here.call)
        try:
            answer = endpoint(*args, **kwargs)
        except Exception as error:
            _finish(here, token, kind_of(error).status)
            raise
        _finish(here, token, answer.status_code if isinstance(answer, Response) else status)
        return answer

    return recorded


def _coroutine(endpoint: Endpoint, status: int) -> Endpoint:
    @functools.wraps(endpoint)
    async def recorded(*args: Any, **kwargs: Any) -> Any:
        here = AUDITED.get()
        if here is None:
            return await endpoint(*args, **kwargs)
        token = await to_thread.run_sync(here.recorder.begin, here.call)
        try:
            answer = await endpoint(*args, **kwargs)
        except Exception as error:
            await to_thread.run_sync(_finish, here, token, kind_of(error).status)
            raise
        done = answer.status_code if isinstance(answer, Response) else status
        await to_thread.run_sync(_finish, here, token, done)
        return answer

    return recorded


def _finish(here: Audited, token: str, status: int) -> None:
    trail = here.trail
    try:
        here.recorder.finish(token, AuditEnd(status, trail.target, digest_of(trail.before), digest_of(trail.after)))
    except PostroomError as error:  # the change is made, and its record says that it was begun
        _log.error("the audit record %s could not be ended: %s", token, error)
