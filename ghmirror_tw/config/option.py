"""One option of the configuration: its name, default, kind and help, and the text of its faults."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from attrs import field, frozen

from ghmirror_tw.config.file_kinds import read_secret
from ghmirror_tw.config.value_kinds import ValueKind, entries

#: The prefix of all environment variables.
PREFIX: Final = "GHMIRROR_"


class ConfigError(Exception):
    """The configuration cannot be used; *faults* are sentences without secrets, one a fault."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))


@frozen
class Option:
    """One option; *default* is written as in the file.

    A *secret* can also be set as ``<name>_path`` and is never shown. A *verbatim* value has no
    comments. The value of an option with *lines* may have several. An option with *many* entries
    has them by lines or commas; *collect* combines them. *reread*: when a changed value is read
    while the mirror runs; empty: at the next start.
    """

    section: str
    name: str
    default: str
    kind: ValueKind[Any]
    help: str
    secret: bool = False
    verbatim: bool = False
    lines: bool = False
    many: bool = False
    collect: Callable[[Iterable[Any]], Any] = tuple
    reread: str = ""

    @property
    def variable(self) -> str:
        """The environment variable that overrides the file."""
        return f"{PREFIX}{self.section}_{self.name}".upper()

    @property
    def expected(self) -> str:
        """A description of valid values, for messages and documentation."""
        return self.kind.expected

    def parse(self, text: str) -> Any:
        """Return the value of *text*; each argument of a `ValueError` is a fault."""
        if not self.many:
            return self.kind.parse(text)
        values, faults = [], []
        for entry in entries(text):
            try:
                values.append(self.kind.parse(entry))
            except ValueError as error:
                faults.append(str(error))
        if faults:
            raise ValueError(*faults)
        return self.collect(values)


def option(
    default: str, kind: ValueKind[Any], text: str, *, hidden: bool = False, **more: Any
) -> Any:
    """Return an attrs field with the metadata of an `Option`; *hidden* omits it from the repr."""
    metadata = {"default": default, "kind": kind, "help": text, **more}
    value = Option("", "", **metadata)
    return field(
        factory=lambda: value.parse(default),
        repr=not (hidden or value.secret),
        metadata={"option": metadata},
    )


def fault(section: str, name: str, wrong: object, expected: str, origin: str = "") -> str:
    """Return the sentence for one fault of an option; *origin* is its line or variable."""
    return f"[{section}] {name}: {wrong}; expected {expected}{origin}"


def current_secret(section: str, name: str, path: str, kind: ValueKind[str]) -> str:
    """Return the secret in the file at *path*. Raises `ConfigError`, which names the option."""
    try:
        return read_secret(path, kind)
    except ValueError as error:
        raise ConfigError([fault(section, name, error, kind.expected)]) from None
