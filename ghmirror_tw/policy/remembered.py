"""What follows from a target alone, and is asked again and again: made once for each."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Concatenate, Final, ParamSpec, TypeVar

#: For so many targets, of so many bytes at most: those that were asked for last.
MOST: Final = 4096
LONGEST_BYTES: Final = 512

P = ParamSpec("P")
R = TypeVar("R")


def remembered(
    make: Callable[Concatenate[bytes, P], R],
) -> Callable[Concatenate[bytes, P], R]:
    """Return a function that remembers what *make* made of a target.

    *make* always makes the same of the same, which never changes. No credential may be in it.
    """
    known = lru_cache(MOST)(make)

    @wraps(make)
    def once(target: bytes, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if len(target) > LONGEST_BYTES:
            return make(target, *args, **kwargs)
        return known(target, *args, **kwargs)  # type: ignore[arg-type]

    return once
