"""What an error reply says: about one key, about the whole server, or that somebody else knows."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from ghmirror_tw.store.redis.interfaces import Purpose


class Trouble(Enum):
    """What does not work any more, by an error reply that speaks of the server."""

    WRITING = "writing"
    BOTH = "both"


#: The server still answers questions (https://redis.io/docs/latest/develop/reference/protocol-spec
#: calls the first word of an error its prefix; these are those of redis/src/server.c).
_WRITING: Final = frozenset({"READONLY", "OOM", "MISCONF", "NOREPLICAS"})

_BOTH: Final = frozenset(
    {
        *("LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY"),
        *("NOAUTH", "WRONGPASS", "NOPERM", "DENIED"),
    }
)

_CODES: Final = _WRITING | _BOTH | {"MOVED", "ASK"}

#: Redis 6 puts what a command inside a script was answered behind where in the script that was.
_IN_SCRIPT: Final = re.compile(r"ERR Error running script .*?@user_script: ?\d+: -?([A-Z]+) ")

#: How scripts say that the user may not: Redis 6 to 7.0, and later ones.
_FORBIDDEN_IN_SCRIPT: Final = (
    "The user executing the script can't",
    "ACL failure in script",
)

#: No code of their own: too many connections, or a cluster without enough masters.
_PLAIN: Final = ("ERR max number of clients", "ERR max number of clients + cluster connections")


def code_of(error: str) -> str:
    """Return the code of an error reply, in capitals: its own, or that from inside a script."""
    first = error.partition(" ")[0]
    if first != "ERR":
        return first
    found = _IN_SCRIPT.match(error)
    if found is not None and found[1] in _CODES:
        return found[1]
    if any(text in error[:300] for text in _FORBIDDEN_IN_SCRIPT):
        return "NOPERM"
    return "NOCLIENTS" if error.startswith(_PLAIN) else first


def trouble(code: str, purpose: Purpose) -> Trouble | None:
    """Return what a *code* means for the server as a whole.

    None: it speaks of one key, or of who else has it (MOVED, ASK).
    """
    if code in _WRITING or (code == "NOPERM" and purpose is Purpose.WRITE):
        return Trouble.WRITING
    return Trouble.BOTH if code in _BOTH or code == "NOCLIENTS" else None
