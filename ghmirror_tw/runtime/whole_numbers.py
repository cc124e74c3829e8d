"""Whole numbers in input from outside: requests, responses, replies of Redis."""

from __future__ import annotations

from typing import Final

#: No count, size or time has more digits. `int` refuses more than 4,300 digits, and `float`
#: overflows from 309 on.
MAX_DIGITS: Final = 18


def whole_number(value: bytes | str | None, most: int | None = None) -> int | None:
    """Return *value* as a number; None where it is not one, or exceeds *most*.

    A number has up to `MAX_DIGITS` ASCII digits and nothing else: no sign, space or underscore.
    """
    if value is None or len(value) > MAX_DIGITS or not (value.isascii() and value.isdigit()):
        return None
    number = int(value)
    return number if most is None or number <= most else None
