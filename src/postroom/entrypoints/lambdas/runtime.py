"""What Lambda says of the process it started: its own variables, which are no settings of ours.

The installation, opened once a sandbox: Lambda keeps a process for many calls, and freezes it between them.

Which items of a batch a function did not manage: Lambda hands those out again, and no others (partial batch responses).

What a function tells of itself: log lines, metrics and traces, the same for all of them.

    @observed("events")
    def handler(event, context): ...

- **Logs**: JSON lines on standard output, with the function's name, stage, request id and, for calls of the API, the call's own
  id (`request`). Every call leaves one line at least: its milliseconds. An event or an answer is never logged, since both may
  hold addresses and tokens, and neither is what libraries say of them below a warning. Level: POWERTOOLS_LOG_LEVEL, else INFO.
- **Metrics**: EMF, namespace `Container`, dimensions `service` and `stage`; written with the call's end. `count` adds to them.
  Always: `Calls`, `Errors` (the handler raised), `ColdStart`.
- **Traces**: X-Ray, where it is installed (aws-xray-sdk) and not switched off (POWERTOOLS_TRACE_DISABLED). No answers in them,
  and no texts of errors.

Outside of Lambda nothing of it happens: whoever calls a handler keeps their own logs.
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
from postroom.telemetry.logs import REQUEST
from postroom.wiring import Container, open_app


def function_name() -> str | None:
    """None: this is no function's process."""
    return os.environ.get("AWS_LAMBDA_FUNCTION_NAME")


def handler_name() -> str:
    """`module.function` of the handler that it was started for; empty outside of Lambda."""
    return os.environ.get("_HANDLER", "")


def is_untraced() -> bool:
    """Whether traces are switched off (powertools' own variable)."""
    return os.environ.get("POWERTOOLS_TRACE_DISABLED", "").lower() in {"1", "true"}


_KEPT = ExitStack()
"""Open for as long as the process is there: Lambda tells nobody when it ends one."""


@cache
def container() -> Container:
    """As the function's environment describes it. `Invalid`."""
    return _KEPT.enter_context(open_app(Settings.load(os.environ, None, {})))


BatchResponse = dict[str, list[dict[str, str]]]
"""What a function answers that is called with a batch of SQS's."""


def batch_failures(records: Iterable[Any]) -> BatchResponse:
    """These of SQS's records."""
    return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in records]}


def queue_of(record: Any) -> str:
    """The queue's name as the port has it: of `…:postroom-<stage>-q-<queue>`."""
    return str(record["eventSourceARN"]).rpartition("-q-")[2]


NAMESPACE: Final = "Postroom"
_LOUD: Final = ("botocore", "boto3", "mangum", "urllib3", "asyncio", "httpx2", "httpcore2", "aws_xray_sdk")
"""Libraries of which only warnings are worth a line; Mangum's others hold the paths of calls, and so the tokens of links."""
_log = logging.getLogger("postroom.function")
T = TypeVar("T")


class Context(Protocol):
    """What Lambda says of a call, as far as it is read here."""

    aws_request_id: str
    function_name: str


Handler = Callable[[Any, Any], T]


def observed(function: str, *, answers: tuple[type[Exception], ...] = ()) -> Callable[[Handler[T]], Handler[T]]:
    """For the handler of the function that is called so in its stage. `answers`: errors that are answers, and count as none."""

    def wrap(handler: Handler[T]) -> Handler[T]:
        @wraps(handler)
        def call(event: Any, context: Any) -> T:
            name = function_name()
            if name is None:
                return handler(event, context)
            return _sight(function, name).call(handler, event, context, answers=answers)

        return call

    return wrap


def count(name: str, value: float = 1, unit: MetricUnit = MetricUnit.Count) -> None:
    """Add to a metric of the function that is being called; nothing outside of one."""
    if _Sight.current is not None:
        _Sight.current.metrics.add_metric(name, unit, value)


def stage_of(function: str, name: str) -> str:
    """Of `postroom-<stage>-<function>`."""
    return name.removeprefix("postroom-").removesuffix(function).rstrip("-") or name


class _Sight:
    """One function's."""

    current: _Sight | None = None

    def __init__(self, function: str, stage: str) -> None:
        self.logger = Logger(service=function, utc=True, use_rfc3339=True, serialize_stacktrace=False)
        self.logger.append_keys(stage=stage)
        self.metrics = Metrics(namespace=NAMESPACE, service=function)
        self.metrics.set_default_dimensions(stage=stage)
        self._traced = _tracing(function)
        self._is_cold = True
        self._function = function
        self._log_to_it()

    def call(self, handler: Handler[T], event: Any, context: Context, *, answers: tuple[type[Exception], ...]) -> T:
        began = time.monotonic()
        self.logger.append_keys(function_request_id=context.aws_request_id, cold_start=self._is_cold)
        self._count("ColdStart", int(self._is_cold))
        self._count("Calls", 1)
        self._is_cold = False
        _Sight.current = self
        try:
            return self._traced(handler)(event, context)
        except answers:
            raise
        except Exception:
            self._count("Errors", 1)
            _log.exception("%s failed", self._function)
            raise
        finally:
            _Sight.current = None
            _log.info("%s: %.1f ms", self._function, (time.monotonic() - began) * 1_000)
            self.metrics.flush_metrics()

    def _count(self, name: str, value: int) -> None:
        self.metrics.add_metric(name, MetricUnit.Count, value)

    def _log_to_it(self) -> None:
        """Everything that anybody logs."""
        root = logging.getLogger()
        root.handlers[:] = self.logger.handlers
        root.setLevel(self.logger.log_level)
        for handler in root.handlers:
            handler.addFilter(_name_request)
        for loud in _LOUD:
            logging.getLogger(loud).setLevel(logging.WARNING)


@cache
def _sight(function: str, name: str) -> _Sight:
    return _Sight(function, stage_of(function, name))


def _tracing(function: str) -> Callable[[Handler[T]], Handler[T]]:
    """What to put around a handler, for X-Ray."""
    if find_spec("aws_xray_sdk") is None or is_untraced():
        return lambda handler: handler
    from aws_lambda_powertools import Tracer

    tracer = Tracer(service=function)
    return lambda handler: tracer.capture_lambda_handler(handler, capture_response=False, capture_error=False)


def _name_request(record: logging.LogRecord) -> bool:
    """The id of a call of the API; threads that work for it inherit it."""
    if request := REQUEST.get():
        record.request = request
    return True
