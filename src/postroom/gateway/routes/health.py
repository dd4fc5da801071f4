"""Whether the door is alive, and whether it is ready: for supervisors and load balancers, open to everybody.

`/healthz`: this process answers. `/readyz`: so does everything it needs; what does not is named, why is in the log only. Each
check has a second; one that hangs keeps its thread until it returns, and is not started again before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import anyio
from anyio import to_thread
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

Check = Callable[[], object]
_CHECK_S = 1.0
_FIELDS = {"Cache-Control": "no-store"}
_log = logging.getLogger(__name__)


class Alive(BaseModel):
    """The process answers."""

    status: str = Field(description="Always `ok`.", examples=["ok"])


class Ready(BaseModel):
    """What is ready and what is not."""

    status: str = Field(description="`ok`, or `not ready`.", examples=["ok"])
    checks: dict[str, bool] = Field(description="By name: whether it answered in time.", examples=[{"storage": True}])


def health_routes(checks: Sequence[tuple[str, Check]]) -> APIRouter:
    """`checks`: a name and something that raises, or does not return, when it is not ready."""
    router = APIRouter(tags=["health"])
    running: set[str] = set()

    @router.get("/healthz", operation_id="get_health")
    async def alive(response: Response) -> Alive:
        """Whether the door is alive."""
        response.headers.update(_FIELDS)
        return Alive(status="ok")

    @router.get("/readyz", operation_id="get_readiness", responses={503: {"model": Ready, "description": "Not ready"}})
    async def ready(response: Response) -> Ready:
        """Whether everything the door needs is there."""
        found: dict[str, bool] = {}
        async with anyio.create_task_group() as tasks:
            for name, check in checks:
                tasks.start_soon(_examine, found, running, name, check)
        well = all(found.values())
        response.headers.update(_FIELDS)
        response.status_code = 200 if well else 503
        return Ready(status="ok" if well else "not ready", checks={name: found[name] for name, _ in checks})

    return router


async def _examine(found: dict[str, bool], running: set[str], name: str, check: Check) -> None:
    found[name] = False
    if name in running:
        return
    with anyio.move_on_after(_CHECK_S):
        found[name] = await to_thread.run_sync(_passes, running, name, check, abandon_on_cancel=True)


def _passes(running: set[str], name: str, check: Check) -> bool:
    running.add(name)
    try:
        check()
    except Exception:  # noqa: BLE001  # whatever it is, it is not ready
        _log.warning("%s is not ready", name, exc_info=True)
        return False
    finally:
        running.discard(name)
    return True
