"""What all functions share: the container, results of SQS batches, and telemetry.

    @observed("events")
    def handler(event, context): ...

The container is opened once for each process: Lambda keeps a process for many calls, and freezes it between them.

- **Logs**: JSON lines on standard output, with the function's name, stage, request id and, for calls of the API, the call's own
  id (`request`). Every call leaves at least one line with its duration. Events and responses are never logged, since both may
  hold addresses and tokens; neither are lines of libraries below a warning. Level: POWERTOOLS_LOG_LEVEL, default INFO.
- **Metrics**: EMF, namespace `Postroom`, dimensions `service` and `stage`; written at the call's end. `count` adds to them.
  Always: `Calls`, `Errors` (the handler raised), `ColdStart`.
- **Traces**: X-Ray, if aws-xray-sdk is installed and POWERTOOLS_TRACE_DISABLED is not set. No responses or error texts in them.

Outside of Lambda a handler is called without any of it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import cache, wraps
from importlib.util import find_spec
from typing import Any, Final, Protocol, TypeVar

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from postroom.settings import Settings
from postroom.telemetry.logs import REQUEST, event_logger
from postroom.wiring import Container, open_app


def function_name() -> str | None:
    """Return None outside of Lambda."""
    return os.environ.get("AWS_LAMBDA_FUNCTION_NAME")


def handler_name() -> str:
    """Return `module.function` of this process's handler; empty outside of Lambda."""
    return os.environ.get("_HANDLER", "")


def is_untraced() -> bool:
    """Whether traces are switched off (Powertools' own variable)."""
    return os.environ.get("POWERTOOLS_TRACE_DISABLED", "").lower() in {"1", "true"}


_KEPT = ExitStack()
"""Open as long as the process lives: Lambda does not announce its end."""


@cache
def container() -> Container:
    """Open the installation that the environment describes. Raises `Invalid`."""
    return _KEPT.enter_context(open_app(Settings.load(os.environ, None, {})))


BatchResponse = dict[str, list[dict[str, str]]]
"""A partial batch response of SQS: only these items are delivered again."""


def batch_failures(records: Iterable[Any]) -> BatchResponse:
    """Return the response that names these records as failed."""
    return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in records]}


def queue_of(record: Any) -> str:
    """Return the queue's name from its ARN (`…:postroom-<stage>-q-<queue>`)."""
    return str(record["eventSourceARN"]).rpartition("-q-")[2]


NAMESPACE: Final = "Postroom"
_QUIET: Final = ("botocore", "boto3", "mangum", "urllib3", "asyncio", "httpx2", "httpcore2", "aws_xray_sdk")
"""Libraries that log only warnings: Mangum's other lines hold the paths of calls, and so the tokens of links."""
_log = event_logger("postroom.function")
T = TypeVar("T")


class Context(Protocol):
    """Lambda's context of a call, as far as it is used."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int: ...


Handler = Callable[[Any, Any], T]


def observed(function: str, *, answers: tuple[type[Exception], ...] = ()) -> Callable[[Handler[T]], Handler[T]]:
    """Decorate the handler of a function with logs, metrics and traces. `answers`: exceptions that are no errors."""

    def wrap(handler: Handler[T]) -> Handler[T]:
        @wraps(handler)
        def call(event: Any, context: Any) -> T:
            name = function_name()
            if name is None:
                return handler(event, context)
            return _telemetry(function, name).call(handler, event, context, answers=answers)

        return call

    return wrap


def count(name: str, value: float = 1, unit: MetricUnit = MetricUnit.Count) -> None:
    """Add to a metric of the current call; no effect outside of one."""
    if _Telemetry.current is not None:
        _Telemetry.current.metrics.add_metric(name, unit, value)


def stage_of(function: str, name: str) -> str:
    """Return the stage from a function's full name (`postroom-<stage>-<function>`)."""
    return name.removeprefix("postroom-").removesuffix(function).rstrip("-") or name


class _Telemetry:
    """Logs, metrics and traces of one function."""

    current: _Telemetry | None = None

    def __init__(self, function: str, stage: str) -> None:
        self.logger = Logger(service=function, utc=True, use_rfc3339=True, serialize_stacktrace=False)
        self.logger.append_keys(stage=stage)
        self.metrics = Metrics(namespace=NAMESPACE, service=function)
        self.metrics.set_default_dimensions(stage=stage)
        self._traced = _tracing(function)
        self._is_cold = True
        self._function = function
        self._configure_logging()

    def call(self, handler: Handler[T], event: Any, context: Context, *, answers: tuple[type[Exception], ...]) -> T:
        began = time.monotonic()
        self.logger.append_keys(function_request_id=context.aws_request_id, cold_start=self._is_cold)
        self._count("ColdStart", int(self._is_cold))
        self._count("Calls", 1)
        self._is_cold = False
        _Telemetry.current = self
        try:
            return self._traced(handler)(event, context)
        except answers:
            raise
        except Exception:
            self._count("Errors", 1)
            _log.exception("function.failed", function=self._function)
            raise
        finally:
            _Telemetry.current = None
            _log.info("function.called", function=self._function, ms=round((time.monotonic() - began) * 1_000, 1))
            self.metrics.flush_metrics()

    def _count(self, name: str, value: int) -> None:
        self.metrics.add_metric(name, MetricUnit.Count, value)

    def _configure_logging(self) -> None:
        """Send all log records to this logger."""
        root = logging.getLogger()
        root.handlers[:] = self.logger.handlers
        root.setLevel(self.logger.log_level)
        for handler in root.handlers:
            handler.addFilter(_name_request)
        for library in _QUIET:
            logging.getLogger(library).setLevel(logging.WARNING)


@cache
def _telemetry(function: str, name: str) -> _Telemetry:
    return _Telemetry(function, stage_of(function, name))


def _tracing(function: str) -> Callable[[Handler[T]], Handler[T]]:
    """Return the decorator of a handler that traces it with X-Ray."""
    if find_spec("aws_xray_sdk") is None or is_untraced():
        return lambda handler: handler
    from aws_lambda_powertools import Tracer

    tracer = Tracer(service=function)
    return lambda handler: tracer.capture_lambda_handler(handler, capture_response=False, capture_error=False)


def _name_request(record: logging.LogRecord) -> bool:
    """Add the id of the API call; its threads inherit it."""
    if request := REQUEST.get():
        record.request = request
    return True
