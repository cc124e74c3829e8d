"""Error replies of several versions of Redis."""

from __future__ import annotations

import pytest

from ghmirror_tw.redis.error_codes import ErrorReplyKind, code_of, kind_of
from ghmirror_tw.redis.servers_interface import Purpose

READ, WRITE = Purpose.READ, Purpose.WRITE
BOTH, WRITING, PASSING = ErrorReplyKind.BOTH, ErrorReplyKind.WRITING, ErrorReplyKind.PASSING

SIX = "ERR Error running script (call to f_b1946ac92492d2347c6235b4d2611184b1946ac9): "


@pytest.mark.parametrize(
    ("error", "code", "what"),
    [
        ("LOADING Redis is loading the dataset in memory", "LOADING", BOTH),
        ("NOAUTH Authentication required.", "NOAUTH", BOTH),
        ("WRONGPASS invalid username-password pair or user is disabled.", "WRONGPASS", BOTH),
        ("MASTERDOWN Link with MASTER is down and …", "MASTERDOWN", BOTH),
        ("CLUSTERDOWN The cluster is down", "CLUSTERDOWN", BOTH),
        ("BUSY Redis is busy running a script.", "BUSY", BOTH),
        ("ERR max number of clients reached", "NOCLIENTS", BOTH),
        ("READONLY You can't write against a read only replica.", "READONLY", WRITING),
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM", WRITING),
        ("MISCONF Redis is configured to save RDB snapshots, but …", "MISCONF", WRITING),
        ("NOREPLICAS Not enough good replicas to write.", "NOREPLICAS", WRITING),
        ("CLUSTERDOWN Hash slot not served", "UNSERVED", PASSING),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "TRYAGAIN", PASSING),
        ("MOVED 3999 127.0.0.1:6381", "MOVED", None),
        ("ASK 3999 127.0.0.1:6381", "ASK", None),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "WRONGTYPE", None),
        ("NOSCRIPT No matching script.", "NOSCRIPT", None),
        ("ERR wrong number of arguments for 'get' command", "ERR", None),
        ("ERR READONLY is the argument", "ERR", None),
        ("BUSYKEY Target key name already exists.", "BUSYKEY", None),
        # inside a script: Redis 7 ends with where it was, Redis 6 begins with it
        ("OOM command not allowed. script: b1946, on @user_script:1.", "OOM", WRITING),
        (f"{SIX}@user_script:1: -OOM command not allowed when used memory", "OOM", WRITING),
        (f"{SIX}@user_script:12: -READONLY You can't write against", "READONLY", WRITING),
        (f"{SIX}@user_script:1: -LOADING Redis is loading", "LOADING", BOTH),
        (f"{SIX}@user_script:3: @user_script: 3: -READONLY You can't", "READONLY", WRITING),
        (f"{SIX}user_script:3: -READONLY You can't write against", "READONLY", WRITING),
        (f"{SIX}-READONLY You can't write against a read only replica.", "READONLY", WRITING),
        ("ERR Error running script: -READONLY", "READONLY", WRITING),
        ("ERR user_script:1: -MISCONF Errors writing to the AOF file", "MISCONF", WRITING),
        (f"{SIX}@user_script:1: -NOREPLICAS Not enough good replicas", "NOREPLICAS", WRITING),
        (f"{SIX}@user_script:1: -MASTERDOWN Link with MASTER is down", "MASTERDOWN", BOTH),
        (f"{SIX}@user_script:1: -CLUSTERDOWN The cluster is down", "CLUSTERDOWN", BOTH),
        (f"{SIX}@user_script:1: -NOAUTH Authentication required.", "NOAUTH", BOTH),
        (f"{SIX}@user_script:1: -NOPERM this user has no permissions", "NOPERM", BOTH),
        (f"{SIX}@user_script:1: -CLUSTERDOWN Hash slot not served", "UNSERVED", PASSING),
        (f"{SIX}@user_script:1: -ERR max number of clients reached", "NOCLIENTS", BOTH),
        (f"{SIX}@user_script:1: -WRONGTYPE Operation against", "ERR", None),
        (f"{SIX}@user_script:1: user_script:1: OOM is my own", "ERR", None),
        ("", "", None),
    ],
)
def test_kinds_of_errors(error: str, code: str, what: ErrorReplyKind | None) -> None:
    """They concern the server, writes, or one key; errors made by a script are its own."""
    assert code_of(error) == code
    assert kind_of(code, READ) is what


@pytest.mark.parametrize(
    "error",
    [
        "NOPERM this user has no permissions to run the 'set' command",
        "ERR The user executing the script can't run this command or subcommand script: b19",
        f"{SIX}@user_script:1: The user executing the script can't run this command",
        "ERR ACL failure in script: User m has no permissions to run the 'set' command",
    ],
)
def test_missing_permissions(error: str) -> None:
    """Without permission to write, reads may work; not the other way round."""
    assert code_of(error) == "NOPERM"
    assert kind_of("NOPERM", WRITE) is WRITING
    assert kind_of("NOPERM", READ) is BOTH
