"""Kinds of values: how the text of an option becomes a number, a word, a switch or a secret.

A kind parses one text into one value. It raises `ValueError` with the fault of the text; its
`expected` describes valid texts. No message repeats a value that could contain a password.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final, Generic, Literal, TypeVar

from attrs import frozen

from ghmirror_tw.http.path_globs import check_path_pattern

T = TypeVar("T")

_UNITS_MS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_DURATION: Final = re.compile(
    "".join(rf"(?:(?P<{unit}>[0-9]{{1,9}}(?:\.[0-9]{{1,6}})?){unit})?" for unit in _UNITS_MS)
)
_LONGEST_S: Final = 3650 * 86_400.0
_UNITS_BYTES: Final[Mapping[str, int]] = {
    "b": 1,
    **{prefix + "b": 1000 ** (power + 1) for power, prefix in enumerate("kmgt")},
    **{prefix + "ib": 1 << 10 * (power + 1) for power, prefix in enumerate("kmgt")},
}
_SIZE: Final = re.compile(r"([0-9]{1,15})([a-z]+)", re.IGNORECASE)


@frozen
class ValueKind(Generic[T]):
    """A function that parses a text into a value, and a description of valid texts."""

    parse: Callable[[str], T]
    expected: str


def optional(kind: ValueKind[T], empty: T) -> ValueKind[T]:
    """Return a kind that also accepts an empty text, whose value is *empty*."""
    return ValueKind(lambda text: kind.parse(text) if text else empty, f"{kind.expected}, or empty")


#: The separators of list entries; a comma after a backslash belongs to its entry.
_BETWEEN_ENTRIES: Final = re.compile(r"(?<!\\),|\n")


def entries(text: str) -> list[str]:
    """Return the entries of a list, which are separated by line breaks or commas."""
    return [entry for raw in _BETWEEN_ENTRIES.split(text) if (entry := raw.strip())]


def seconds(text: str) -> float:
    """Return the seconds of a duration such as ``1h30m`` or ``250ms``."""
    found = _DURATION.fullmatch(text)
    if text == "0":
        return 0.0
    if not text or found is None:
        raise ValueError(f"{text!r} is not a duration")
    parts = {unit: number for unit, number in found.groupdict().items() if number is not None}
    total = sum(Decimal(number) * _UNITS_MS[unit] for unit, number in parts.items())
    return float(Decimal(total) / 1000)


def duration(minimum: str = "1ms") -> ValueKind[float]:
    """Return the kind of durations from *minimum* to ten years, in seconds."""
    least_s = seconds(minimum)

    def parse(text: str) -> float:
        value_s = seconds(text)
        if value_s < least_s:
            raise ValueError(f"{text!r} is too short")
        if value_s > _LONGEST_S:
            raise ValueError(f"{text!r} is too long")
        return value_s

    return ValueKind(parse, f"a duration such as 250ms, 30s, 15m, 7d, of {minimum} to 3650d")


def size(minimum: str = "0") -> ValueKind[int]:
    """Return the kind of sizes of at least *minimum*, in bytes."""

    def size_bytes(text: str) -> int:
        found = _SIZE.fullmatch(text)
        if text == "0":
            return 0
        if found is None or (unit := found[2].lower()) not in _UNITS_BYTES:
            raise ValueError(f"{text!r} is not a size")
        return int(found[1]) * _UNITS_BYTES[unit]

    least_bytes = size_bytes(minimum)

    def parse(text: str) -> int:
        value_bytes = size_bytes(text)
        if value_bytes < least_bytes:
            raise ValueError(f"{text!r} is too small")
        return value_bytes

    return ValueKind(parse, f"a size such as 512KiB, 8MiB, 1GiB, of {minimum} or more")


def count(minimum: int) -> ValueKind[int]:
    """Return the kind of whole numbers of at least *minimum*."""

    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text):
            raise ValueError(f"{text!r} is not a whole number")
        if int(text) < minimum:
            raise ValueError(f"{text!r} is too small")
        return int(text)

    return ValueKind(parse, f"a whole number of {minimum} or more")


def choice(*words: str) -> ValueKind[str]:
    """Return the kind of these *words*, in upper or lower case."""
    by_lower = {word.lower(): word for word in words}

    def parse(text: str) -> str:
        if text.lower() not in by_lower:
            raise ValueError(f"{text!r} is not one of the choices")
        return by_lower[text.lower()]

    return ValueKind(parse, f"{', '.join(words[:-1])} or {words[-1]}")


def pattern(regex: str, description: str) -> ValueKind[str]:
    """Return the kind of texts that *regex* matches fully; *description* describes them."""
    compiled = re.compile(regex)

    def parse(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(f"{text!r} does not match")
        return text

    return ValueKind(parse, description)


def _switch(text: str) -> bool:
    if text.lower() not in _SWITCHES:
        raise ValueError(f"{text!r} is neither yes nor no")
    return _SWITCHES[text.lower()]


_SWITCHES: Final[Mapping[str, bool]] = dict.fromkeys(("yes", "true", "on", "1"), True) | (
    dict.fromkeys(("no", "false", "off", "0"), False)
)
switch: Final = ValueKind(_switch, "yes or no")


def _points(text: str) -> int | Literal["auto"]:
    return "auto" if text.lower() == "auto" else count(0).parse(text)


points: Final = ValueKind(_points, "auto, or a whole number of 0 or more")


def _login(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,98}(?:\[bot\])?", text):
        raise ValueError(f"{text!r} is not a login")
    return text.lower()


login: Final = ValueKind(_login, "GitHub logins such as octocat or name[bot], by lines or commas")


def _path_pattern(text: str) -> str:
    check_path_pattern(text)
    return text


path_pattern: Final = ValueKind(
    _path_pattern,
    "paths such as /repos/*/*/releases/*, in which * is one segment, by lines or commas",
)


#: Control characters, and the surrogates of bytes in the environment that are not UTF-8.
_NOT_IN_SECRET: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def _secret(text: str) -> str:
    if _NOT_IN_SECRET.search(text):
        raise ValueError("it contains a line break or another control character")
    return text


secret: Final = ValueKind(_secret, "text on one line")


def _secrets(text: str) -> str:
    lines = [line.removesuffix("\r") for line in text.split("\n")] if "\n" in text else [text]
    return "\n".join(dict.fromkeys(_secret(line) for line in lines if line))


#: Several secrets, in the order of the text; the value has one on each line, and each once.
secrets: Final = ValueKind(_secrets, "text on one line, or one text a line: the current one first")
