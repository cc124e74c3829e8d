"""Error replies of Redis: their codes, and whether they concern one key or the whole server.

The first word of an error reply is its code
(https://redis.io/docs/latest/develop/reference/protocol-spec); redis/src/server.c lists them.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from ghmirror_tw.redis.servers_interface import Purpose


class ErrorReplyKind(Enum):
    """Which commands fail, after an error reply that does not concern one key.

    PASSING: a cluster is moving the slot of the keys, or no node has it; the server is healthy.
    """

    WRITING = "writing"
    BOTH = "both"
    PASSING = "passing"


#: Codes with which the server can still be read.
_WRITING: Final = frozenset({"READONLY", "OOM", "MISCONF", "NOREPLICAS"})

_BOTH: Final = frozenset(
    {
        *("LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "NOCLIENTS"),
        *("NOAUTH", "WRONGPASS", "NOPERM", "DENIED"),
    }
)

#: If the user lacks permission for one of these, reading may still work.
_CHANGES: Final = frozenset({Purpose.WRITE, Purpose.REMOVE})

_PASSING: Final = frozenset({"TRYAGAIN", "UNSERVED"})

_CODES: Final = _WRITING | _BOTH | _PASSING | {"MOVED", "ASK"}

#: Up to Redis 6, and in its forks, the error of a command inside a script is wrapped:
#: ``ERR Error running script (call to f_…): @user_script:1: @user_script: 1: -READONLY …``. Redis 7
#: wraps errors that a script raises: ``ERR user_script:1: -READONLY …``. A hyphen precedes error
#: replies of the server itself; texts of a script have none.
_FROM_SCRIPTS: Final = ("Error running script", "user_script", "user_function")
_IN_SCRIPT: Final = re.compile(r"[\s:]-(?=[A-Z])")

#: The longest prefix that decides on a code, in characters.
_PREFIX_LENGTH: Final = 64

#: Missing permissions inside a script, in Redis 6 to 7.0 and in later ones.
_FORBIDDEN_IN_SCRIPT: Final = (
    "The user executing the script can't",
    "ACL failure in script",
)

#: Errors without a code of their own, and CLUSTERDOWN where only one slot is concerned.
_SPECIAL: Final = {
    "ERR max number of clients": "NOCLIENTS",
    "CLUSTERDOWN Hash slot not served": "UNSERVED",
}


def code_of(error: str) -> str:
    """Return the code of an error reply, or of the error inside a script that it wraps."""
    code = _leading_code(error)
    if code != "ERR":
        return code
    if any(text in error for text in _FROM_SCRIPTS):
        for found in _IN_SCRIPT.finditer(error):
            code = _leading_code(error[found.end() : found.end() + _PREFIX_LENGTH])
            if code in _CODES:
                return code
    return "NOPERM" if any(text in error for text in _FORBIDDEN_IN_SCRIPT) else "ERR"


def _leading_code(error: str) -> str:
    for text, code in _SPECIAL.items():
        if error.startswith(text):
            return code
    return error.partition(" ")[0]


def kind_of(code: str, purpose: Purpose) -> ErrorReplyKind | None:
    """Return which commands fail after an error with this *code*.

    None: the error concerns one key, or redirects to another node (MOVED, ASK).
    """
    if code in _WRITING or (code == "NOPERM" and purpose in _CHANGES):
        return ErrorReplyKind.WRITING
    if code in _PASSING:
        return ErrorReplyKind.PASSING
    return ErrorReplyKind.BOTH if code in _BOTH else None


def redacted(error: object) -> str:
    """Return the text of an error reply without the arguments of the command.

    A server without AUTH repeats the password in its error.
    """
    return str(error).partition(", with args")[0]
