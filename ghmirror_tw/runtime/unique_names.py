"""Names that are unique in the fleet, for owners of locks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from uuid import uuid4


def unique_names() -> Callable[[], str]:
    """Return a function that returns a new name each time."""
    prefix, numbers = uuid4().hex, count(1)
    return lambda: f"{prefix}-{next(numbers)}"
