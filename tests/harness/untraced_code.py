"""Code that coverage does not trace."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: Coverage's settings for Python processes that a traced one starts.
_OF_PROCESSES = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")


@contextmanager
def untraced() -> Iterator[None]:
    """Trace neither this thread nor the processes that it starts.

    Tracing costs a third of the CPU time of most tests, and six sevenths of a parser's loop.
    """
    tracer = sys.gettrace()
    variables = {name: os.environ.pop(name) for name in _OF_PROCESSES if name in os.environ}
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
        os.environ.update(variables)
