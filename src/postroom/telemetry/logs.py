"""Log lines: time in UTC, process, level, where, for which request, what. They hold no message content and no password.

What strangers wrote may be quoted in one (a server's words, an id of a provider's): it never begins a line of its own, nor moves
the cursor of whoever reads.
"""

from __future__ import annotations

import logging
import re
import time
from contextvars import ContextVar
from typing import TextIO

REQUEST: ContextVar[str] = ContextVar("postroom_request", default="")
"""The id of the request that is being answered; threads that work for it inherit it. Empty elsewhere."""

_CHATTY = ("mail.log",)
"""Loggers of libraries that tell every step: aiosmtpd's has each line of a dialogue, addresses included."""
_FORMAT = "%(asctime)s.%(msecs)03dZ %(process)d %(levelname)s %(name)s%(request)s: %(message)s"

_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class _Formatter(logging.Formatter):
    """Line ends and other control characters of a message shown as Python writes them; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        record.message = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], record.message)
        return super().formatMessage(record)


def write_logs(stream: TextIO, level: int = logging.INFO) -> None:
    """From now on this process logs to `stream`."""
    formatter = _Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%S")
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
