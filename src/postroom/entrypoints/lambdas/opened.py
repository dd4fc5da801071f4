"""The installation, opened once a sandbox: Lambda keeps a process for many calls, and freezes it between them."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import cache

from postroom.settings import Settings
from postroom.wiring import Postroom, open_postroom

_KEPT = ExitStack()
"""Open for as long as the process is there: Lambda tells nobody when it ends one."""


@cache
def postroom() -> Postroom:
    """As the function's environment describes it. `Invalid`."""
    return _KEPT.enter_context(open_postroom(Settings.load(os.environ, None, {})))
