"""The limit of this process's file descriptors, and how many of them clients may use."""

from __future__ import annotations

import resource
from typing import Final

#: The limit is not raised above this, even where the system allows it.
_MAX_DESCRIPTORS: Final = 65_536
#: Reserved for other files than connections: the log, listening ports, Redis, snapshots.
_RESERVED: Final = 128
#: The least number of connections for clients, also where the limit of the process is lower.
_MIN_CLIENTS: Final = 64


def raise_descriptor_limit() -> int:
    """Raise the limit as far as possible without being root; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = _MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        return target
    return target if soft == resource.RLIM_INFINITY else soft


def max_client_connections(descriptors: int, to_github: int) -> int:
    """Return how many connections clients may have, beside those *to_github*.

    A quarter of the rest is reserved for large uploads, which are stored in files.
    """
    return max((descriptors - to_github - _RESERVED) * 3 // 4, _MIN_CLIENTS)
