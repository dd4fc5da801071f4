"""What schemathesis must know to call the door, besides the document. It loads this file itself (door.toml)."""

from __future__ import annotations

import itertools
import re
from typing import Any

import schemathesis
from hypothesis import strategies as st

schemathesis.openapi.format("cursor", st.sampled_from(["MA==", "MmFiYw==", "enp6"]))

_KEY = re.compile(r"[ -~]{1,255}")
_CALLS = itertools.count()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """A good `Idempotency-Key` is another each time: with one of an earlier call that call's answer would come back, of a record that
    may be gone by now, and nothing of this call would be looked at. Repetitions are tested by themselves (test_door_repeated.py)."""
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and _KEY.fullmatch(key):
        case.headers["Idempotency-Key"] = f"call {next(_CALLS)}"
