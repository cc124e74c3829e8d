"""What an error reply says: about one key, about the whole server, or that somebody else knows."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from ghmirror_tw.store.redis.interfaces import Purpose


class Trouble(Enum):
    """What does not work any more, by an error reply that does not speak of one key.

    PASSING: a cluster is moving the slot of these keys, or nobody has it; the server is well.
    """

    WRITING = "writing"
    BOTH = "both"
    PASSING = "passing"


#: The server still answers questions (https://redis.io/docs/latest/develop/reference/protocol-spec
#: calls the first word of an error its prefix; these are those of redis/src/server.c).
_WRITING: Final = frozenset({"READONLY", "OOM", "MISCONF", "NOREPLICAS"})

_BOTH: Final = frozenset(
    {
        *("LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "NOCLIENTS"),
        *("NOAUTH", "WRONGPASS", "NOPERM", "DENIED"),
    }
)

_PASSING: Final = frozenset({"TRYAGAIN", "UNSERVED"})

_CODES: Final = _WRITING | _BOTH | _PASSING | {"MOVED", "ASK"}

#: Redis 6 puts what a command inside a script was answered behind where in the script that was.
_IN_SCRIPT: Final = re.compile(r"ERR Error running script .*?@user_script: ?\d+: -?([A-Z]+) ")

#: How scripts say that the user may not: Redis 6 to 7.0, and later ones.
_FORBIDDEN_IN_SCRIPT: Final = (
    "The user executing the script can't",
    "ACL failure in script",
)

#: Errors without a code of their own, and the one that means two things.
_OURS: Final = {
    "ERR max number of clients": "NOCLIENTS",
    "CLUSTERDOWN Hash slot not served": "UNSERVED",
}


def code_of(error: str) -> str:
    """Return the code of an error reply, in capitals: its own, or that from inside a script."""
    for text, code in _OURS.items():
        if error.startswith(text):
            return code
    first = error.partition(" ")[0]
    if first == "ERR":
        found = _IN_SCRIPT.match(error)
        if found is not None and found[1] in _CODES:
            return found[1]
        if any(text in error for text in _FORBIDDEN_IN_SCRIPT):
            return "NOPERM"
    return first


def trouble(code: str, purpose: Purpose) -> Trouble | None:
    """Return what a *code* means for the server as a whole.

    None: it speaks of one key, or of who else has it (MOVED, ASK).
    """
    if code in _WRITING or (code == "NOPERM" and purpose is Purpose.WRITE):
        return Trouble.WRITING
    if code in _PASSING:
        return Trouble.PASSING
    return Trouble.BOTH if code in _BOTH else None
