"""What schemathesis must know to call the door: what a cursor looks like. It loads this file itself (door.toml)."""

from __future__ import annotations

import schemathesis
from hypothesis import strategies as st

schemathesis.openapi.format("cursor", st.sampled_from(["MA==", "MmFiYw==", "enp6"]))
