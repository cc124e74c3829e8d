"""Files that are dialogues, and files that are none: the line that is wrong, and why."""

from __future__ import annotations

import pytest

from tests.dialogues.parsing import (
    ClientReceives,
    ClientSends,
    DialogueSyntaxError,
    FieldLine,
    GitHubSends,
    SecondsPass,
    Which,
    parse,
)

TITLE = "A client gets something.\n\n"


def test_file_has_a_sentence_options_and_steps() -> None:
    """A file is a sentence, options and steps; messages have a first line, fields and content."""
    dialogue = parse(
        "a.txt",
        TITLE
        + "# a comment\n"
        + "[github] stale_after = 5s\n"
        + "store: redis\n"
        + "\n"
        + "alice sends to B\n"
        + "    PUT /x HTTP/1.0\n"
        + "    Accept: a/b\n"
        + "    no Host\n"
        + "\n"
        + "    # content\n"
        + "\n"
        + '    repeat 3 "ab"\n'
        + "\n"
        + "alice receives for PUT /x\n"
        + "    5xx\n"
        + "    no content\n"
        + "1.5 seconds pass\n"
        + "github sends to alice\n"
        + "    200 Fine\n",
    )
    assert dialogue.title == "A client gets something."
    (option,) = dialogue.options
    assert (option.section, option.name, option.value) == ("github", "stale_after", "5s")
    assert dialogue.stores == ("redis",)
    assert dialogue.replicas == ("A", "B")
    sends, receives, passes, responses = dialogue.steps
    assert isinstance(sends, ClientSends)
    assert (sends.line, sends.client, sends.replica) == (7, "alice", "B")
    assert sends.request.start == ("PUT", "/x", "HTTP/1.0")
    assert sends.request.fields == (FieldLine("Accept", "a/b", 9), FieldLine("Host", None, 10))
    assert sends.request.content == "# content\n\nababab"
    assert sends.request.content_line == 12
    assert isinstance(receives, ClientReceives)
    assert receives.which == Which("PUT", "/x")
    assert receives.response.empty
    assert receives.response.content is None
    assert passes == SecondsPass(19, 1.5)
    assert isinstance(responses, GitHubSends)
    assert responses.which == Which(client="alice")
    assert responses.response is not None
    assert responses.response.start == ("200", "Fine")


@pytest.mark.parametrize(
    ("steps", "stores"),
    [
        ("alice waits\n", ("memory", "redis")),
        ("A restarts\n", ("memory", "redis")),
        ("B restarts\n", ("redis",)),
        ("redis stops\n", ("redis",)),
        ("store: memory\nalice waits\n", ("memory",)),
    ],
)
def test_dialogue_selects_its_stores(steps: str, stores: tuple[str, ...]) -> None:
    """Both stores run, except where a step needs Redis, or the file names one."""
    assert parse("a.txt", TITLE + steps).stores == stores


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("", 1, "no behaviour"),
        ("[github] timeout = 1s\n", 1, "no behaviour"),
        ("alice sends\n    GET /\n", 1, "a step; expected one sentence"),
        (TITLE, 2, "no steps"),
        (TITLE + "    GET /\n", 3, "belongs to no step"),
        (TITLE + "[github] timeout\nalice waits\n", 3, "no option; expected [section]"),
        (TITLE + "alice waits\n[github] timeout = 1s\n", 4, "an option after a step"),
        (TITLE + "store: disk\n", 3, "store 'disk'; expected store: memory"),
        (TITLE + "alice waits\nstore: redis\n", 4, "store: after a step"),
        (TITLE + "store: redis\nstore: redis\n", 4, "a second store:"),
        (TITLE + "store: memory\nredis stops\n", 3, "memory; expected redis"),
        (TITLE + "alice sings\n", 3, "'alice sings' is no step; expected a step: NAME sends"),
        (TITLE + "alice waits\n    200\n", 4, "nothing belongs below 'alice waits'"),
        (TITLE + "Alice sends\n    GET /\n", 3, "'Alice' is no client"),
        (TITLE + "redis waits\n", 3, "'redis' is no client"),
        (TITLE + "alice sends\n\n", 3, "no request; expected a request below"),
        (TITLE + "alice sends\n\n    GET /\n", 4, "a blank line; expected the message"),
        (TITLE + "alice sends\n  GET /\n", 4, "expected an indentation of four spaces"),
        (TITLE + "alice sends\n    200\n", 4, "no request line; expected a request"),
        (TITLE + "alice sends to D\n    GET /\n", 3, "'to D'; expected to A, to B or to C"),
        (TITLE + "D restarts\n", 3, "replica 'D'; expected A, B or C"),
        (TITLE + "D restarts with\n    [a] b = c\n", 3, "replica 'D'; expected A, B or C"),
        (TITLE + "A restarts with\n", 3, "no options; expected some below"),
        (TITLE + "A restarts with\n    a = b\n", 4, "no option; expected [section] name = value"),
        (TITLE + "alice receives\n    GET /\n", 4, "no status; expected a response"),
        (TITLE + "alice receives to bob\n    200\n", 3, "'to bob'; expected for METHOD TARGET"),
        (TITLE + "github sends to\n    200\n", 3, "'to'; expected to METHOD TARGET or to CLIENT"),
        (TITLE + "github sends\n    5xx\n", 4, "no status"),
        (TITLE + "github sends more\n", 3, "no content; expected some below"),
        (TITLE + "alice sends more to B\n    x\n", 3, "expected only alice sends more"),
        (TITLE + "github receives now\n    GET /\n", 3, "'now'; expected only github receives"),
        (TITLE + "github receives\n    GET / HTTP/1.1\n", 4, "an HTTP version"),
        (TITLE + "github sends\n    200\n    ETag\n", 5, "'ETag' is no field"),
        (TITLE + "github sends\n    200\n    no content\n", 5, "expected that only in what is"),
        (
            TITLE + "alice receives\n    200\n    no content\n\n    x\n",
            7,
            "content after no content",
        ),
        (TITLE + "github sends\n    200\n\n    repeat x\n", 6, 'expected repeat N "text"'),
        (TITLE + "status page shows fire\n", 3, "no status; expected one of operational"),
    ],
)
def test_error_names_file_line_and_expectation(text: str, line: int, why: str) -> None:
    """The error names the file, the line, and what was expected."""
    with pytest.raises(DialogueSyntaxError) as caught:
        parse("a.txt", text)
    assert str(caught.value).startswith(f"a.txt:{line}: ")
    assert caught.value.line == line
    assert why in caught.value.why
