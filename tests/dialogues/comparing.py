"""Comparison of the expected and the received message, and the report of a difference."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.dialogues.parsing import INDENT, FieldLine, Message
from tests.dialogues.peers import ReceivedMessage, combined


class DialogueError(Exception):
    """A dialogue failed: *line* of the file, *why*, and the actual *message*."""

    def __init__(self, line: int, why: str, message: str = "") -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line
        self.why = why
        self.message = message


def report(path: str, lines: tuple[str, ...], line: int, why: str, message: str = "") -> str:
    """Return the file with the differing line marked, and the actual message."""
    shown = [f"{path}:{line}: {why}", ""]
    for number, text in enumerate(lines, start=1):
        mark = ">" if number == line else " "
        shown.append(f"{mark} {number:3}  {text}".rstrip())
    if message:
        shown += ["", "What came instead:", *(f"{INDENT}{each}" for each in message.splitlines())]
    return "\n".join(shown)


def alike(expected: str, value: str) -> bool:
    """Return whether a value is as expected, where ``...`` matches any text."""
    if "..." not in expected:
        return expected == value
    pattern = ".*".join(map(re.escape, expected.split("...")))
    return re.fullmatch(pattern, value, re.DOTALL) is not None


def differing_field(
    expected: Message,
    message: ReceivedMessage,
    value: Callable[[str], str],
    *,
    spelled: bool = False,
) -> tuple[int, str] | None:
    """Return the line of the first field that is not as expected, and why; None: all are.

    *spelled*: their names have to be spelled as expected, too.
    """
    for each in expected.fields:
        actual = combined(message.lines, each.name)
        if each.value is None:
            if actual is not None:
                return each.line, f"there is {each.name}: {actual}, expected none"
            continue
        expected_value = each.value if each.value == "*" else value(each.value)
        if actual is None:
            return each.line, f"there is no {each.name}, expected {each.name}: {expected_value}"
        if spelled and not any(name == each.name for name, _ in message.lines):
            return each.line, f"{each.name} is there, but spelled otherwise"
        if expected_value == "*" or alike(expected_value, actual):
            continue
        if each.name.lower() == "if-none-match" and alike(_strong(expected_value), _strong(actual)):
            continue
        if _is_one_of_several(expected, each, message, expected_value):
            continue
        return each.line, f"{each.name} is {actual}, expected {expected_value}"
    return None


def _strong(tags: str) -> str:
    return tags.replace("W/", "")


def _is_one_of_several(
    expected: Message, line: FieldLine, message: ReceivedMessage, expected_value: str
) -> bool:
    """Return whether a repeated field has this value at this position."""
    same = [each for each in expected.fields if each.name.lower() == line.name.lower()]
    values = [value for name, value in message.lines if name.lower() == line.name.lower()]
    return len(same) == len(values) > 1 and alike(expected_value, values[same.index(line)])


def differing_line(expected: str, actual: str) -> int:
    """Return the number, from 0, of the first line of content that differs."""
    pairs = zip(expected.split("\n"), actual.split("\n"), strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if not alike(one, other)), 0)
