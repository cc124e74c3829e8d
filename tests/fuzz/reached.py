"""Prints the functions that the corpus calls, one a line, in a process that has nothing cached."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from tests.fuzz.targets import TARGETS, inputs


def main() -> None:
    """Replay the whole corpus, and print module and name of each function that was called."""
    called: set[tuple[str, str]] = set()

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            called.add((frame.f_globals.get("__name__", ""), frame.f_code.co_qualname))

    sys.setprofile(note)
    for name, target in TARGETS.items():
        for path in inputs(name):
            target(path.read_bytes())
    sys.setprofile(None)
    for module, function in sorted(called):
        if module.startswith("ghmirror_tw."):
            sys.stdout.write(f"{module}:{function}\n")


if __name__ == "__main__":
    main()
