"""Log lines: time in UTC, process, level, where, for which request, what. They hold no message content and no password."""

from __future__ import annotations

import logging
import time
from contextvars import ContextVar
from typing import TextIO

REQUEST: ContextVar[str] = ContextVar("postroom_request", default="")
"""The id of the request that is being answered; threads that work for it inherit it. Empty elsewhere."""

_CHATTY = ("mail.log",)
"""Loggers of libraries that tell every step: aiosmtpd's has each line of a dialogue, addresses included."""
_FORMAT = "%(asctime)s.%(msecs)03dZ %(process)d %(levelname)s %(name)s%(request)s: %(message)s"


def write_logs(stream: TextIO, level: int = logging.INFO) -> None:
    """From now on this process logs to `stream`."""
    formatter = logging.Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    handler.addFilter(_name_request)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))


def _name_request(record: logging.LogRecord) -> bool:
    request = REQUEST.get()
    record.request = f" [{request}]" if request else ""
    return True
