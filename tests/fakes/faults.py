"""A fault at a chosen call: the n-th call to any of some wrapped objects dies before or after it took effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")


class Killed(BaseException):
    """What `kill -9` is to a test: nothing in the program may catch it."""


class Faults:
    """Counts the calls of everything it wraps; at the `at`-th (from 1) runs `happens`, before or after the call's effect."""

    def __init__(self, at: int | None = None, *, after: bool = False, happens: Callable[[], None] | None = None) -> None:
        self.calls: list[str] = []
        self._at = at
        self._after = after
        self._happens = happens or _die

    def wrap(self, target: T) -> T:
        """`target`, counted."""
        return cast("T", _Wrapped(self, target))

    def call(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One call of a wrapped object's method."""
        self.calls.append(name)
        here = len(self.calls) == self._at
        if here and not self._after:
            self._happens()
        answer = method(*args, **kwargs)
        if here and self._after:
            self._happens()
        return answer


class _Wrapped:
    def __init__(self, faults: Faults, target: object) -> None:
        self._faults = faults
        self._target = target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value):
            return value
        return lambda *args, **kwargs: self._faults.call(f"{type(self._target).__name__}.{name}", value, *args, **kwargs)


def _die() -> None:
    raise Killed
