"""Drives one target with atheris: ``python -m tests.fuzz.driver TARGET [options of libFuzzer]``."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["ghmirror_tw", "twisted.web.http"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Run until the time is over, or until there is a finding."""
    program, name, *options = sys.argv
    atheris.enabled_hooks.add("RegEx")
    atheris.Setup([program, *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
