"""Copies useful inputs of the fuzzers to the corpus: ``python -m tests.fuzz.keep [TARGET...]``.

Of all inputs in the corpus and in ``.fuzz/corpus``, those stay that together reach the most, up to
`MOST` of a target, smaller ones first. Inputs with a name of their own, such as a seed or a
finding, always stay; the others are called by their hash.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, Final

import ghmirror_tw
from tests.fuzz.__main__ import WORK
from tests.fuzz.targets import CORPUS, TARGETS

#: The most inputs without a name for each target, and the longest of them.
MOST: Final = 40
LONGEST_BYTES: Final = 1024

_PACKAGE: Final = str(Path(ghmirror_tw.__file__).parent)
_HASH: Final = re.compile(r"[0-9a-f]{16,40}")


def reached(target: str, raw: bytes) -> frozenset[Any]:
    """Return the steps from line to line, in the package, that an input makes; none for a fault.

    Each has about the number of its executions: once, twice, up to four times, up to eight times...
    """
    steps: Counter[Any] = Counter()

    def enter(frame: FrameType, _event: str, _argument: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(_PACKAGE):
            return None
        last = 0

        def go(frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal last
            steps[code, event, last, frame.f_lineno] += 1
            last = frame.f_lineno
            return go

        return go

    sys.settrace(enter)
    try:
        TARGETS[target](raw)
    except Exception:
        return frozenset()
    finally:
        sys.settrace(None)
    return frozenset((step, times.bit_length()) for step, times in steps.items())


def keep(target: str) -> tuple[int, int]:
    """Reduce the corpus of a target; return how many inputs there were and how many stay."""
    corpus = CORPUS / target
    files = [*corpus.iterdir(), *(WORK / "corpus" / target).glob("*")]
    named = {path.read_bytes() for path in files if not _HASH.fullmatch(path.name)}
    others = {path.read_bytes() for path in files} - named
    short = (raw for raw in others if len(raw) <= LONGEST_BYTES)
    inputs = sorted(short, key=lambda raw: (len(raw), raw))
    known = set[Any]().union(*(reached(target, raw) for raw in named))
    steps = {raw: reached(target, raw) for raw in inputs}
    kept: set[bytes] = set()
    while len(kept) < MOST and inputs:
        best = max(inputs, key=lambda raw: len(steps[raw] - known))
        if not steps[best] - known:
            break
        kept.add(best)
        known |= steps[best]
    for path in corpus.iterdir():
        if _HASH.fullmatch(path.name):
            path.unlink()
    for raw in kept:
        (corpus / hashlib.sha256(raw).hexdigest()[:16]).write_bytes(raw)
    return len(files), len(named) + len(kept)


def main() -> None:
    """Reduce the corpus of the targets that are named, or of all."""
    for target in sys.argv[1:] or TARGETS:
        before, after = keep(target)
        sys.stdout.write(f"{target}: {before} inputs, {after} of them stay\n")


if __name__ == "__main__":
    main()
