"""Runs findings again: ``python -m tests.fuzz.replay FILE...``; names begin with the target."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.fuzz.targets import TARGETS


def main() -> None:
    """Run each file; the first fault ends it with its traceback."""
    for path in map(Path, sys.argv[1:]):
        known = {path.parent.name, path.name.partition("-")[0]}
        (name,) = known & set(TARGETS)
        raw = path.read_bytes()
        sys.stdout.write(f"{path}: {raw!r}\n")
        TARGETS[name](raw)


if __name__ == "__main__":
    main()
