"""Log lines of worker processes: time in UTC, process, level, what. They hold no message content and no password."""

from __future__ import annotations

import logging
import time
from typing import TextIO

_FORMAT = "%(asctime)s.%(msecs)03dZ %(process)d %(levelname)s %(name)s: %(message)s"


def write_logs(stream: TextIO, level: int = logging.INFO) -> None:
    """From now on this process logs to `stream`."""
    formatter = logging.Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
