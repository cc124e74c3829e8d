"""What an error reply says: about one key, about the whole server, or that somebody else knows."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from ghmirror_tw.redis.servers_interface import Purpose


class ErrorReplyKind(Enum):
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

#: Where the user may not use this command, reading may still work.
_CHANGES: Final = frozenset({Purpose.WRITE, Purpose.REMOVE})

_PASSING: Final = frozenset({"TRYAGAIN", "UNSERVED"})

_CODES: Final = _WRITING | _BOTH | _PASSING | {"MOVED", "ASK"}

#: Up to Redis 6, and in servers made from it, the error of a command inside a script is wrapped:
#: ``ERR Error running script (call to f_…): @user_script:1: @user_script: 1: -READONLY …``. Redis 7
#: wraps what a script raises itself: ``ERR user_script:1: -READONLY …``. The hyphen begins an error
#: reply of the server's own; words of a script have none.
_FROM_SCRIPTS: Final = ("Error running script", "user_script", "user_function")
_IN_SCRIPT: Final = re.compile(r"[\s:]-(?=[A-Z])")

#: No code, and no error of `_OURS`, takes more characters.
_LONGEST: Final = 64

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
    code = _own_code(error)
    if code != "ERR":
        return code
    if any(text in error for text in _FROM_SCRIPTS):
        for found in _IN_SCRIPT.finditer(error):
            code = _own_code(error[found.end() : found.end() + _LONGEST])
            if code in _CODES:
                return code
    return "NOPERM" if any(text in error for text in _FORBIDDEN_IN_SCRIPT) else "ERR"


def _own_code(error: str) -> str:
    """Return the code that an error begins with."""
    for text, code in _OURS.items():
        if error.startswith(text):
            return code
    return error.partition(" ")[0]


def trouble(code: str, purpose: Purpose) -> ErrorReplyKind | None:
    """Return what a *code* means for the server as a whole.

    None: it speaks of one key, or of who else has it (MOVED, ASK).
    """
    if code in _WRITING or (code == "NOPERM" and purpose in _CHANGES):
        return ErrorReplyKind.WRITING
    if code in _PASSING:
        return ErrorReplyKind.PASSING
    return ErrorReplyKind.BOTH if code in _BOTH else None
