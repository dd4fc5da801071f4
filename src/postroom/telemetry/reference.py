"""Makes docs/reference/logs.md from the source: `python -m postroom.telemetry.reference`."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
_PACKAGE = Path(__file__).parents[1]
_NAME = re.compile(r"[a-z_]+(\.[a-z_]+)+")


class LoggedEvent(NamedTuple):
    """A place in the source that logs an event."""

    name: str
    level: str
    fields: tuple[str, ...]


def logged_events(source: str) -> Iterator[LoggedEvent]:
    """Every call `_log.<level>("name", field=…)` of a module."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LEVELS):
            continue
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "_log" and node.args:
            names = [node.args[0]] if not isinstance(node.args[0], ast.IfExp) else [node.args[0].body, node.args[0].orelse]
            fields = tuple(keyword.arg for keyword in node.keywords if keyword.arg not in (None, "exc_info"))
            for name in names:
                if isinstance(name, ast.Constant) and _NAME.fullmatch(str(name.value)):
                    yield LoggedEvent(str(name.value), _LEVELS[node.func.attr], tuple(field for field in fields if field))


def reference() -> str:
    """The page, in Markdown."""
    events: dict[str, tuple[set[str], dict[str, None]]] = {}
    for path in sorted(_PACKAGE.rglob("*.py")):
        for event in logged_events(path.read_text("utf-8")):
            levels, fields = events.setdefault(event.name, (set(), {}))
            levels.add(event.level)
            fields |= dict.fromkeys(event.fields)
    rows = [
        f"| `{name}` | {', '.join(sorted(levels))} | {', '.join(f'`{field}`' for field in fields)} |"
        for name, (levels, fields) in sorted(events.items())
    ]
    return "\n".join([_HEAD, *rows]) + "\n"


_HEAD = """# Log events

Every line that Postroom logs is an event: a stable name and fields. Alert on names, not on prose. Lines go to standard error, at
`POSTROOM_LOG_LEVEL` and above, in the format that `POSTROOM_LOG_FORMAT` sets:

- `json`, the default unless standard error is a terminal: one object a line with `time`, `level`, `logger`, `process`,
  `event` and the event's fields; `request` inside an HTTP call; `error` and `stack` after an exception. Lines of libraries
  have the event `log` and a `message`.
- `text`, the default on a terminal: the same for people.

```
{"time": "2026-11-24T10:00:00.000Z", "level": "warning", "logger": "postroom.pipeline.sender.batch", "process": 4711,
 "event": "campaign.lease_lost", "campaign": "aerrn5dlmxdsj7di", "reason": "the lease of batch 3 is another worker's"}
```

No field holds message content, a list of addresses, a password or a token. This page is made from the source by `make docs`.

| event | level | fields |
|---|---|---|"""

if __name__ == "__main__":
    sys.stdout.write(reference())
