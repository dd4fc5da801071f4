"""Structured logs: every line is an event with a stable dotted name and fields, so that a program can alert on it.

    _log = event_logger(__name__)
    _log.warning("campaign.lease_lost", campaign=ref.campaign, reason=str(error))

Names are `subject.what_happened` in the past tense (`relay.unreachable`, `callback.endpoint_disabled`); they and their fields are
part of what users rely on. Fields hold ids, counts and reasons, never message content, addresses' lists, passwords or tokens.

Two formats, chosen where logging starts (`write_logs`):

- `json`: one object a line: `time`, `level`, `logger`, `process`, `request` (inside an HTTP call), `event` and the fields. What
  libraries log has `event: "log"` and a `message`. An exception adds `error` and `stack`.
- `text`: the same for people: `2026-11-24T10:00:00.000Z 4711 WARNING postroom.pipeline: campaign.lease_lost campaign=… reason=…`.

A field may quote text from outside (an SMTP reply, a provider's id). It never starts a line of its own and never carries control
characters to a terminal: they are escaped in both formats.
"""

from __future__ import annotations

import json
import logging
import re
import time
from contextvars import ContextVar
from typing import Any, Final, TextIO

REQUEST: ContextVar[str] = ContextVar("postroom_request", default="")
"""The id of the HTTP request that is being answered; threads that work for it inherit it. Empty elsewhere."""
_CHATTY: Final = ("mail.log",)
"""Libraries' loggers that report every step: aiosmtpd's has each line of a dialogue, addresses included."""
_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_PLAIN: Final = re.compile(r'[^\s="]+')


class EventLogger:
    """Logs events under one logger name. Fields are keyword arguments; their values become JSON, or `str()` of them."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, /, **fields: object) -> None:
        """For a developer's eyes: off by default."""
        self._emit(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Something normal happened."""
        self._emit(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Something failed that is tried again or worked around."""
        self._emit(logging.WARNING, event, fields)

    def error(self, event: str, /, *, exc_info: BaseException | bool | None = None, **fields: object) -> None:
        """Something failed and needs a person, or will stay failed. `exc_info`: the exception, for its traceback."""
        self._emit(logging.ERROR, event, fields, exc_info)

    def exception(self, event: str, /, **fields: object) -> None:
        """`error` with the traceback of the exception that is being handled."""
        self._emit(logging.ERROR, event, fields, True)

    def _emit(self, level: int, event: str, fields: dict[str, object], exc_info: BaseException | bool | None = None) -> None:
        if self._logger.isEnabledFor(level):
            extra = {"event": event, "fields": fields}
            self._logger.log(level, "%s", _Rendered(event, fields), exc_info=exc_info, extra=extra, stacklevel=3)


def event_logger(name: str) -> EventLogger:
    """The logger of a module: `event_logger(__name__)`."""
    return EventLogger(name)


def write_logs(stream: TextIO, level: int | str = logging.INFO, *, format: str = "text") -> None:  # noqa: A002
    """From now on this process logs to `stream`.

    `level`: a number or name of the standard library, in any case. `format`: `json`, `text`, or `auto`: text on a terminal, JSON
    elsewhere.
    """
    level = logging.getLevelName(level.upper()) if isinstance(level, str) else level
    is_json = format == "json" or (format == "auto" and not stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JsonFormatter() if is_json else _TextFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))


class _Rendered:
    """An event as text, made only when a handler asks for it."""

    __slots__ = ("_event", "_fields")

    def __init__(self, event: str, fields: dict[str, object]) -> None:
        self._event, self._fields = event, fields

    def __str__(self) -> str:
        return " ".join([self._event, *(f"{name}={_quoted(value)}" for name, value in self._fields.items())])


class _TextFormatter(logging.Formatter):
    """A line for people; a traceback keeps its lines."""

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s.%(msecs)03dZ %(process)d %(levelname)s %(name)s%(request)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
        )
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        request = REQUEST.get()
        record.request = f" [{request}]" if request else ""
        record.message = _escaped(record.message)
        return super().formatMessage(record)


class _JsonFormatter(logging.Formatter):
    """One JSON object a line; json.dumps escapes whatever could end the line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
        }
        if request := REQUEST.get():
            line["request"] = request
        event = getattr(record, "event", None)
        line["event"] = event or "log"
        if event is None:
            line["message"] = record.getMessage()
        else:
            line |= {name: value for name, value in record.__dict__["fields"].items() if name not in line}
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
            line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _quoted(value: object) -> str:
    """A value that a person, and `key=value` parsers, read as one."""
    text = _escaped(str(value))
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
