"""Objects that live as long as the process, which the garbage collector can skip.

CPython has `gc.freeze` for that. PyPy collects old objects rarely, and in steps.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")


def freeze_objects() -> None:
    """Exclude all objects that exist now from garbage collection."""
    if hasattr(gc, "freeze"):
        gc.freeze()


def build_permanent(build: Callable[[], R]) -> R:
    """Return the result of *build*: some hundred thousand permanent objects.

    Collections that visit them would stop the process for a noticeable time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        built = build()
        freeze_objects()
        return built
    finally:
        if was_enabled:
            gc.enable()
