"""The API about itself: `/openapi.json`, `/problems/<word>`, `/healthz` and `/readyz`. No credentials needed.

`/healthz`: this process responds. `/readyz`: so does everything it depends on; what does not is named, and the reason is only
logged. Each check may take a second. A check that hangs keeps its thread until it returns and is not started again before;
requests during a check share its result, so that frequent polling cannot make the process look unhealthy.
"""

from __future__ import annotations

import asyncio
import hashlib
import html
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import anyio
import orjson
from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field

from postroom.errors import NotFound, PostroomError
from postroom.gateway.errors import PROBLEM_TYPES, ProblemType
from postroom.gateway.etags import matches, not_modified
from postroom.telemetry.logs import event_logger

_DAY = "public, max-age=86400"
_ASK = "no-cache"


def about_routes() -> APIRouter:
    """Routes that are not in the document themselves."""
    router = APIRouter(include_in_schema=False)
    made: dict[str, bytes] = {}

    @router.get("/openapi.json")
    async def openapi(request: Request) -> Response:
        """The OpenAPI document, made on first use."""
        if not made:
            made["document"] = orjson.dumps(request.app.openapi())
            made["etag"] = b'"' + hashlib.sha256(made["document"]).hexdigest()[:32].encode() + b'"'
        etag = made["etag"].decode()
        if matches(request.headers.get("if-none-match"), etag):
            return not_modified(etag)
        fields = {"ETag": etag, "Cache-Control": _ASK}
        return Response(made["document"], media_type="application/json", headers=fields)

    @router.get("/problems/{word}")
    async def problem(word: str, request: Request) -> Response:
        """The meaning of a problem type: HTML for browsers, JSON for programs."""
        kind = next((kind for kind in PROBLEM_TYPES if kind.word == word), None)
        if kind is None:
            raise NotFound(f"there is no problem of that name; there are: {', '.join(kind.word for kind in PROBLEM_TYPES)}")
        fields = {"Cache-Control": _DAY, "Vary": "Accept"}
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(_page(kind), headers=fields)
        said = {"type": f"/problems/{kind.word}", "title": kind.title, "status": kind.status, "meaning": kind.meaning}
        return JSONResponse(said, headers=fields)

    return router


def _page(kind: ProblemType) -> str:
    title, meaning = html.escape(kind.title), html.escape(kind.meaning)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<h1>{kind.status} {title}</h1><p>{meaning}</p></html>"
    )


Check = Callable[[], object]
_Running = dict[str, Future[bool]]
_CHECK_S = 1.0
_FIELDS = {"Cache-Control": "no-store"}
_log = event_logger(__name__)


class Alive(BaseModel):
    """Liveness."""

    status: str = Field(description="Always `ok`.", examples=["ok"])


class Ready(BaseModel):
    """Readiness, by dependency."""

    status: str = Field(description="`ok`, or `not ready`.", examples=["ok"])
    checks: dict[str, bool] = Field(
        description="Whether each dependency responded in time, by name.", examples=[{"storage": True}]
    )


def health_routes(checks: Sequence[tuple[str, Check]]) -> APIRouter:
    """`checks`: a name and a function that raises, or does not return, if the dependency is not ready."""
    router = APIRouter(tags=["health"])
    running: _Running = {}

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz", operation_id="get_health")
    async def alive(response: Response) -> Alive:
        """Check that the process responds."""
        response.headers.update(_FIELDS)
        return Alive(status="ok")

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz", operation_id="get_readiness", responses={503: {"model": Ready, "description": "Not ready"}})
    async def ready(response: Response) -> Ready:
        """Check that every service the API depends on responds."""
        found: dict[str, bool] = {}
        async with anyio.create_task_group() as tasks:
            for name, check in checks:
                tasks.start_soon(_examine, found, running, name, check)
        well = all(found.values())
        response.headers.update(_FIELDS)
        response.status_code = 200 if well else 503
        return Ready(status="ok" if well else "not ready", checks={name: found[name] for name, _ in checks})

    return router


async def _examine(found: dict[str, bool], running: _Running, name: str, check: Check) -> None:
    found[name] = False
    look = running.get(name)
    with anyio.move_on_after(_CHECK_S):
        if look is None:
            found[name] = await to_thread.run_sync(_passes, running, name, check, abandon_on_cancel=True)
        else:
            found[name] = await asyncio.wrap_future(look)


def _passes(running: _Running, name: str, check: Check) -> bool:
    look = running[name] = Future()
    look.set_running_or_notify_cancel()  # a caller that leaves must not cancel it
    well = False
    try:
        check()
        well = True
    except PostroomError as error:
        _log.warning("health.not_ready", check=name, reason=str(error))
    except Exception as error:  # noqa: BLE001  # any failure means not ready
        _log.error("health.check_crashed", check=name, exc_info=error)
    finally:
        running.pop(name, None)
        look.set_result(well)
    return well
