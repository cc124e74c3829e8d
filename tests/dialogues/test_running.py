"""Dialogues with a difference fail at its line, and report the actual message."""

from __future__ import annotations

import pytest

from tests.dialogues.comparing import DialogueError, report
from tests.dialogues.parsing import parse
from tests.dialogues.replicas import SharedRedis
from tests.dialogues.running import run

FIRST = """A client gets something.

alice sends
    GET /x
github receives
    GET /x
github sends
    200
    X-More: 1
    X-More: 2
    ETag: computed

    {"a":1}
alice receives
    200
"""
LAST = FIRST.count("\n")


def run_text(redis: SharedRedis, text: str, store: str = "memory") -> DialogueError | None:
    """Run a dialogue without patience for later events."""
    return run(parse("a.txt", text), store, redis, patience_s=0.0)


@pytest.mark.parametrize(
    "more",
    [
        "",
        '    ETag: computed\n    X-More: 1, 2\n    no Age\n    Via: *\n\n    {"a":1}\n',
        "    X-More: 1\n    X-More: 2\n    Cache-Status: ghmirror; ...; stored\n\n    {...}\n",
        "nothing reaches github\n",
    ],
)
def test_matching_dialogue_passes(dialogue_redis: SharedRedis, more: str) -> None:
    """Fields match by value, presence, absence and pattern, and repeated lines separately."""
    for store in ("memory", "redis"):
        assert run_text(dialogue_redis, FIRST + more, store) is None


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        (FIRST.replace("receives\n    200", "receives\n    404"), LAST, "the status is 200"),
        (FIRST + '    ETag: "other"\n', LAST + 1, 'ETag is "'),
        (FIRST + "    ETag: computed\n    Age: 1\n", LAST + 2, "there is no Age, expected Age: 1"),
        (FIRST + "    etag: *\n", LAST + 1, "etag is there, but spelled otherwise"),
        (FIRST + "    Age: *\n", LAST + 1, "there is no Age"),
        (FIRST + "    no ETag\n", LAST + 1, "there is ETag"),
        (FIRST + "    X-More: 2\n    X-More: 1\n", LAST + 1, "X-More is 1, 2, expected 2"),
        (FIRST + "    no content\n", LAST, "there is content"),
        (FIRST + '\n    {"a":2}\n', LAST + 2, "the content differs"),
        (FIRST + '\n    {"a":1}\n\n    more\n', LAST + 2, "the content differs"),
        (FIRST + "alice receives\n    200\n", LAST + 1, "alice has sent no request"),
        (FIRST + "alice waits\n", LAST + 1, "alice has sent no request"),
        (FIRST + "github receives\n    GET /x\n", LAST + 2, "no request reached GitHub"),
        (FIRST + "github sends more\n    x\n", LAST + 1, "that has a part of its response"),
        (FIRST + "alice sends more\n    x\n", LAST + 1, "alice has sent no request"),
        (FIRST + "github sends\n    200\n", LAST + 1, "GitHub has received no request"),
        (FIRST.replace("receives\n    GET /x", "receives\n    GET /y"), 6, "another request"),
        (FIRST.replace("receives\n    GET /x", "receives\n    PUT /x"), 6, "another request"),
        (
            FIRST.replace("receives\n    GET /x", "receives\n    GET /x\n    no User-Agent"),
            7,
            "there is User-Agent: alice, expected none",
        ),
        (
            FIRST.replace("receives\n    GET /x", "receives\n    GET /x\n    Authorization: *y"),
            7,
            "Authorization is token alice, expected *y",
        ),
        (FIRST.replace("    GET /x\ngithub", "    GET /x\nalice waits\ngithub", 1), None, ""),
        (FIRST.replace("alice receives\n    200\n", "alice waits\n"), LAST - 1, "has a response"),
        (FIRST.replace("alice receives\n    200\n", ""), 3, "no response that was received"),
        (FIRST + "bob sends\n    GET /y\n", LAST + 1, "a request reached GitHub"),
        (
            FIRST + "bob sends\n    GET /y\nnothing reaches github\n",
            LAST + 3,
            "a request reached GitHub that no step receives",
        ),
        (
            FIRST + "bob sends\n    GET /y\ngithub receives\n    GET /y\n",
            LAST + 3,
            "this request is unanswered",
        ),
        (
            FIRST + "bob sends\n    GET /y\ngithub receives\n    GET /y\nbob receives\n    200\n",
            LAST + 5,
            "no response has come",
        ),
        (
            FIRST + "bob sends\n    GET /y\nbob is cut off\n",
            LAST + 3,
            "the connection is open",
        ),
        (
            FIRST.replace("alice receives\n    200", "alice is cut off"),
            LAST - 1,
            "a whole response",
        ),
        (FIRST.replace("\n\n", "\n\n[github] timeouts = 5s\n", 1), 3, "unknown option"),
        (FIRST.replace("\n\n", "\n\n[gitbug] timeout = 5s\n", 1), 3, "unknown section"),
        (FIRST.replace("\n\n", "\n\n[github] timeout = long\n", 1), 3, "expected a duration"),
    ],
)
def test_first_difference_ends_the_dialogue(
    dialogue_redis: SharedRedis, text: str, line: int | None, why: str
) -> None:
    """The first difference ends the dialogue with a report."""
    wrong = run_text(dialogue_redis, text)
    if line is None:
        assert wrong is None
        return
    assert wrong is not None
    assert why in wrong.why
    assert wrong.line == line


def test_report_marks_the_line() -> None:
    """The report shows the file with line numbers, the marked line, and the actual message."""
    shown = report("a.txt", ("one", "", "two"), 3, "it differs", "this\nthat")
    assert shown.splitlines() == [
        "a.txt:3: it differs",
        "",
        "    1  one",
        "    2",
        ">   3  two",
        "",
        "What came instead:",
        "    this",
        "    that",
    ]


def test_timers_fire_in_order_as_time_passes(dialogue_redis: SharedRedis) -> None:
    """A deadline ends between two others, and no timer fires early."""
    text = """A request has a deadline.

[github] timeout = 30s

alice sends
    GET /x
github receives
    GET /x
29 seconds pass
alice waits
bob sends
    GET /y
github receives
    GET /y
2 seconds pass
alice receives
    504
bob waits
github sends
    204
bob receives
    204
"""
    for store in ("memory", "redis"):
        assert run_text(dialogue_redis, text, store) is None


def test_time_passes_in_redis(dialogue_redis: SharedRedis) -> None:
    """Keys in Redis expire as the dialogue's time passes."""
    text = (
        """Stored records have their time to live.

[redis] ttl = 1h
[cache] stale_limit = 1h
"""
        + FIRST.partition("\n\n")[2]
        + """
SECONDS seconds pass
A restarts
bob sends
    GET /x
github receives
    GET /x
    If-None-Match: computedWHICH
github sends
    304
bob receives
    200
"""
    )
    for seconds, which in (("3000", ""), ("3000000", " of []")):
        dialogue = text.replace("SECONDS", seconds).replace("WHICH", which)
        assert run_text(dialogue_redis, dialogue, "redis") is None


def test_redis_restarts_after_a_dialogue_that_stops_it(dialogue_redis: SharedRedis) -> None:
    """Redis restarts even if the dialogue fails."""
    redis = dialogue_redis
    wrong = run_text(redis, "Redis is away.\n\nredis stops\nalice waits\n", "redis")
    assert wrong is not None
    assert wrong.line == 4
    assert redis.runs
    assert run_text(redis, FIRST, "redis") is None
