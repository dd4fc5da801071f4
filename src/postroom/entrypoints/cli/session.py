"""What every command does around its own work: settings read, installation opened, errors said in one line, exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from postroom.errors import Invalid, PostroomError
from postroom.settings import FILE_NAME, Settings
from postroom.wiring import Container, open_app

DONE = 0
FAILED = 1
BAD_INPUT = 2
NOT_ALL_SENT = 3


def load_settings(**overrides: object) -> Settings:
    """From the environment, `postroom.toml` beside it, and the command line's own options. `Invalid`."""
    toml = Path(FILE_NAME)
    return Settings.load(os.environ, toml if toml.exists() else None, overrides)


@contextmanager
def session(**overrides: object) -> Iterator[Container]:
    """The installation, opened for one command. `overrides`: settings by field name; None is "not given"."""
    with open_app(load_settings(**overrides)) as postroom:
        yield postroom


def exit_code(error: PostroomError) -> int:
    """What the process ends with."""
    return BAD_INPUT if isinstance(error, Invalid) else FAILED


def say(text: str) -> None:
    """A line for the person, on standard error: standard output is for data. Nobody listening, or a full disk where it is
    kept, stops no campaign and no server."""
    person: TextIO | None = sys.stderr
    with suppress(OSError):
        if person is not None:  # closed by whoever started us
            person.write(text + "\n")
            person.flush()
