"""What follows from a target alone, and is asked again and again: made once for each."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Concatenate, Final, ParamSpec, TypeVar
from urllib.parse import unquote_to_bytes

#: For so many targets: those that were asked for last. All that is given has so many bytes at most.
MOST: Final = 4096
LONGEST_BYTES: Final = 512

#: Where one of these is, there may be a credential, as `logs.scrub` knows them.
_HINTS: Final = re.compile(
    rb"(?i)gh[pousr]_|github_pat_|v1\.|eyj|@"
    rb"|token|secret|password|signature|authorization|bearer|basic"
)

P = ParamSpec("P")

R = TypeVar("R")


class _NotRememberedError(Exception):
    """It may hold a credential, or is long."""


def memoised_by_target(
    make: Callable[Concatenate[bytes, P], R],
) -> Callable[Concatenate[bytes, P], R]:
    """Return a function that remembers what *make* made of a target.

    *make* always makes the same of the same, which never changes. What else it is given holds no
    credential. A target that may hold one, or what is long, is not remembered.
    """

    @lru_cache(MOST)
    def known(target: bytes, /, *args: P.args, **kwargs: P.kwargs) -> R:
        given = (target, *args, *kwargs.values())
        size = sum([len(each) for each in given if isinstance(each, bytes)])
        if size > LONGEST_BYTES or _HINTS.search(unquote_to_bytes(target)):
            raise _NotRememberedError
        return make(target, *args, **kwargs)

    @wraps(make)
    def once(target: bytes, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return known(target, *args, **kwargs)  # type: ignore[arg-type]
        except _NotRememberedError:
            return make(target, *args, **kwargs)

    return once
