"""How many files and connections this process may have open, and how many its clients."""

from __future__ import annotations

import resource
from typing import Final

#: More than this are not asked for, even where the machine would give them.
_MOST: Final = 65_536
#: Kept for what is open besides connections: the log, listening ports, Redis, snapshots.
_KEPT: Final = 128
#: Clients get at least so many connections, whatever the limit is.
_LEAST: Final = 64


def raise_limit() -> int:
    """Have as many descriptors as may be had without being root; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return wanted if soft == resource.RLIM_INFINITY else soft


def for_clients(descriptors: int, to_github: int) -> int:
    """Return how many connections clients may have, so that GitHub can still be asked.

    A quarter of what is left is for large uploads, which are kept in files.
    """
    return max((descriptors - to_github - _KEPT) * 3 // 4, _LEAST)
