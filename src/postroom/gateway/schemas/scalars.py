"""Numbers, flags and days as in JSON Schema: `1` and `1.0` are integers, `true` and `"1"` are not.

Pydantic's own `int`, `float` and `bool` accept all four, which the OpenAPI document would not say. These marks must be last, or
the document loses the bounds: `Annotated[int, Field(ge=1, le=100), WHOLE]`.
"""

from __future__ import annotations

import re

from pydantic import BeforeValidator, StrictBool


def _whole(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("this must be a whole number")  # noqa: TRY004  # pydantic makes a fault of it
    return value


def _number(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("this must be a number")  # noqa: TRY004  # as above
    return value


_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _day(value: object) -> object:
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise ValueError("this must be a day: 2026-12-01")
    return value


WHOLE = BeforeValidator(_whole)
NUMBER = BeforeValidator(_number)
DAY = BeforeValidator(_day)
Flag = StrictBool
