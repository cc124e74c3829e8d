"""The syntax of the INI file: sections, options that may continue on indented lines, comments."""

from __future__ import annotations

import re
from typing import Final

from attrs import field, frozen


@frozen
class IniEntry:
    """One option in a file: the lines of its value, with comments."""

    section: str
    name: str
    line: int
    lines: list[str] = field(factory=list, repr=False)


_HEADER: Final = re.compile(r"\[([^\]]*)\][ \t]*(?:[;#].*)?")
_ASSIGNMENT: Final = re.compile(r"([A-Za-z0-9_.-]+)[ \t]*=(.*)")
_COMMENT: Final = re.compile(r"(?:^|(?<=[ \t]));.*")


def without_comment(text: str) -> str:
    """Return *text* without its comment, which begins with ``;`` at the start or after space."""
    return _COMMENT.sub("", text).strip()


@frozen
class IniFile:
    """The content of an INI file: its sections with their lines, its options, and its faults."""

    sections: dict[str, int] = field(factory=dict)
    entries: list[IniEntry] = field(factory=list)
    faults: list[str] = field(factory=list)


def parse_ini(text: str) -> IniFile:
    """Parse an INI file; a line that is indented more than the option above continues its value."""
    found = IniFile()
    section: str | None = None
    depth: int | None = None
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        indent = len(raw) - len(raw.lstrip())
        if not line or line[0] in ";#":
            continue
        if depth is not None and indent > depth:
            found.entries[-1].lines.append(line)
        elif header := _HEADER.fullmatch(line):
            section, depth = header[1].strip(), None
            if section in found.sections:
                first = found.sections[section]
                found.faults.append(
                    f"line {number}: [{section}] is repeated; expected once (line {first})"
                )
            found.sections.setdefault(section, number)
        elif (assignment := _ASSIGNMENT.fullmatch(line)) is None:
            found.faults.append(
                f"line {number}: invalid syntax; expected [section] or option = value"
            )
        elif section is None:
            found.faults.append(f"line {number}: an option before any section; expected [section]")
        else:
            found.entries.append(IniEntry(section, assignment[1], number, [assignment[2].strip()]))
            depth = indent
    return found
