"""Reads the INI file and the environment, and reports all faults at once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
from attrs import define, field, frozen

from ghmirror_tw.config.cross_checks import cautions, contradictions
from ghmirror_tw.config.file_kinds import without_newline
from ghmirror_tw.config.ini_file import IniFile, parse_ini, without_comment
from ghmirror_tw.config.option import PREFIX, ConfigError, fault
from ghmirror_tw.config.settings import (
    OPTIONS,
    OPTIONS_BY_KEY,
    SECTIONS,
    OptionKey,
    Settings,
)

#: The least similarity of a misspelt variable; Kubernetes makes others (GHMIRROR_SERVICE_HOST).
_SIMILAR: Final = 0.8


def read_settings(path: str | None) -> Settings:
    """Return the settings of the INI file at *path* and of this process's environment.

    Raises `ConfigError`.
    """
    return load(None if path is None else Path(path).absolute(), os.environ)


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Return the settings of the file at *path* and of *environ*, which overrides it.

    Raises `ConfigError` with all faults of both.
    """
    ini = IniFile() if path is None else _read_ini(path)
    texts = _Texts(faults=[*ini.faults])
    texts.add_file(ini, environ)
    warnings = texts.add_environment(environ)
    values = texts.parsed()
    settings = Settings(**{name: cls(**values[name]) for name, cls in SECTIONS.items()})
    texts.faults += [
        str(each) for each in contradictions(settings) if not texts.invalid.intersection(each.keys)
    ]
    if texts.faults:
        raise ConfigError(texts.faults)
    return attrs.evolve(settings, warnings=(*warnings, *cautions(settings)))


def _read_ini(path: Path) -> IniFile:
    try:
        content = path.read_bytes()
    except OSError as error:
        return IniFile(faults=[f"{path}: cannot be read ({error.strerror}); expected an INI file"])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return IniFile(faults=[f"{path}: line {line}: not UTF-8; expected an INI file"])
    ini = parse_ini(text)
    return attrs.evolve(ini, faults=[f"{path}: {each}" for each in ini.faults])


@frozen
class _OptionText:
    """The text of one option; *origin* is its line or its environment variable."""

    text: str
    origin: str


@define
class _Texts:
    """The texts of all options that are set, the faults so far, and the keys of invalid texts."""

    faults: list[str]
    texts: dict[OptionKey, _OptionText] = field(factory=dict)
    invalid: set[OptionKey] = field(factory=set)

    def add_file(self, ini: IniFile, environ: Mapping[str, str]) -> None:
        """Add the options of the file, except those that *environ* overrides."""
        for section, line in ini.sections.items():
            if section not in SECTIONS:
                hint = _hint(section, SECTIONS)
                self.faults.append(f"[{section}]: unknown section; {hint} (line {line})")
        lines: dict[OptionKey, int] = {}
        for entry in ini.entries:
            if entry.section not in SECTIONS:
                continue
            key, origin = (entry.section, entry.name), f" (line {entry.line})"
            option = OPTIONS_BY_KEY.get(key)
            if option is None:
                names = [name for section, name in OPTIONS_BY_KEY if section == entry.section]
                hint = _hint(entry.name, names)
                self.faults.append(
                    f"[{entry.section}] {entry.name}: unknown option; {hint}{origin}"
                )
            elif key in lines:
                wrong = f"already set in line {lines[key]}"
                self.faults.append(fault(*key, wrong, "one value", origin))
            elif option.variable in environ:
                pass
            elif len(entry.lines) > 1 and not (option.many or option.lines):
                wrong = "its value continues on the next line, which is indented"
                self.faults.append(fault(*key, wrong, option.expected, origin))
            elif option.verbatim:
                self.texts[key] = _OptionText("\n".join(entry.lines), origin)
            else:
                text = "\n".join(map(without_comment, entry.lines))
                self.texts[key] = _OptionText(text, origin)
            lines.setdefault(key, entry.line)

    def add_environment(self, environ: Mapping[str, str]) -> list[str]:
        """Add the options of *environ*; return warnings about variables with a similar name."""
        variables = {option.variable: option for option in OPTIONS}
        for variable, option in variables.items():
            text = environ.get(variable)
            if text is None:
                continue
            if option.verbatim:
                text = without_newline(text)
            elif not option.many:
                text = text.strip()
            origin = f" (environment variable {variable})"
            self.texts[option.section, option.name] = _OptionText(text, origin)
        return [
            f"environment variable {variable} is not an option; it is ignored"
            + _similar_variable(variable, variables)
            for variable in sorted(environ)
            if variable.startswith(PREFIX) and variable not in variables
        ]

    def parsed(self) -> dict[str, dict[str, Any]]:
        """Return the values of all valid texts by section and name."""
        values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        for key, given in self.texts.items():
            section, name = key
            option = OPTIONS_BY_KEY[key]
            try:
                values[section][name] = option.parse(given.text)
            except ValueError as error:
                self.invalid.add(key)
                self.faults += [
                    fault(*key, wrong, option.expected, given.origin) for wrong in error.args
                ]
        return values


def _similar_variable(name: str, variables: Iterable[str]) -> str:
    """Return a suggestion with the most similar variable, or nothing."""
    endings = [each.removeprefix(PREFIX) for each in variables]
    similar = difflib.get_close_matches(name.removeprefix(PREFIX), endings, 1, _SIMILAR)
    return f"; did you mean {PREFIX}{similar[0]}?" if similar else ""


def _hint(name: str, choices: Iterable[str]) -> str:
    """Return a suggestion with the most similar choice, or else a list of all choices."""
    similar = difflib.get_close_matches(name, choices, 1)
    return f"did you mean {similar[0]}?" if similar else f"expected one of {', '.join(choices)}"
